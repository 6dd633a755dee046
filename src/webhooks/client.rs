//! One POST, of a webhook or of traces: a connection of its own, TLS by the system's certificates, an end to all waiting. There is nothing here that
//! could follow a redirect, ask a proxy or keep a cookie.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::hosts::Target;

/// How long a connection may take, and the whole of it.
const CONNECT: Duration = Duration::from_secs(5);
pub(super) const WHOLE: Duration = Duration::from_secs(10);
/// How much of an answer is read, and for how long, so that the receiver can end it in peace. Nobody looks at it.
const ANSWER: (usize, Duration) = (64 * 1024, Duration::from_secs(1));

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    #[error("no connection within {} s", CONNECT.as_secs())]
    ConnectTimeout,
    #[error("no TLS: {0}")]
    Tls(#[source] std::io::Error),
    #[error("no name for TLS: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("no request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("no answer within {} s", WHOLE.as_secs())]
    Timeout,
}

/// Who posts.
pub(crate) struct Client {
    tls: TlsConnector,
}

impl Client {
    /// Reads the system's certificates. Blocking, briefly.
    ///
    /// # Errors
    /// When TLS has no protocol version to offer.
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            tracing::warn!("the system has no certificates: nothing can be sent to https://");
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Posts a body, whose type is among the headers; the answer's status.
    pub(crate) async fn post(
        &self,
        target: &Target,
        headers: &[(&str, String)],
        body: impl Into<Bytes>,
    ) -> Result<u16, SendError> {
        let mut request = Request::post(&target.path)
            .header(header::HOST, &target.authority)
            .header(header::USER_AGENT, concat!("headstart/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body.into()))?;
        timeout(WHOLE, self.exchange(target, request)).await.map_err(|_| SendError::Timeout)?
    }

    async fn exchange(&self, target: &Target, request: Request<Full<Bytes>>) -> Result<u16, SendError> {
        let connecting = TcpStream::connect((target.host.as_str(), target.port));
        let connected = timeout(CONNECT, connecting).await.map_err(|_| SendError::ConnectTimeout)?;
        let stream = connected.map_err(SendError::Connect)?;
        if !target.tls {
            return answered(TokioIo::new(stream), request).await;
        }
        let name = ServerName::try_from(target.host.clone())?;
        let stream = self.tls.connect(name, stream).await.map_err(SendError::Tls)?;
        answered(TokioIo::new(stream), request).await
    }
}

async fn answered<S>(stream: S, request: Request<Full<Bytes>>) -> Result<u16, SendError>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    // Ends with this function, whichever way that ends.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let response: Response<Incoming> = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let _ = timeout(ANSWER.1, Limited::new(response.into_body(), ANSWER.0).collect()).await;
    Ok(status)
}
