//! What a page of another origin asks through a browser, of a service without keys.

use axum::body::Body;
use axum::http::{Request, header};

use crate::support::training::KEYS;
use crate::support::{Reply, TestApp};

const OWN: &str = "127.0.0.1:8080";
const EVIL: &str = "https://evil.example";

/// Sends a body that no browser asks about first.
async fn sent(service: &TestApp, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "text/plain");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    service.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

/// A list, as a page or a client asks for it.
async fn models(service: &TestApp, headers: &[(&str, &str)]) -> Reply {
    sent(service, "GET", "/v1/models", headers, "").await
}

#[tokio::test]
async fn a_name_that_anybody_may_point_here_is_refused() {
    let service = TestApp::unready("");
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.example", "localhost.evil.example", ""] {
        let refused = models(&service, &[("host", host)]).await;
        assert_eq!(refused.error(), (403, "origin_not_allowed".into(), Some("Host".into())), "{host}");
        assert!(refused.message().contains("`cors-origins`"), "{}", refused.message());
    }
    // The page's own origin is that of the server then.
    let page = [("host", "evil.example:8080"), ("origin", "http://evil.example:8080")];
    assert_eq!(models(&service, &page).await.error().0, 403);
    // A target that is a whole URL says the host itself.
    let whole = sent(&service, "GET", "http://evil.example/v1/models", &[("host", OWN)], "").await;
    assert_eq!(whole.error().0, 403);
    for host in [OWN, "localhost:8080", "LOCALHOST.", "app.localhost", "[::1]:8080", "[::1]", "10.0.0.7"] {
        let reply = models(&service, &[("host", host)]).await;
        assert_eq!(reply.status, 200, "{host}: {}", reply.text());
    }
    for path in ["/livez", "/metrics", "/openapi.json", "/v2/health/live"] {
        let reply = sent(&service, "GET", path, &[("host", "evil.example")], "").await;
        assert_eq!(reply.status, 200, "{path}: monitors may know the server by any name");
    }
    assert!(service.metric("headstart_rejections_total{reason=\"unauthorised\"}").await >= 7.0);
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing_and_one_of_the_servers_own_does() {
    let service = TestApp::with_store("").await;
    let purge = r#"{"text": "what nobody said"}"#;
    for origin in [EVIL, "http://127.0.0.1:9090", "http://localhost:8080", "null"] {
        let headers = [("host", OWN), ("origin", origin)];
        let refused = sent(&service, "POST", "/v1/purges", &headers, purge).await;
        assert_eq!(refused.error(), (403, "origin_not_allowed".into(), Some("Origin".into())), "{origin}");
        for path in ["/v1/files", "/v1/models/none/unload"] {
            assert_eq!(sent(&service, "POST", path, &headers, "").await.error().0, 403, "{origin} {path}");
        }
        // The open inference protocol has errors of its own.
        let refused = sent(&service, "POST", "/v2/repository/models/none/unload", &headers, "").await;
        assert_eq!(refused.status, 403, "{origin}");
        assert!(refused.json()["error"].as_str().unwrap().contains("`Origin`"), "{}", refused.text());
    }
    let purges = async || service.get("/v1/purges").await.ok()["data"].as_array().unwrap().len();
    assert_eq!(purges().await, 0);
    let own = [("host", OWN), ("origin", "http://127.0.0.1:8080")];
    sent(&service, "POST", "/v1/purges", &own, purge).await.ok();
    // TLS may end in front.
    let own = [("host", "localhost"), ("origin", "https://localhost")];
    sent(&service, "POST", "/v1/purges", &own, purge).await.ok();
    sent(&service, "POST", "/v1/purges", &[], purge).await.ok();
    assert_eq!(purges().await, 3);
}

#[tokio::test]
async fn origins_of_the_option_may_ask_and_their_hosts_may_be_this_server() {
    let service = TestApp::unready("cors_origins = [\"https://app.example.com\"]");
    let listed = models(&service, &[("host", OWN), ("origin", "https://app.example.com")]).await;
    assert_eq!(listed.headers["access-control-allow-origin"], "https://app.example.com");
    listed.ok();
    models(&service, &[("host", "app.example.com")]).await.ok();
    assert_eq!(models(&service, &[("host", OWN), ("origin", EVIL)]).await.error().0, 403);
    assert_eq!(models(&service, &[("host", "evil.example")]).await.error().0, 403);
    let open = TestApp::unready("cors_origins = [\"*\"]");
    models(&open, &[("host", "evil.example"), ("origin", EVIL)]).await.ok();
}

#[tokio::test]
async fn a_server_on_another_address_has_any_name_and_its_own_pages_alone() {
    let service = TestApp::unready("listen = \"0.0.0.0:8080\"\nallow_unauthenticated = true");
    let host = ("host", "models.example:8080");
    models(&service, &[host]).await.ok();
    models(&service, &[host, ("origin", "http://models.example:8080")]).await.ok();
    assert_eq!(models(&service, &[host, ("origin", EVIL)]).await.error().0, 403);
}

#[tokio::test]
async fn with_a_key_neither_host_nor_origin_is_looked_at() {
    let service = TestApp::unready(KEYS);
    let page = [("host", "evil.example"), ("origin", EVIL)];
    assert_eq!(models(&service, &page).await.error().0, 401);
    let [host, origin] = page;
    models(&service, &[host, origin, ("authorization", "Bearer key-of-root")]).await.ok();
}
