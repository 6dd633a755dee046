//! The hub's REST API as far as a pull needs it: what a repository holds at a revision, and one file from some byte on.
//!
//! Redirects are followed here and not by the client: what a file is is said by the first answer, bytes come from the
//! last, and the token is the endpoint's alone.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_rustls::rustls::crypto::ring;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::answers::{Listing, Remote, content_range, digest, follow};
use super::refusal::{HubError, shown};

/// How long a connection may take, an answer to begin, and a body to say nothing.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(30);

/// Most redirects of one request.
const HOPS: usize = 5;

/// Largest listing of a repository in bytes, and most of an error's body that is read.
const LISTING: u64 = 16 << 20;
const ERROR: u64 = 4096;

/// What stands in a part of a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A file's bytes, from some byte on.
pub(super) struct Bytes {
    /// The first byte's place: the one asked for, or 0 where the other side cannot begin in the middle.
    pub(super) from: u64,
    /// What the answer says of the whole file.
    pub(super) of: Remote,
    /// The bytes.
    pub(super) reader: Box<dyn Read>,
}

/// A hub that is asked.
pub(super) struct Hub {
    agent: Agent,
    endpoint: Uri,
    token: Option<String>,
}

impl Hub {
    /// Reads the system's certificates; connects to nothing yet.
    ///
    /// # Errors
    /// [`HubError::Endpoint`] and [`HubError::Plain`].
    pub(super) fn new(endpoint: &str, token: Option<String>) -> Result<Self, HubError> {
        let bad = || HubError::Endpoint(endpoint.to_owned());
        let uri: Uri = endpoint.trim_end_matches('/').parse().map_err(|_| bad())?;
        let host = uri.host().ok_or_else(bad)?;
        let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if token.is_none() || local => {}
            Some("http") => return Err(HubError::Plain(endpoint.to_owned())),
            Some(_) | None => return Err(bad()),
        }
        if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(bad());
        }
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots: RootCerts = roots.iter().map(|cert| Certificate::from_der(cert).to_owned()).into();
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
        let agent = Agent::config_builder()
            .tls_config(tls.build())
            .user_agent(concat!("headstart/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(SILENCE))
            .build();
        Ok(Self { agent: agent.into(), endpoint: uri, token })
    }

    /// What a repository holds at a revision.
    ///
    /// # Errors
    /// [`HubError`].
    pub(super) fn listing(&self, repository: &str, revision: &str) -> Result<Listing, HubError> {
        let path = format!("/api/models/{repository}/revision/{}?blobs=true", encoded(revision));
        let (_, answer) = self.get(&path, None, repository)?;
        if answer.status().as_u16() != 200 {
            return Err(refused(answer, repository));
        }
        let text = answer.into_body().into_with_config().limit(LISTING).read_to_vec()?;
        Listing::read(&text).map_err(HubError::Listing)
    }

    /// A file of a commit, from a byte on if the other side can.
    ///
    /// # Errors
    /// [`HubError`].
    pub(super) fn file(
        &self,
        repository: &str,
        commit: &str,
        file: &str,
        from: u64,
    ) -> Result<Bytes, HubError> {
        let parts: Vec<String> = file.split('/').map(encoded).collect();
        let path = format!("/{repository}/resolve/{commit}/{}", parts.join("/"));
        let (first, answer) = self.get(&path, (from > 0).then_some(from), repository)?;
        let other = header(&first, "x-repo-commit").is_some_and(|said| said != commit);
        if other {
            return Err(HubError::OtherCommit);
        }
        let linked = Remote {
            size: header(&first, "x-linked-size").and_then(|size| size.parse().ok()),
            sha256: header(&first, "x-linked-etag").and_then(digest),
        };
        let length = header(answer.headers(), "content-length").and_then(|length| length.parse::<u64>().ok());
        let (starts, size) = match answer.status().as_u16() {
            200 => (0, length),
            206 => {
                let range = header(answer.headers(), "content-range").and_then(content_range);
                range.ok_or(HubError::Range)?
            }
            _ => return Err(refused(answer, repository)),
        };
        if starts != 0 && starts != from {
            return Err(HubError::Range);
        }
        let of = Remote { size: linked.size.or(size), ..linked };
        Ok(Bytes { from: starts, of, reader: Box::new(answer.into_body().into_reader()) })
    }

    /// Asks, and follows where it is sent; the first answer's headers, and the last answer.
    fn get(
        &self,
        path: &str,
        from: Option<u64>,
        repository: &str,
    ) -> Result<(HeaderMap, Response<Body>), HubError> {
        let mut at: Uri = format!("{}{path}", self.endpoint.to_string().trim_end_matches('/'))
            .parse()
            .map_err(|_| HubError::Endpoint(self.endpoint.to_string()))?;
        let mut first = None;
        for _ in 0..=HOPS {
            let mut request = self.agent.get(&at).header("accept-encoding", "identity");
            if let Some(from) = from {
                request = request.header("range", format!("bytes={from}-"));
            }
            let own = at.scheme() == self.endpoint.scheme() && at.authority() == self.endpoint.authority();
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = request.call()?;
            let redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let headers = first.get_or_insert_with(|| answer.headers().clone());
            if !redirect {
                return Ok((std::mem::take(headers), answer));
            }
            at = header(answer.headers(), "location")
                .and_then(|location| follow(&at, location))
                .ok_or_else(|| HubError::Redirect(repository.to_owned()))?;
        }
        Err(HubError::Redirect(repository.to_owned()))
    }
}

/// What the hub said instead of what it was asked for.
fn refused(answer: Response<Body>, repository: &str) -> HubError {
    let status = answer.status().as_u16();
    let after = header(answer.headers(), "retry-after").and_then(|after| after.parse().ok());
    let said = header(answer.headers(), "x-error-message").map(shown);
    let code = header(answer.headers(), "x-error-code").unwrap_or_default().to_owned();
    // Read on so that the connection can be used again.
    let _ = std::io::copy(&mut answer.into_body().into_reader().take(ERROR), &mut std::io::sink());
    HubError::Refused { repository: repository.to_owned(), status, code, said, after }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn encoded(part: &str) -> String {
    utf8_percent_encode(part, PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_sent_without_tls() {
        let token = || Some("hf_a".to_owned());
        assert!(matches!(Hub::new("http://hub.example", token()), Err(HubError::Plain(_))));
        assert!(
            Hub::new("http://hub.example", None).is_ok() && Hub::new("http://127.0.0.1:9", token()).is_ok()
        );
        for endpoint in
            ["hub.example", "ftp://hub.example", "https://user@hub.example", "https://hub.example/?a=b", ""]
        {
            assert!(matches!(Hub::new(endpoint, None), Err(HubError::Endpoint(_))), "{endpoint}");
        }
    }
}
