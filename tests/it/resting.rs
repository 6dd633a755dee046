//! Backbones that rest, asked by routes that need one: none waits longer than its request may, and none takes a want of
//! memory for an absence.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::Request;
use headstart_tasks::{Entry, Loader, Served, TaskError};
use serde_json::{Value, json};

use crate::support::training::{questions, request};
use crate::support::{Reply, TEXT, TestApp};

const SUPPORT: &str = "/v1/classifiers/support";

/// Loads without an end.
struct Never;

#[async_trait]
impl Loader for Never {
    async fn wake(&self, _: &str) -> Result<Arc<Served>, TaskError> {
        std::future::pending().await
    }
}

/// Finds no memory.
struct Full;

#[async_trait]
impl Loader for Full {
    async fn wake(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        Err(TaskError::NoRoom { id: id.to_owned(), needed: 2, limit: 1 })
    }
}

/// A service whose text backbone rests, with two versions on it.
async fn resting(loader: Arc<dyn Loader>) -> TestApp {
    let service = TestApp::with_store("").await;
    service.classifier("", "support", 2).await;
    service.app.tasks.catalog.wake_by(loader);
    service.app.tasks.catalog.insert(TEXT.to_owned(), Entry::Resting);
    service
}

#[tokio::test]
async fn whatever_waits_for_a_backbone_waits_no_longer_than_its_request_may() {
    let service = resting(Arc::new(Never)).await;
    let file = service.file("", &questions(8)).await;
    let job = json!({"model": TEXT, "training_file": file["id"], "suffix": "late"});
    let labels = json!({"name": "late", "model": TEXT, "labels": ["refund", "delivery"]});
    let onnx = format!("{SUPPORT}/versions/1/onnx");
    let jobs = async || service.get("/v1/fine_tuning/jobs").await.ok()["data"].as_array().unwrap().len();
    let before = jobs().await;
    for (method, path, body) in [
        ("GET", format!("/v2/models/{TEXT}"), Value::Null),
        ("GET", format!("/v2/models/{TEXT}/versions/1"), Value::Null),
        ("GET", format!("/v2/models/{TEXT}/config"), Value::Null),
        ("GET", format!("/v2/models/{TEXT}/versions/1/config"), Value::Null),
        ("GET", onnx, Value::Null),
        ("PUT", format!("{SUPPORT}/traffic"), json!({"1": 50, "2": 50})),
        ("POST", "/v1/classifiers".to_owned(), labels.clone()),
        ("POST", "/v1/fine_tuning/jobs".to_owned(), job),
    ] {
        let mut asked: Request<_> = request("", method, &path, &body);
        asked.headers_mut().insert("x-request-timeout-ms", "20".parse().unwrap());
        let reply: Reply = service.send(asked).await;
        assert_eq!(reply.status, 504, "{method} {path}: {}", reply.text());
    }
    // Nothing has come of them.
    assert_eq!(service.get(SUPPORT).await.ok()["traffic"], json!({}));
    assert_eq!(service.get("/v1/classifiers/late").await.error().0, 404);
    assert_eq!(jobs().await, before);
}

#[tokio::test]
async fn a_request_whose_time_is_over_gives_its_idempotency_key_back() {
    let service = resting(Arc::new(Never)).await;
    let labels = json!({"name": "late", "model": TEXT, "labels": ["refund", "delivery"]});
    for _ in 0..2 {
        let mut asked = request("", "POST", "/v1/classifiers", &labels);
        asked.headers_mut().insert("x-request-timeout-ms", "20".parse().unwrap());
        asked.headers_mut().insert("idempotency-key", "one".parse().unwrap());
        assert_eq!(service.send(asked).await.error(), (504, "deadline_exceeded".into(), None));
    }
}

#[tokio::test]
async fn a_version_whose_backbone_finds_no_memory_is_asked_for_again() {
    let service = resting(Arc::new(Full)).await;
    let onnx = format!("{SUPPORT}/versions/1/onnx");
    let split = json!({"1": 50, "2": 50});
    for reply in [
        service.get(&onnx).await,
        service.ask("", "PUT", &format!("{SUPPORT}/traffic"), split).await,
        service.get(&format!("/v2/models/{TEXT}/config")).await,
    ] {
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert_eq!(reply.headers["retry-after"], "5");
    }
    // One that somebody unloaded is not at hand, and asking again would not help.
    service.app.tasks.catalog.insert(TEXT.to_owned(), Entry::Unloaded);
    assert_eq!(service.get(&onnx).await.error(), (409, "conflict".into(), None));
}
