//! Where webhooks may go: hosts that the operator names, and the URLs that lead there.

use std::net::IpAddr;

use hyper::Uri;
use hyper::http::uri::Authority;
use serde::{Serialize, Serializer};

/// Longest URL in characters.
const URL: usize = 2048;

/// Why an entry of the list cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a host, or a host and a port, such as hooks.example.com or 10.0.0.7:8443")]
pub struct HostError(String);

/// Why a URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It has another form, or more characters.
    #[error("is not an https:// URL of at most {URL} characters without user and fragment")]
    Form,
    /// What is sent could be read and changed on its way.
    #[error("is an http:// URL; only loopback hosts are told without TLS")]
    Plain,
    /// The operator does not allow it.
    #[error("names the host `{0}`, which is not among those that may be told")]
    Host(String),
}

/// A host, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    /// In small letters; an IPv6 address has its brackets.
    name: String,
    /// `None` for the one that the scheme implies.
    port: Option<u16>,
}

/// Hosts that may be told.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Vec<Host>);

/// What a URL of an allowed host says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host's name or address, as sockets want it.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// Whether TLS is spoken.
    pub(super) tls: bool,
    /// Host and port as they stand in the URL.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

impl Target {
    /// A target that no list decides on: the operator names it.
    pub(crate) fn new((host, port): (&str, u16), tls: bool, authority: &str, path: &str) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { host, port, tls, authority: authority.to_owned(), path: path.to_owned() }
    }
}

impl Host {
    /// `None` unless the text is a host with or without a port, and nothing else.
    fn of(authority: &Authority) -> Option<Self> {
        let name = authority.host().to_ascii_lowercase();
        let port = authority.port_u16();
        // A user, or a port beyond the last one, would be passed over in silence.
        let whole = port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        let odd = name.is_empty() || name.contains(['*', '%']) || port == Some(0);
        (!odd && whole == authority.as_str().to_ascii_lowercase()).then_some(Self { name, port })
    }
}

impl Hosts {
    /// Reads entries `host` or `host:port`; an empty variable has an empty one, which stands for none.
    ///
    /// # Errors
    /// [`HostError`] naming the entry.
    pub fn parse(entries: &[String]) -> Result<Self, HostError> {
        let parse = |entry: &String| {
            let authority: Option<Authority> = entry.trim().parse().ok();
            authority.as_ref().and_then(Host::of).ok_or_else(|| HostError(entry.clone()))
        };
        entries.iter().filter(|entry| !entry.trim().is_empty()).map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether nobody may be told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a URL says, if it leads to one of the hosts. The one reading of the URL is also what is connected to.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn target(&self, url: &str) -> Result<Target, UrlError> {
        let printable = url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\');
        if url.len() > URL || !printable {
            return Err(UrlError::Form);
        }
        let uri: Uri = url.parse().map_err(|_| UrlError::Form)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(UrlError::Form),
        };
        let authority = uri.authority().ok_or(UrlError::Form)?;
        let host = Host::of(authority).ok_or(UrlError::Form)?;
        let implied = if tls { 443 } else { 80 };
        let port = host.port.unwrap_or(implied);
        let allows = |allowed: &Host| allowed.name == host.name && allowed.port.unwrap_or(implied) == port;
        if !self.0.iter().any(allows) {
            return Err(UrlError::Host(authority.as_str().to_owned()));
        }
        let name = host.name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let address: Option<IpAddr> = name.parse().ok();
        if !tls && name != "localhost" && !address.is_some_and(|address| address.is_loopback()) {
            return Err(UrlError::Plain);
        }
        let path = uri.path_and_query().map_or_else(|| "/".to_owned(), |path| path.as_str().to_owned());
        Ok(Target { host: name, port, tls, authority: authority.as_str().to_owned(), path })
    }
}

impl Serialize for Hosts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|host| match host.port {
            Some(port) => format!("{}:{port}", host.name),
            None => host.name.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(list: &[&str]) -> Hosts {
        Hosts::parse(&list.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_url_leads_to_a_host_of_the_list_and_to_its_port_alone() {
        let hosts =
            hosts(&["Hooks.example.com", "b.example.com:8443", "127.0.0.1:9000", "[::1]:9000", "localhost"]);
        let target = hosts.target("https://hooks.EXAMPLE.com/a/b?c=d").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.tls), ("hooks.example.com", 443, true));
        assert_eq!(target.path, "/a/b?c=d");
        assert_eq!(hosts.target("https://hooks.example.com:443").unwrap().path, "/");
        assert_eq!(hosts.target("https://b.example.com:8443/").unwrap().port, 8443);
        assert_eq!(hosts.target("http://127.0.0.1:9000/").unwrap().host, "127.0.0.1");
        assert_eq!(hosts.target("http://[::1]:9000/").unwrap().host, "::1");
        assert_eq!(hosts.target("http://localhost/").unwrap().port, 80);
        for url in [
            "https://hooks.example.com:8443/",
            "https://b.example.com/",
            "https://b.example.com:443/",
            "https://hooks.example.com./",
            "https://x.hooks.example.com/",
            "https://hooks.example.com.evil.org/",
            "https://evil.org/hooks.example.com",
            "https://evil.org/?https://hooks.example.com",
            "http://127.0.0.1:9001/",
            "http://localhost:443/",
        ] {
            assert!(matches!(hosts.target(url), Err(UrlError::Host(_))), "{url}");
        }
        assert!(matches!(Hosts::default().target("https://hooks.example.com/"), Err(UrlError::Host(_))));
    }

    #[test]
    fn other_machines_are_told_by_tls_alone() {
        let hosts = hosts(&["hooks.example.com", "10.0.0.7", "localhost.example.com", "127.1"]);
        for url in [
            "http://hooks.example.com/",
            "http://10.0.0.7/",
            "http://localhost.example.com/",
            "http://127.1/",
        ] {
            assert_eq!(hosts.target(url), Err(UrlError::Plain), "{url}");
        }
        assert!(hosts.target("https://10.0.0.7/").is_ok());
    }

    #[test]
    fn a_url_of_another_form_is_refused_whoever_its_host_is() {
        let hosts = hosts(&["hooks.example.com"]);
        let long = format!("https://hooks.example.com/{}", "x".repeat(URL));
        for url in [
            "",
            "hooks.example.com",
            "/path",
            "//hooks.example.com/",
            "ftp://hooks.example.com/",
            "file:///etc/passwd",
            "https:///path",
            "https://user@hooks.example.com/",
            "https://user:secret@hooks.example.com/",
            "https://evil.org@hooks.example.com/",
            "https://hooks.example.com:99999/",
            "https://hooks.example.com:0/",
            "https://hooks.example.com:/",
            "https://hooks.example.com/#fragment",
            "https://hooks.example.com\\@evil.org/",
            "https://hooks.example.com/ x",
            "https://hooks.example.com/\r\nx-injected: 1",
            "https://höoks.example.com/",
            &long,
        ] {
            assert_eq!(hosts.target(url), Err(UrlError::Form), "{url}");
        }
    }

    #[test]
    fn an_entry_that_is_no_host_is_named() {
        assert!(Hosts::parse(&[String::new()]).unwrap().is_empty());
        for entry in
            ["https://hooks.example.com", "a@b", "host:99999", "host:0", "host/path", "*.example.com", "a b"]
        {
            let refused = Hosts::parse(&[entry.to_owned()]).unwrap_err().to_string();
            assert!(refused.contains(&format!("`{entry}`")), "{refused}");
        }
    }
}
