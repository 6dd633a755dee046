//! The bodies of other servers' clients: Hugging Face's, and those of text-embeddings-inference.

use serde_json::{Value, json};

use crate::support::{TEXT, TestApp};

async fn hugging_face(service: &TestApp, body: Value) -> Value {
    service.post(&format!("/hf/{TEXT}"), &body).await.ok()
}

#[tokio::test]
async fn the_direction_of_a_reranked_texts_cut_is_heeded() {
    let service = TestApp::shared();
    let text = format!("{}{}", "refund ".repeat(300), "weather ".repeat(300));
    let score = async |fields: Value| {
        let mut body = json!({"model": TEXT, "query": "the weather", "texts": [text]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        service.post("/v1/rerank", &body).await.ok()[0]["score"].as_f64().unwrap()
    };
    let (end, start) = (score(json!({"truncate": "end"})).await, score(json!({"truncate": "start"})).await);
    assert!(start > end + 0.1, "{start} {end}");
    for (fields, expected) in [
        (json!({"truncation_direction": "Left"}), start),
        (json!({"truncate": true, "truncation_direction": "left"}), start),
        (json!({"truncate": true, "truncation_direction": "Right"}), end),
    ] {
        assert_eq!(score(fields.clone()).await, expected, "{fields}");
    }
    let wrong = json!({"model": TEXT, "query": "a", "texts": ["b"], "truncation_direction": "start"});
    let refused = service.post("/v1/rerank", &wrong).await;
    assert_eq!(refused.error(), (400, "invalid_value".into(), Some("truncation_direction".into())));
}

#[tokio::test]
async fn a_sentence_is_compared_with_others_as_by_the_similarity_task() {
    let service = TestApp::shared();
    let (one, others) = ("A cat sits on a mat.", ["A kitten rests on a rug.", "Stocks fell on Monday."]);
    let answer = service
        .post("/v1/similarity", &json!({"model": TEXT, "input": one, "candidates": others}))
        .await
        .ok();
    let expected: Vec<&Value> =
        answer["data"].as_array().unwrap().iter().map(|datum| &datum["score"]).collect();
    for inputs in [
        json!({"source_sentence": one, "sentences": others}),
        json!({"sentences": others, "source_sentence": one}),
    ] {
        let scores = hugging_face(service, json!({"inputs": inputs})).await;
        assert_eq!(scores.as_array().unwrap().iter().collect::<Vec<_>>(), expected, "{inputs}");
    }
    // An object that names its own text is an item as before.
    let vectors = hugging_face(service, json!({"inputs": {"text": one}})).await;
    assert_eq!(vectors[0].as_array().unwrap().len(), 384);
}

#[tokio::test]
async fn what_is_missing_of_a_comparison_is_named() {
    let service = TestApp::with_store("").await;
    service.answering("support", false);
    for (model, inputs, field) in [
        (TEXT, json!({"source_sentence": "a"}), "inputs.sentences"),
        (TEXT, json!({"sentences": ["a"]}), "inputs.source_sentence"),
        (TEXT, json!({"source_sentence": "a", "sentences": []}), "inputs.sentences"),
        (TEXT, json!({"source_sentence": "a", "sentences": ["b", ""]}), "inputs.sentences[1]"),
        (TEXT, json!({"source_sentence": 1.5, "sentences": ["b"]}), "inputs"),
        ("support", json!({"source_sentence": "a", "sentences": ["b"]}), "inputs"),
    ] {
        let reply = service.post(&format!("/hf/{model}"), &json!({"inputs": inputs})).await;
        let field = Some(field.to_owned());
        assert_eq!(reply.error(), (400, "invalid_value".into(), field), "{model} {inputs}: {}", reply.text());
        let named = inputs["source_sentence"] != 1.5 || reply.text().contains("`inputs.source_sentence`");
        assert!(named, "{}", reply.text());
    }
}
