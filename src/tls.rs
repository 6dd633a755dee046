//! TLS: a certificate and its key from files, read again when what they hold changes. What cannot be used changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use headstart_telemetry::{Handshake, Metrics};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// The files are looked at this often. Both are read whole: a link that is moved, as Kubernetes does with secrets, changes
/// neither a time nor a size for certain.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Largest certificate or key file, in bytes.
const LARGEST: u64 = 1 << 20;

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Read { file: PathBuf, source: std::io::Error },
    /// A file is too large to be what it should be.
    #[error("{file} is larger than {LARGEST} bytes")]
    Large { file: PathBuf },
    /// A file holds no certificate or key, or one that is damaged.
    #[error("{file} holds no {what} in PEM: {source}")]
    Pem { file: PathBuf, what: &'static str, source: PemError },
    /// The certificate file is empty.
    #[error("{file} holds no certificate")]
    Empty { file: PathBuf },
    /// The two do not go together, or rustls does not take them.
    #[error("certificate and key cannot be used: {0}")]
    Refused(#[from] rustls::Error),
}

/// Where certificate and key are, and what they were when last read.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// What was read at the start.
    first: [u8; 32],
    config: RwLock<Arc<ServerConfig>>,
    metrics: Arc<Metrics>,
}

/// The bytes of both files.
struct Read {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Read {
    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((self.certificate.len() as u64).to_le_bytes());
        hash.update(&self.certificate);
        hash.update(&self.key);
        hash.finalize().into()
    }
}

impl Tls {
    /// Reads both files. Blocking, briefly.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn load(certificate: &Path, key: &Path, metrics: &Arc<Metrics>) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let found = read(&certificate, &key)?;
        let config = RwLock::new(Arc::new(configured(&certificate, &key, &found)?));
        Ok(Self { certificate, key, first: found.digest(), config, metrics: Arc::clone(metrics) })
    }

    /// Agrees on keys with a client; `None` when that fails or takes too long, which is the client's business.
    pub(crate) async fn accept<S>(&self, stream: S) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let agreed = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await;
        let (stream, outcome) = match agreed {
            Ok(Ok(stream)) => (Some(stream), Handshake::Agreed),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                (None, Handshake::Failed)
            }
            Err(_) => (None, Handshake::TooSlow),
        };
        self.metrics.edges.count_handshake(outcome);
        stream
    }

    /// Reads the files again whenever they change.
    pub(crate) fn follow(self: &Arc<Self>) -> JoinHandle<()> {
        let tls = Arc::clone(self);
        tokio::spawn(async move {
            let mut seen = Seen::Bytes(tls.first);
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let looking = Arc::clone(&tls);
                let looked = tokio::task::spawn_blocking(move || looking.look(seen));
                let Ok(now) = looked.await else { return };
                seen = now;
            }
        })
    }

    /// Takes what the files hold unless it was `seen` already: what is seen now. A failure is told once. Blocking.
    fn look(&self, seen: Seen) -> Seen {
        let found = read(&self.certificate, &self.key);
        let now = match &found {
            Ok(read) => Seen::Bytes(read.digest()),
            Err(error) => Seen::Unreadable(error.to_string()),
        };
        if seen != now {
            self.take(found.and_then(|read| configured(&self.certificate, &self.key, &read)));
        }
        now
    }

    fn take(&self, made: Result<ServerConfig, TlsError>) {
        self.metrics.edges.count_tls_reload(made.is_ok());
        match made {
            Ok(config) => {
                *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                tracing::info!("the TLS certificate has changed: new connections get the new one");
            }
            Err(error) => {
                tracing::error!(%error, "the TLS certificate has changed and cannot be used: the old one stays")
            }
        }
    }
}

/// What a look found.
#[derive(PartialEq, Eq)]
enum Seen {
    Bytes([u8; 32]),
    Unreadable(String),
}

fn read(certificate: &Path, key: &Path) -> Result<Read, TlsError> {
    let whole = |file: &Path| -> Result<Vec<u8>, TlsError> {
        let failed = |source| TlsError::Read { file: file.to_owned(), source };
        if std::fs::metadata(file).map_err(failed)?.len() > LARGEST {
            return Err(TlsError::Large { file: file.to_owned() });
        }
        std::fs::read(file).map_err(failed)
    };
    Ok(Read { certificate: whole(certificate)?, key: whole(key)? })
}

fn configured(certificate: &Path, key: &Path, read: &Read) -> Result<ServerConfig, TlsError> {
    let bad = |file: &Path, what| {
        let file = file.to_owned();
        move |source| TlsError::Pem { file, what, source }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read.certificate).collect();
    let chain = chain.map_err(bad(certificate, "certificate"))?;
    if chain.is_empty() {
        return Err(TlsError::Empty { file: certificate.to_owned() });
    }
    let private = PrivateKeyDer::from_pem_slice(&read.key).map_err(bad(key, "private key"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
