//! `POST /v1/zero-shot` and `POST /v1/decisions`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{IMAGE, TEXT, TestApp, cat};

async fn label(body: Value) -> Value {
    TestApp::shared().post("/v1/zero-shot", &body).await.ok()["data"].clone()
}

#[tokio::test]
async fn a_photo_of_a_cat_is_a_cat() {
    let photo = STANDARD.encode(cat());
    let data =
        label(json!({"model": IMAGE, "input": {"image": photo}, "labels": ["cat", "dog", "car"]})).await;
    assert_eq!(data[0]["label"], "cat", "{data}");
    assert!(data[0]["score"].as_f64().unwrap() > 0.6, "{data}");
}

#[tokio::test]
async fn a_text_gets_the_label_that_is_near_and_scores_add_up_to_one() {
    let input = ["I want my money back.", "The parcel has not arrived yet."];
    let data = label(json!({"model": TEXT, "input": input, "labels": ["refund", "delivery"]})).await;
    assert_eq!((&data[0]["label"], &data[1]["label"]), (&json!("refund"), &json!("delivery")));
    for entry in data.as_array().unwrap() {
        let scores: Vec<f64> =
            entry["scores"].as_array().unwrap().iter().map(|s| s["score"].as_f64().unwrap()).collect();
        assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-5 && scores[0] >= scores[1], "{scores:?}");
        assert_eq!(entry["score"], entry["scores"][0]["score"]);
    }
}

#[tokio::test]
async fn descriptions_examples_and_a_template_of_the_callers_own_change_the_scores() {
    let ask = |labels: Value, template: Value| async move {
        let body =
            json!({"model": TEXT, "input": "My card was swallowed.", "labels": labels, "template": template});
        label(body).await[0]["scores"].clone()
    };
    let plain = ask(json!(["a", "b"]), Value::Null).await;
    let described =
        ask(json!([{"label": "a", "description": "the machine kept the card"}, "b"]), Value::Null).await;
    let exemplified =
        ask(json!([{"label": "a", "examples": ["The ATM ate my card."]}, "b"]), Value::Null).await;
    assert_eq!(described[0]["label"], "a");
    assert_eq!(exemplified[0]["label"], "a");
    assert_ne!(plain, described);
    assert_ne!(plain, ask(json!(["a", "b"]), json!("The topic is {}.")).await);
}

#[tokio::test]
async fn several_labels_can_be_right_at_once() {
    let body = json!({
        "model": TEXT, "input": "The food was wonderful but the waiter was rude.",
        "labels": ["food", "service", "astronomy"], "multi_label": true
    });
    let data = label(body).await;
    let scores: Vec<f64> =
        data[0]["scores"].as_array().unwrap().iter().map(|s| s["score"].as_f64().unwrap()).collect();
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
    assert_eq!(data[0]["scores"][2]["label"], "astronomy");
    assert!(data[0]["labels"].is_array());
}

#[tokio::test]
async fn below_the_threshold_the_answer_abstains() {
    let body = json!({"model": TEXT, "input": "zzz", "labels": ["a", "b"], "threshold": 0.999});
    let data = label(body).await;
    assert_eq!((&data[0]["label"], &data[0]["abstained"]), (&Value::Null, &json!(true)));
    let body =
        json!({"model": TEXT, "input": "a text about cats", "labels": ["cats", "tax"], "threshold": 0.1});
    assert!(label(body).await[0].get("abstained").is_none());
}

#[tokio::test]
async fn wrong_labels_are_named() {
    for (fields, param) in [
        (json!({}), "labels"),
        (json!({"labels": []}), "labels"),
        (json!({"labels": ["a", ""]}), "labels[1]"),
        (json!({"labels": ["a", "a"]}), "labels[1]"),
        (json!({"labels": "a"}), "labels"),
        (json!({"labels": [1]}), "labels"),
        (json!({"labels": ["a"], "template": "no place"}), "template"),
        (json!({"labels": ["a"], "top_k": 0}), "top_k"),
        (json!({"labels": ["a"], "threshold": 1.5}), "threshold"),
    ] {
        let mut body = json!({"model": TEXT, "input": "x"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let reply = TestApp::shared().post("/v1/zero-shot", &body).await;
        assert_eq!(reply.error(), (400, "invalid_value".into(), Some(param.into())), "{}", reply.text());
    }
}

#[tokio::test]
async fn hugging_face_bodies_get_bare_labels_for_texts_and_images() {
    let service = TestApp::shared();
    let parameters = json!({"candidate_labels": ["refund", "delivery"]});
    let body = json!({"inputs": "I want my money back.", "parameters": parameters});
    let labels = service.post(&format!("/hf/{TEXT}"), &body).await.ok();
    assert_eq!((labels.as_array().unwrap().len(), &labels[0]["label"]), (2, &json!("refund")));
    let body = json!({"inputs": STANDARD.encode(cat()), "parameters": {"candidate_labels": ["cat", "dog"]}});
    let labels = service.post(&format!("/hf/{IMAGE}"), &body).await.ok();
    assert_eq!(labels[0]["label"], "cat");
    let features = service.post_bytes(&format!("/hf/{IMAGE}"), "application/octet-stream", cat()).await.ok();
    assert_eq!(features[0].as_array().unwrap().len(), 1280);
}

#[tokio::test]
async fn decisions_answer_choices_predicates_and_scores_in_order() {
    let body = json!({
        "model": TEXT,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "I want my money back."}]}],
        "questions": [
            {"type": "choice", "name": "topic", "instructions": "What is it about?",
             "choices": [{"value": "refund"}, {"value": "delivery", "description": "a parcel on its way"}]},
            {"type": "predicate", "instructions": "The customer wants a refund."},
            {"type": "predicate", "instructions": "The moon is made of cheese."},
            {"type": "score", "name": "mood", "instructions": "How happy?",
             "levels": [{"label": "angry customer"}, {"label": "neutral customer"}, {"label": "happy customer"}]}
        ]
    });
    let answer = TestApp::shared().post("/v1/decisions", &body).await.ok();
    let answers = &answer["answers"];
    assert_eq!((&answers[0]["type"], &answers[0]["name"]), (&json!("choice"), &json!("topic")));
    assert_eq!(answers[0]["choice"], "refund");
    let likely = answers[1]["probability"].as_f64().unwrap();
    let unlikely = answers[2]["probability"].as_f64().unwrap();
    assert!(likely > 0.5 && unlikely < 0.5 && answers[1]["name"].is_null(), "{answers}");
    let expectation: f64 = answers[3]["probabilities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|level| level["value"].as_f64().unwrap() * level["probability"].as_f64().unwrap())
        .sum();
    assert!((answers[3]["score"].as_f64().unwrap() - expectation).abs() < 1e-5);
    assert!(answer["usage"]["input_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_decision_about_a_picture_takes_a_data_url() {
    let image = json!({"type": "input_image", "image_url": format!("data:image/jpeg;base64,{}", STANDARD.encode(cat()))});
    let questions = json!([
        {"type": "choice", "instructions": "What is it?", "choices": [{"value": "cat"}, {"value": "car"}]},
        {"type": "choice", "instructions": "a cat", "choices": [{"value": true}, {"value": false}]}
    ]);
    let body =
        json!({"model": IMAGE, "input": [{"role": "user", "content": [image]}], "questions": questions});
    let answer = TestApp::shared().post("/v1/decisions", &body).await.ok();
    assert_eq!(answer["answers"][0]["choice"], "cat");
    assert_eq!(answer["answers"][1]["choice"], true);
    let url = json!({"type": "input_image", "image_url": "https://pictures.example/cat.png"});
    let body = json!({"model": IMAGE, "input": [{"role": "user", "content": [url]}], "questions": questions});
    assert_eq!(TestApp::shared().post("/v1/decisions", &body).await.error().2.as_deref(), Some("input"));
}
