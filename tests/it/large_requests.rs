//! Requests that would cost more than what they carry: items, labels and classifiers that multiply, forms that are
//! hardly parts.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use futures_util::stream;
use headstart_methods::artifact::Artifact;
use headstart_methods::head::{Backbone, Head, HeadParts, Tail};
use headstart_tasks::classifiers::{NewVersion, Pointers};
use serde_json::{Value, json};

use crate::support::training::{form, questions, upload};
use crate::support::{Reply, TEXT, TestApp};

/// Items of the largest request.
const ITEMS: usize = 2048;

/// Lets a classifier of so many classes answer.
fn classifier(service: &TestApp, name: &str, classes: usize, multi_label: bool) {
    let sha256 = service.app.tasks.catalog.at_hand(TEXT).unwrap().manifest().backbone.sha256.clone();
    let head = Head::new(HeadParts {
        method: "linear_probe".to_owned(),
        hyperparameters: serde_json::Map::new(),
        backbone: Backbone { id: TEXT.to_owned(), sha256 },
        classes: (0..classes).map(|class| format!("class {class}")).collect(),
        multi_label,
        normalise: false,
        rows: ndarray::ArcArray2::zeros((classes, 384)),
        bias: vec![0.0; classes].into(),
        tail: Tail::Identity,
        temperature: 1.0,
        thresholds: None,
    });
    let version = NewVersion { number: 1, artifact: Arc::new(Artifact::Head(Arc::new(head.unwrap()))) };
    let pointers = Pointers { production: Some(1), ..Pointers::default() };
    service.app.tasks.classifiers.set(("", name), &[], vec![version], pointers).unwrap();
}

fn items() -> Vec<String> {
    (0..ITEMS).map(|item| format!("item {item}")).collect()
}

fn assert_too_much(reply: &Reply, field: &str) {
    assert_eq!(reply.error(), (400, "invalid_value".into(), Some(field.into())), "{}", reply.text());
    assert!(reply.message().contains("16777216"), "{}", reply.message());
}

#[tokio::test]
async fn a_classifier_that_is_named_over_and_over_is_asked_of_few_items_only() {
    let service = TestApp::with_store("").await;
    classifier(&service, "wide", 100, false);
    let names = vec!["wide"; 1000];
    let refused = service.post("/v1/classify", &json!({"model": names, "input": items()})).await;
    assert_too_much(&refused, "model");
    let answer = service.post("/v1/classify", &json!({"model": names, "input": "one"})).await.ok();
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 1000);
    let scores = |entry: &Value| entry["scores"].as_array().unwrap().len();
    assert!(data.iter().all(|entry| scores(entry) == 100 && entry["index"] == 0));
}

#[tokio::test]
async fn labels_and_items_that_are_too_much_together_are_refused_by_every_body() {
    let service = TestApp::with_store("max_labels = 65536").await;
    classifier(&service, "wide", 10_000, false);
    classifier(&service, "policy", 10_000, true);
    let body = json!({"model": "policy", "input": items()});
    assert_too_much(&service.post("/v1/moderations", &body).await, "input");
    assert_too_much(&service.post("/v1/classify", &body).await, "input");
    let labels: Vec<String> = (0..10_000).map(|label| format!("label {label}")).collect();
    let body = json!({"model": TEXT, "input": items(), "labels": labels, "top_k": 10_000});
    assert_too_much(&service.post("/v1/zero-shot", &body).await, "input");
    let body = json!({"inputs": items(), "parameters": {"top_k": 10_000}});
    assert_too_much(&service.post("/hf/wide", &body).await, "inputs");
    let answer = service.post("/v1/moderations", &json!({"model": "policy", "input": "one"})).await.ok();
    assert_eq!(answer["results"][0]["categories"].as_object().unwrap().len(), 10_000);
}

/// A body that comes in small pieces.
fn in_pieces(bytes: &[u8]) -> Body {
    let pieces: Vec<_> = bytes.chunks(4096).map(|piece| Ok::<_, io::Error>(piece.to_vec())).collect();
    Body::from_stream(stream::iter(pieces))
}

#[tokio::test]
async fn a_form_that_is_hardly_parts_is_refused() {
    let service = TestApp::with_store("").await;
    let lines = questions(8);
    let good = form(&[("purpose", None, b"fine-tune"), ("file", Some("a.jsonl"), lines.as_bytes())]);
    let long = vec![b'x'; 1 << 20];
    let preamble = [long.as_slice(), b"\r\n".as_slice(), good.as_slice()].concat();
    let edge = good.iter().position(|byte| *byte == b'\r').unwrap();
    let (first, rest) = good.split_at(edge);
    let header = [first, b"\r\nx-long: ".as_slice(), long.as_slice(), rest].concat();
    for body in [preamble, header] {
        let refused = service.send(upload("", in_pieces(&body))).await;
        assert_eq!(refused.error(), (400, "invalid_json".into(), None), "{}", refused.text());
        let message = refused.message();
        assert!(message.contains("more than 65536 bytes stand before a part"), "{message}");
        let content_type = "multipart/form-data; boundary=a-boundary-that-no-part-holds";
        let refused = service.post_bytes("/v1/embeddings", content_type, in_pieces(&body)).await;
        let message = refused.message();
        assert!(message.contains("more than 65536 bytes stand before a part"), "{message}");
    }
    assert_eq!(service.send(upload("", in_pieces(&good))).await.ok()["status"], "processed");
}
