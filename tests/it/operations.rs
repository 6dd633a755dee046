//! Probes, metrics, pages, and the documents that must stay true.

use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::support::{TEXT, TestApp};

#[tokio::test]
async fn a_server_that_is_not_ready_says_so_and_refuses_work() {
    let service = TestApp::unready("");
    assert_eq!(service.get("/livez").await.status, 200);
    let reply = service.get("/readyz").await;
    assert_eq!(reply.error(), (503, "not_ready".into(), None));
    let reply = service.post("/v1/embeddings", &json!({"model": TEXT, "input": "a"})).await;
    assert_eq!(reply.error(), (503, "not_ready".into(), None));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(service.metric("headstart_ready").await, 0.0);
}

#[tokio::test]
async fn every_series_of_a_loaded_server_is_there_before_its_first_request() {
    let service = TestApp::start("");
    let text = service.get("/metrics").await.text();
    for series in [
        "headstart_requests_total{method=\"POST\",route=\"/v1/embeddings\",status=\"200\"} 0".to_owned(),
        format!("headstart_queue_wait_seconds_count{{model=\"{TEXT}\"}} 0"),
        format!("headstart_items_total{{model=\"{TEXT}\",outcome=\"answered\"}} 0"),
        format!("headstart_model_loaded{{model=\"{TEXT}\"}} 1"),
        "headstart_cache_misses_total{cache=\"labels\"} 0".to_owned(),
        "headstart_panics_total 0".to_owned(),
        "headstart_lanes_busy 0".to_owned(),
        "headstart_ready 1".to_owned(),
    ] {
        assert!(text.contains(&series), "{series} is missing");
    }
}

#[tokio::test]
async fn the_pages_work_without_the_internet() {
    let service = TestApp::unready("");
    let page = service.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("https://"), "{}", page.text());
    let script = service.get("/docs/swagger-ui-bundle.js").await;
    assert!(script.status == 200 && script.body.len() > 100_000);
}

#[tokio::test]
async fn the_document_describes_every_route_and_each_route_answers() {
    let service = TestApp::shared();
    let document = service.get("/openapi.json").await.ok();
    let committed =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json")).unwrap();
    assert_eq!(document, serde_json::from_str::<Value>(&committed).unwrap(), "`make openapi` mends it");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path.replace("{id}", TEXT).replace("{model}", TEXT);
            let example = &operation["requestBody"]["content"]["application/json"]["example"];
            let request = Request::builder().method(method.to_uppercase().as_str()).uri(&path);
            let request =
                request.header("content-type", "application/json").body(Body::from(example.to_string()));
            let reply = service.send(request.unwrap()).await;
            assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn answers_say_where_their_time_went() {
    let reply = TestApp::shared().post("/v1/embeddings", &json!({"model": TEXT, "input": "time"})).await;
    let timing = reply.headers["server-timing"].to_str().unwrap();
    for part in ["preprocess;dur=", "queue;dur=", "inference;dur="] {
        assert!(timing.contains(part), "{timing}");
    }
}
