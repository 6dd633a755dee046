//! Backbones that rest, asked by routes that need one: none waits longer than its request may, and none takes a want of
//! memory for an absence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::http::Request;
use futures_util::future::join_all;
use headstart_tasks::{Entry, Loader, Served, TaskError};
use serde_json::{Value, json};

use crate::support::training::{questions, request};
use crate::support::{IMAGE, Reply, TEXT, TEXT_INT8, TestApp};

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
    service.app.tasks.catalog.set_loader(loader);
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

/// Bytes that a loaded backbone is counted with.
fn counted(service: &TestApp, id: &str) -> u64 {
    let residents = service.app.tasks.catalog.residents();
    residents.iter().find(|resident| resident.id == id).unwrap().memory
}

async fn embed(service: &TestApp, id: &str) -> Reply {
    service.post("/v1/embeddings", &json!({"model": id, "input": "where is my parcel"})).await
}

#[tokio::test]
async fn a_backbone_counts_with_the_sessions_that_there_are_of_it() {
    let [one, two] = [1, 2].map(|lanes| counted(&TestApp::start(&format!("lanes = {lanes}")), TEXT_INT8));
    assert_eq!(two, 2 * one, "its manifest asks for two, and there are no more than calls at the same time");
    let tight = TestApp::start(&format!("lanes = 1\nmodel_memory = {one}"));
    embed(&tight, TEXT_INT8).await.ok();
}

/// A service with memory for the text backbone and the picture one, which are loaded. Somebody holds the first.
fn crowded(patience: Duration) -> (TestApp, Arc<Served>) {
    let roomy = TestApp::start("lanes = 2");
    let [text, int8, image] = [TEXT, TEXT_INT8, IMAGE].map(|id| counted(&roomy, id));
    assert!(image < int8 && int8 <= text + image, "{text} {int8} {image}");
    let service = TestApp::unready(&format!("lanes = 2\nmodel_memory = {}", text + image));
    let engine = service.app.start_engine().unwrap();
    service.app.load_backbones(&engine).unwrap();
    service.app.attach_for(Arc::new(engine), patience);
    service.app.finish_loading();
    let held = service.app.tasks.catalog.at_hand(TEXT).unwrap();
    (service, held)
}

/// Returns once a load of the backbone goes on.
async fn is_loading(service: &TestApp, id: &str) {
    while !service.app.tasks.catalog.entry(id).unwrap().loading {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Longer than any test takes.
const WITHOUT_END: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn all_who_wait_for_a_backbone_are_refused_together_when_no_memory_comes_free() {
    let patience = Duration::from_secs(1);
    let (service, held) = crowded(patience);
    let began = Instant::now();
    for reply in join_all((0..20).map(|_| embed(&service, TEXT_INT8))).await {
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert_eq!(reply.headers["retry-after"], "5");
    }
    assert!(began.elapsed() < 10 * patience, "one waited behind the other: {:?}", began.elapsed());
    drop(held);
    embed(&service, TEXT_INT8).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_waits_for_memory_holds_up_no_other_load_and_no_unload() {
    let (service, _held) = crowded(WITHOUT_END);
    let catalog = &service.app.tasks.catalog;
    drop(catalog.rest(IMAGE).unwrap());
    let others = async {
        is_loading(&service, TEXT_INT8).await;
        assert_eq!(catalog.get(IMAGE).await.unwrap().id(), IMAGE);
        assert!(catalog.at_hand(TEXT_INT8).is_err(), "there was memory for it");
        service.app.loading().unwrap().unload(TEXT).await.unwrap();
    };
    let (waited, ()) = tokio::join!(embed(&service, TEXT_INT8), others);
    waited.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_waits_for_memory_is_over_once_its_backbone_is_unloaded() {
    let (service, _held) = crowded(WITHOUT_END);
    let loading = service.app.loading().unwrap();
    let unloaded = async {
        is_loading(&service, TEXT_INT8).await;
        loading.unload(TEXT_INT8).await.unwrap();
    };
    let (loaded, ()) = tokio::join!(loading.load(TEXT_INT8), unloaded);
    assert!(matches!(loaded, Err(TaskError::Unloaded(_))), "{:?}", loaded.err());
    assert!(!service.app.tasks.catalog.entry(TEXT_INT8).unwrap().loading);
}
