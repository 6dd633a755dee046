//! Bodies that are wrong, routes that are not there: always the error object, never a crash.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;

use crate::support::{TEXT, TestApp};

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_as_such() {
    let service = TestApp::shared();
    for body in ["", "{", "nonsense", "{\"model\": NaN}", "[]", "null"] {
        let reply = service.post_text("/v1/embeddings", body).await;
        assert_eq!(reply.error().0, 400, "{body}");
        assert_eq!(reply.error().1, "invalid_json", "{body}: {}", reply.text());
    }
    let trailing = format!("{{\"model\": \"{TEXT}\", \"input\": \"a\"}} x");
    assert_eq!(service.post_text("/v1/embeddings", &trailing).await.error().1, "invalid_json");
}

#[tokio::test]
async fn json_nested_without_end_is_refused() {
    for deep in ["[".repeat(10_000), format!("{{\"model\": \"{TEXT}\", \"input\": {}", "[".repeat(10_000))] {
        let reply = TestApp::shared().post_text("/v1/embeddings", &deep).await;
        assert_eq!(reply.error().0, 400, "{}", reply.text());
    }
    let unknown = format!(
        "{{\"model\": \"{TEXT}\", \"input\": \"a\", \"x\": {}1{}}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert_eq!(TestApp::shared().post_text("/v1/embeddings", &unknown).await.error().0, 400);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_stated_or_not() {
    let service = TestApp::start("max_body_bytes = 1000");
    let body = json!({"model": TEXT, "input": "x".repeat(2000)});
    assert_eq!(service.post("/v1/embeddings", &body).await.error(), (413, "body_too_large".into(), None));
    let chunks = futures_util::stream::iter((0..10).map(|_| Ok::<_, std::io::Error>(vec![b' '; 200])));
    let reply = service.post_bytes("/v1/embeddings", "application/json", Body::from_stream(chunks)).await;
    assert_eq!(reply.error().0, 413);
    assert!(service.metric("headstart_rejections_total{reason=\"body_too_large\"}").await >= 2.0);
}

#[tokio::test]
async fn more_items_than_allowed_are_refused_before_any_work() {
    let service = TestApp::start("max_items = 2\nqueue_items = 2");
    let reply = service.post("/v1/embeddings", &json!({"model": TEXT, "input": ["a", "b", "c"]})).await;
    assert_eq!(reply.error(), (400, "too_many_items".into(), None));
    assert!(reply.message().contains('3') && reply.message().contains('2'));
    service.post("/v1/embeddings", &json!({"model": TEXT, "input": ["a", "b"]})).await.ok();
}

#[tokio::test]
async fn an_unknown_content_type_is_refused_and_curls_default_is_taken() {
    let service = TestApp::shared();
    let body = json!({"model": TEXT, "input": "a"}).to_string();
    let reply = service.post_bytes("/v1/embeddings", "application/xml", "<a/>").await;
    assert_eq!(reply.error(), (415, "unsupported_media_type".into(), None));
    service.post_bytes("/v1/embeddings", "application/x-www-form-urlencoded", body.clone()).await.ok();
    service.post_bytes("/v1/embeddings", "application/json; charset=utf-8", body).await.ok();
}

#[tokio::test]
async fn unknown_routes_and_methods_get_the_error_object() {
    let service = TestApp::shared();
    assert_eq!(service.get("/v1/nothing").await.error(), (404, "not_found".into(), None));
    let reply = service.get("/v1/embeddings").await;
    assert_eq!(reply.error(), (405, "method_not_allowed".into(), None));
    assert_eq!(reply.headers["allow"], "POST");
}

#[tokio::test]
async fn a_request_id_is_kept_or_given() {
    let service = TestApp::shared();
    let given = Request::get("/v1/nothing").header("x-request-id", "my-id-1").body(Body::empty()).unwrap();
    assert_eq!(service.send(given).await.json()["error"]["request_id"], "my-id-1");
    let hostile = Request::get("/livez").header("x-request-id", "a\"b").body(Body::empty()).unwrap();
    let reply = service.send(hostile).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_ne!(reply.headers["x-request-id"], "a\"b");
}

#[tokio::test]
async fn a_timeout_header_that_is_no_number_is_named() {
    let service = TestApp::shared();
    let request = Request::post("/v1/embeddings")
        .header("content-type", "application/json")
        .header("x-request-timeout-ms", "soon")
        .body(Body::from(json!({"model": TEXT, "input": "a"}).to_string()))
        .unwrap();
    assert_eq!(
        service.send(request).await.error(),
        (400, "invalid_value".into(), Some("X-Request-Timeout-Ms".into()))
    );
}
