//! Pages of other origins where no key is asked for: the browser that opened one reaches this server in its user's place, and
//! nothing but `Host` and `Origin` shows who asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri, header};

use crate::config::Config;
use crate::http::error::ApiError;

/// The header that gives a page away, with what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreign<'a> {
    /// A name that its owner may have pointed here: then the page has the server's own origin.
    Host(&'a str),
    /// An origin that is not the server's own.
    Origin(&'a str),
}

/// Refuses what pages ask that `cors-origins` does not list.
pub(crate) fn refuse(config: &Config, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let said = |name: HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let (host, origin) = (said(header::HOST), said(header::ORIGIN));
    // A target that is a whole URL, or comes over HTTP/2, has the host in itself.
    let host = uri.authority().map(Authority::as_str).or(host.as_deref());
    check(config.listen.ip(), &config.cors_origins, host, origin.as_deref()).map_err(
        |foreign| match foreign {
            Foreign::Host(host) => {
                let answered =
                    "without keys only localhost, addresses and hosts of `cors-origins` are answered";
                ApiError::foreign_page("Host", format!("`Host` is `{host}`: {answered}"))
            }
            Foreign::Origin(origin) => {
                let answered = "without keys only pages of this server and of `cors-origins` may ask";
                ApiError::foreign_page("Origin", format!("`Origin` is `{origin}`: {answered}"))
            }
        },
    )
}

/// What gives a page away that may not ask a server on this address.
fn check<'a>(
    listen: IpAddr,
    listed: &[String],
    host: Option<&'a str>,
    origin: Option<&'a str>,
) -> Result<(), Foreign<'a>> {
    if listed.iter().any(|listed| listed == "*") {
        return Ok(());
    }
    // Elsewhere the server may have any name.
    if let Some(host) = host.filter(|&host| listen.to_canonical().is_loopback() && !is_safe(host, listed)) {
        return Err(Foreign::Host(host));
    }
    let is_listed = |origin: &str| listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin));
    match origin.filter(|&origin| !is_own(origin, host) && !is_listed(origin)) {
        Some(origin) => Err(Foreign::Origin(origin)),
        None => Ok(()),
    }
}

/// Whether nobody can point this host somewhere else, or `cors-origins` has it.
fn is_safe(host: &str, listed: &[String]) -> bool {
    let Some(Named { host, .. }) = Named::of(host) else { return false };
    let is_listed = |listed: &String| Named::of_origin(listed).is_some_and(|(listed, _)| listed.host == host);
    // Browsers look up none of these names.
    let is_local = host == "localhost" || host.ends_with(".localhost");
    is_local || is_address(&host) || listed.iter().any(is_listed)
}

fn is_address(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

/// Whether a page came from where its request goes. A proxy may have ended TLS between: the scheme says nothing.
fn is_own(origin: &str, host: Option<&str>) -> bool {
    let (Some((origin, usual)), Some(host)) = (Named::of_origin(origin), host.and_then(Named::of)) else {
        return false;
    };
    origin.host == host.host && origin.port.unwrap_or(usual) == host.port.unwrap_or(usual)
}

/// A host in one spelling, and the port where one stands there.
struct Named {
    host: String,
    port: Option<u16>,
}

impl Named {
    fn of(authority: &str) -> Option<Self> {
        let authority: Authority = authority.parse().ok()?;
        let (host, port) = (authority.host(), authority.port_u16());
        if port.is_none() && !authority.as_str().ends_with(host) {
            // What stands behind the colon is no port.
            return None;
        }
        Some(Self { host: host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(), port })
    }

    /// What an origin names, and the port that its scheme means where none stands there.
    fn of_origin(origin: &str) -> Option<(Self, u16)> {
        let (scheme, authority) = origin.split_once("://")?;
        let usual = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some((Self::of(authority)?, usual))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const OWN: &str = "127.0.0.1:8080";

    fn listed(origins: &[&str]) -> Vec<String> {
        origins.iter().map(|origin| (*origin).to_owned()).collect()
    }

    #[test]
    fn a_host_is_localhost_or_an_address_however_it_is_spelt() {
        for host in [
            "localhost",
            "localhost:8080",
            "LocalHost.:8080",
            "app.localhost:1",
            "127.0.0.1",
            "127.0.0.1.",
            "10.0.0.7:80",
            "[::1]",
            "[::1]:8080",
            "[2001:DB8::7]:80",
        ] {
            assert_eq!(check(HERE, &[], Some(host), None), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "EVIL.example.:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8080",
            "notlocalhost",
            "localhost:port",
            "localhost@evil.example",
            "1.2.3",
            "[::1",
            "[evil.example]",
            "::1",
            "two words",
            "",
        ] {
            assert_eq!(check(HERE, &[], Some(host), None), Err(Foreign::Host(host)), "{host}");
        }
        assert_eq!(check(HERE, &[], None, None), Ok(()));
    }

    #[test]
    fn names_are_looked_at_on_loopback_addresses_alone() {
        let name = Some("models.example");
        let answered = |listen: &str| check(listen.parse().unwrap(), &[], name, None).is_ok();
        for listen in ["0.0.0.0", "192.168.1.7", "::"] {
            assert!(answered(listen), "{listen}");
        }
        for listen in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(!answered(listen), "{listen}");
        }
    }

    #[test]
    fn an_origin_is_own_by_host_and_port_whatever_its_scheme() {
        for (origin, host) in [
            ("http://127.0.0.1:8080", OWN),
            ("https://127.0.0.1:8080", OWN),
            ("HTTP://LOCALHOST:8080", "localhost.:8080"),
            ("http://localhost", "localhost:80"),
            ("http://localhost:80", "localhost"),
            ("https://localhost", "localhost"),
            ("https://localhost:443", "localhost"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert_eq!(check(HERE, &[], Some(host), Some(origin)), Ok(()), "{origin} at {host}");
        }
        for origin in [
            "https://evil.example",
            "http://127.0.0.1",
            "http://127.0.0.1:9090",
            "http://localhost:8080",
            "http://127.0.0.1:8080.evil.example",
            "chrome-extension://127.0.0.1:8080",
            "127.0.0.1:8080",
            "null",
            "",
        ] {
            for host in [Some(OWN), None] {
                assert_eq!(check(HERE, &[], host, Some(origin)), Err(Foreign::Origin(origin)), "{origin}");
            }
        }
        let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let page = Some("https://evil.example");
        assert!(check(anywhere, &[], Some("models.example"), page).is_err(), "on every address");
        assert!(check(anywhere, &[], Some("models.example"), Some("https://models.example")).is_ok());
    }

    #[test]
    fn what_cors_origins_lists_may_ask_and_is_a_name_of_this_server() {
        let listed_ones = listed(&["https://app.example.com", "http://models.internal:8080"]);
        for origin in ["https://app.example.com", "https://APP.example.com", "http://models.internal:8080"] {
            assert_eq!(check(HERE, &listed_ones, Some(OWN), Some(origin)), Ok(()), "{origin}");
        }
        for origin in ["http://app.example.com", "https://app.example.com:8443", "http://models.internal"] {
            let foreign = Err(Foreign::Origin(origin));
            assert_eq!(check(HERE, &listed_ones, Some(OWN), Some(origin)), foreign);
        }
        for host in ["app.example.com", "models.internal", "Models.Internal.:9000"] {
            assert_eq!(check(HERE, &listed_ones, Some(host), None), Ok(()), "{host}");
        }
        assert!(check(HERE, &listed_ones, Some("example.com"), None).is_err());
        let all = listed(&["*"]);
        assert_eq!(check(HERE, &all, Some("evil.example"), Some("null")), Ok(()));
    }
}
