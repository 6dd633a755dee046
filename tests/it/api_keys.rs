//! Keys and scopes.

use axum::body::Body;
use axum::http::Request;

use crate::support::{Reply, TestApp};

async fn models(service: &TestApp, authorization: Option<&str>) -> Reply {
    let mut request = Request::get("/v1/models");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    service.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_key_opens_what_its_scopes_allow_and_nothing_else() {
    let service =
        TestApp::unready("api_keys = \"app:infer:key-of-app,job:train:key-of-job,ops:admin:key-of-ops\"");
    assert_eq!(models(&service, None).await.error().0, 401);
    let unknown = models(&service, Some("Bearer nobody-knows")).await;
    assert_eq!(unknown.error(), (401, "invalid_api_key".into(), None));
    assert_eq!(unknown.headers["www-authenticate"], "Bearer");
    assert_eq!(models(&service, Some("Basic key-of-app")).await.error().0, 401);
    assert_eq!(
        models(&service, Some("Bearer key-of-job")).await.error(),
        (403, "insufficient_scope".into(), None)
    );
    models(&service, Some("Bearer key-of-app")).await.ok();
    models(&service, Some("bearer key-of-ops")).await.ok();
    assert!(service.metric("headstart_rejections_total{reason=\"unauthorised\"}").await >= 4.0);
}

#[tokio::test]
async fn probes_metrics_and_pages_need_no_key() {
    let service = TestApp::unready("api_keys = \"app:infer:key-of-app\"");
    for path in ["/livez", "/metrics", "/openapi.json", "/docs/"] {
        assert_eq!(service.get(path).await.status.as_u16(), 200, "{path}");
    }
}
