//! Classifiers among the models: what they are while their backbones are away, and where a backbone is asked for.

use std::path::Path;
use std::sync::Arc;

use headstart::rollout::Rollout;
use headstart_tasks::{Entry, LoadError};
use serde_json::{Value, json};

use crate::support::training::questions;
use crate::support::{IMAGE, TEXT, TestApp};

#[tokio::test]
async fn a_classifier_is_listed_as_what_its_backbone_is() {
    let service = TestApp::with_store("").await;
    service.classifier("", "support", 1).await;
    let rollout = tokio::spawn(Rollout::start(&service.app).await.unwrap().run());
    let catalog = &service.app.tasks.catalog;
    let (text, image) = (catalog.at_hand(TEXT).unwrap(), catalog.at_hand(IMAGE).unwrap());
    let broken = || Entry::Broken(Arc::new(LoadError::ZeroShot("no such file".into())));
    for (entry, state, reason) in [
        (Some(Entry::Served(Arc::clone(&text))), "ready", None),
        (Some(Entry::Unloaded), "unloaded", Some("unloaded by request")),
        (Some(Entry::Resting), "unloaded", Some("not in memory; the next request loads it")),
        (Some(broken()), "broken", Some("what `[zero_shot]` names cannot be used; the log has the reason")),
        (
            Some(Entry::Served(image)),
            "broken",
            Some("another one has its name now, whose features would not fit"),
        ),
        (None, "broken", Some("it is not there")),
        (Some(Entry::Served(text)), "ready", None),
    ] {
        match entry {
            Some(entry) => catalog.insert(TEXT.to_owned(), entry),
            None => catalog.forget(TEXT),
        };
        let error = reason.map_or(Value::Null, |reason| json!(format!("its backbone: {reason}")));
        let list = service.get("/v1/models").await.ok()["data"].take();
        let listed = list.as_array().unwrap().iter().find(|model| model["id"] == "support").unwrap().clone();
        for shown in [listed, service.get("/v1/models/support").await.ok()] {
            assert_eq!((&shown["status"], &shown["error"]), (&json!(state), &error), "{shown}");
            assert_eq!(shown["classifier"]["backbone"], TEXT);
        }
        // Nothing is called ready that does not answer.
        let asked = service.post("/v1/classify", &json!({"model": "support", "input": "a"})).await;
        assert_eq!(asked.status, if state == "ready" { 200 } else { 503 }, "{}", asked.text());
    }
    rollout.abort();
}

#[tokio::test]
async fn a_classifier_is_told_apart_where_a_backbone_is_asked_for_and_only_to_keys_that_may_ask_it() {
    let keys =
        "api_keys = \"anna:train+infer:key-of-anna,bert:train+infer:key-of-bert,root:admin:key-of-root\"";
    let service = TestApp::with_store(keys).await;
    service.classifier("anna", "support", 1).await;
    let rollout = tokio::spawn(Rollout::start(&service.app).await.unwrap().run());
    for (key, name, known) in
        [("anna", "support", true), ("bert", "support", false), ("root", "anna/support", true)]
    {
        let file = service.file(key, &questions(8)).await;
        let question = json!({"type": "predicate", "instructions": "Is it about money?"});
        let bodies = [
            ("/v1/embeddings", json!({"model": name, "input": "a"})),
            ("/v1/zero-shot", json!({"model": name, "input": "a", "labels": ["b", "c"]})),
            ("/v1/similarity", json!({"model": name, "input": "a", "candidates": ["b"]})),
            ("/v1/rerank", json!({"model": name, "query": "a", "documents": ["b"]})),
            ("/v1/decisions", json!({"model": name, "input": "a", "questions": [question]})),
            ("/v1/fine_tuning/jobs", json!({"model": name, "training_file": file["id"]})),
            ("/v1/classifiers", json!({"name": "new", "model": name, "labels": ["b", "c"]})),
        ];
        for (path, body) in bodies {
            let reply = service.ask(key, "POST", path, body).await;
            assert_eq!(reply.error(), (404, "model_not_found".into(), Some("model".into())), "{key} {path}");
            let message = reply.message();
            assert_eq!(
                message.contains("is a classifier") && message.contains(TEXT),
                known,
                "{key} {path}: {message}"
            );
        }
        let name = name.replace('/', "%2F");
        let tensors = json!({"inputs": []});
        for (method, path, body) in [
            ("POST", format!("/hf/{name}/rerank"), json!({"query": "a", "texts": ["b"]})),
            ("GET", format!("/v2/models/{name}"), Value::Null),
            ("GET", format!("/v2/models/{name}/ready"), Value::Null),
            ("GET", format!("/v2/models/{name}/config"), Value::Null),
            ("GET", format!("/v2/models/{name}/stats"), Value::Null),
            ("POST", format!("/v2/models/{name}/infer"), tensors),
        ] {
            let reply = service.ask(key, method, &path, body).await;
            assert_eq!(reply.status, 404, "{key} {method} {path}");
            assert_eq!(reply.text().contains("is a classifier"), known, "{key} {path}: {}", reply.text());
        }
    }
    rollout.abort();
}

#[tokio::test]
async fn a_classifier_is_neither_loaded_nor_unloaded() {
    let (models, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    std::os::unix::fs::symlink(bundled.join(TEXT), models.path().join(TEXT)).unwrap();
    let paths = [models.path(), data.path()].map(|path| path.display().to_string());
    let service = TestApp::start(&format!("models = [{:?}]\ndata = {:?}", paths[0], paths[1]));
    service.app.open_store().await.unwrap();
    service.answering("support", false);
    for (name, known) in [("support", true), ("none", false)] {
        for path in [format!("/v1/models/{name}/load"), format!("/v1/models/{name}/unload")] {
            let reply = service.ask("", "POST", &path, Value::Null).await;
            assert_eq!(reply.error(), (404, "model_not_found".into(), Some("model".into())), "{path}");
            assert_eq!(reply.message().contains("is a classifier"), known, "{path}: {}", reply.message());
        }
    }
}
