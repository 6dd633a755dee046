//! `POST /v1/embeddings` for texts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{TEXT, TestApp, cosine, floats};

async fn embed(body: Value) -> Value {
    TestApp::shared().post("/v1/embeddings", &body).await.ok()
}

#[tokio::test]
async fn strings_lists_and_token_ids_of_one_text_give_one_vector() {
    let single = embed(json!({"model": TEXT, "input": "hello world"})).await;
    let list = embed(json!({"model": TEXT, "input": ["hello world"]})).await;
    // [CLS] hello world [SEP] in the vocabulary of BERT.
    let ids = embed(json!({"model": TEXT, "input": [101, 7592, 2088, 102]})).await;
    let lists = embed(json!({"model": TEXT, "input": [[101, 7592, 2088, 102]]})).await;
    let object = embed(json!({"model": TEXT, "input": {"text": "hello world"}})).await;
    for other in [&list, &ids, &lists, &object] {
        assert_eq!(single["data"], other["data"]);
    }
    assert_eq!(single["object"], "list");
    assert_eq!(single["data"][0]["object"], "embedding");
    assert_eq!(single["usage"], json!({"prompt_tokens": 4, "total_tokens": 4}));
}

#[tokio::test]
async fn base64_holds_the_bits_of_the_list() {
    let float = embed(json!({"model": TEXT, "input": "bits", "encoding_format": "float"})).await;
    let base64 = embed(json!({"model": TEXT, "input": "bits", "encoding_format": "base64"})).await;
    let bytes = STANDARD.decode(base64["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let decoded: Vec<f32> =
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(floats(&float["data"][0]["embedding"]), decoded);
    let null = embed(json!({"model": TEXT, "input": "bits", "encoding_format": null, "user": "x"})).await;
    assert_eq!(null["data"], float["data"]);
}

#[tokio::test]
async fn dimensions_cut_and_normalise_again() {
    let whole = floats(&embed(json!({"model": TEXT, "input": "cut"})).await["data"][0]["embedding"]);
    let cut = floats(
        &embed(json!({"model": TEXT, "input": "cut", "dimensions": 64})).await["data"][0]["embedding"],
    );
    assert_eq!((whole.len(), cut.len()), (384, 64));
    assert!((cosine(&whole[..64], &cut) - 1.0).abs() < 1e-6);
    assert!((cut.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
    for dimensions in [0, 385] {
        let reply = TestApp::shared()
            .post("/v1/embeddings", &json!({"model": TEXT, "input": "a", "dimensions": dimensions}))
            .await;
        assert_eq!(reply.error(), (400, "invalid_value".into(), Some("dimensions".into())));
        assert!(reply.message().contains("384"), "{}", reply.message());
    }
}

#[tokio::test]
async fn truncation_is_stated_and_none_refuses_with_both_counts() {
    let long = "word ".repeat(400);
    let end = embed(json!({"model": TEXT, "input": [long, "short"]})).await;
    assert_eq!(end["data"][0]["truncated_tokens"], 402 - 256);
    assert!(end["data"][1].get("truncated_tokens").is_none());
    assert_eq!(end["usage"]["prompt_tokens"], 256 + 3);

    let text = format!("{}cat", "dog ".repeat(300));
    let start = embed(json!({"model": TEXT, "input": text, "truncate": "start"})).await;
    let kept = embed(json!({"model": TEXT, "input": format!("{}cat", "dog ".repeat(253))})).await;
    assert_eq!(start["data"][0]["embedding"], kept["data"][0]["embedding"]);

    let reply = TestApp::shared()
        .post("/v1/embeddings", &json!({"model": TEXT, "input": long, "truncate": "none"}))
        .await;
    assert_eq!(reply.error(), (400, "context_length_exceeded".into(), Some("input".into())));
    assert!(reply.message().contains("402") && reply.message().contains("256"), "{}", reply.message());
}

#[tokio::test]
async fn a_text_has_the_same_vector_alone_and_among_others() {
    let service = TestApp::start("cache_bytes = 0");
    let texts: Vec<String> =
        (1..40).map(|words| "a cat and a dog ".repeat(words).trim().to_owned()).collect();
    let together = service.post("/v1/embeddings", &json!({"model": TEXT, "input": texts})).await.ok();
    for (index, text) in texts.iter().enumerate().step_by(6) {
        let alone = service.post("/v1/embeddings", &json!({"model": TEXT, "input": text})).await.ok();
        assert_eq!(alone["data"][0]["embedding"], together["data"][index]["embedding"], "text {index}");
    }
}

#[tokio::test]
async fn a_list_larger_than_any_batch_is_answered_whole_and_in_order() {
    let texts: Vec<String> = (0..500).map(|number| format!("text number {number}")).collect();
    let answer = embed(json!({"model": TEXT, "input": texts})).await;
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 500);
    assert!(data.iter().enumerate().all(|(index, entry)| entry["index"] == index));
    let last = embed(json!({"model": TEXT, "input": "text number 499"})).await;
    assert_eq!(data[499]["embedding"], last["data"][0]["embedding"]);
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let service = TestApp::shared();
    for (body, code, param) in [
        (json!({"input": "a"}), "invalid_value", Some("model")),
        (json!({"model": TEXT}), "invalid_value", Some("input")),
        (json!({"model": TEXT, "input": null}), "invalid_value", Some("input")),
        (json!({"model": TEXT, "input": ""}), "invalid_value", Some("input")),
        (json!({"model": TEXT, "input": []}), "invalid_value", Some("input")),
        (json!({"model": TEXT, "input": ["a", ""]}), "invalid_value", Some("input[1]")),
        (json!({"model": TEXT, "input": {"image": "AA"}}), "invalid_value", Some("input")),
        (json!({"model": TEXT, "input": [1, 99_999_999]}), "invalid_value", Some("input")),
        (json!({"model": TEXT, "input": 5}), "invalid_value", Some("input")),
        (json!({"model": 5, "input": "a"}), "invalid_value", Some("model")),
        (
            json!({"model": TEXT, "input": "a", "encoding_format": "hex"}),
            "invalid_value",
            Some("encoding_format"),
        ),
        (json!({"model": TEXT, "input": "a", "truncate": "middle"}), "invalid_value", Some("truncate")),
        (json!({"model": TEXT, "input": "a", "dimensions": -1}), "invalid_value", Some("dimensions")),
        (json!({"model": TEXT, "input": "a", "prompt": "haiku"}), "invalid_value", Some("prompt")),
        (json!({"model": TEXT, "input": "x".repeat(2 << 20)}), "invalid_value", Some("input")),
    ] {
        let reply = service.post("/v1/embeddings", &body).await;
        assert_eq!(reply.error(), (400, code.into(), param.map(str::to_owned)), "{}", reply.text());
    }
    let reply = service.post("/v1/embeddings", &json!({"model": "gpt", "input": "a"})).await;
    assert_eq!(reply.error(), (404, "model_not_found".into(), Some("model".into())));
}

#[tokio::test]
async fn a_token_id_out_of_range_is_named_with_the_vocabulary() {
    let body = json!({"model": TEXT, "input": [[101, 102], [101, 30522, 102]]});
    let reply = TestApp::shared().post("/v1/embeddings", &body).await;
    assert_eq!(reply.error(), (400, "invalid_value".into(), Some("input[1]".into())));
    assert!(reply.message().contains("30522"), "{}", reply.message());
}

#[tokio::test]
async fn long_lists_of_token_ids_are_cut_at_either_end_or_refused_with_their_number() {
    let ids: Vec<usize> = (0..5000).map(|place| 1000 + place * 7 % 20_000).collect();
    let vector = |answer: Value| answer["data"][0]["embedding"].clone();
    for (truncate, kept) in [("end", &ids[..256]), ("start", &ids[5000 - 256..])] {
        let cut = embed(json!({"model": TEXT, "input": ids, "truncate": truncate})).await;
        assert_eq!(cut["data"][0]["truncated_tokens"], 5000 - 256);
        assert_eq!(vector(cut), vector(embed(json!({"model": TEXT, "input": kept})).await), "{truncate}");
    }
    let ask = async |body: Value| TestApp::shared().post("/v1/embeddings", &body).await;
    let none = ask(json!({"model": TEXT, "input": ids, "truncate": "none"})).await;
    assert_eq!(none.error(), (400, "context_length_exceeded".into(), Some("input".into())));
    assert!(none.message().contains("5000") && none.message().contains("256"), "{}", none.message());
    let endless = ask(json!({"model": TEXT, "input": [[1], vec![1; 1 << 19]]})).await;
    assert_eq!(endless.error(), (400, "invalid_value".into(), Some("input[1]".into())));
    assert!(endless.message().contains("has 524288 token ids"), "{}", endless.message());
}

#[tokio::test]
async fn similarity_is_the_cosine_in_the_order_of_the_candidates() {
    let body =
        json!({"model": TEXT, "input": "a cat", "candidates": ["a cat", "a kitten", "the stock market"]});
    let answer = TestApp::shared().post("/v1/similarity", &body).await.ok();
    let scores: Vec<f64> =
        answer["data"].as_array().unwrap().iter().map(|entry| entry["score"].as_f64().unwrap()).collect();
    assert!((scores[0] - 1.0).abs() < 1e-5 && scores[1] > scores[2] + 0.3, "{scores:?}");
    let vectors = embed(json!({"model": TEXT, "input": ["a cat", "a kitten"]})).await;
    let expected =
        cosine(&floats(&vectors["data"][0]["embedding"]), &floats(&vectors["data"][1]["embedding"]));
    assert!((scores[1] - expected).abs() < 1e-6);
    let two = json!({"model": TEXT, "input": ["a", "b"], "candidates": ["c"]});
    let reply = TestApp::shared().post("/v1/similarity", &two).await;
    assert_eq!(reply.error(), (400, "invalid_value".into(), Some("input".into())));
}

#[tokio::test]
async fn hugging_face_bodies_get_bare_vectors() {
    let service = TestApp::shared();
    let path = format!("/hf/{TEXT}");
    let ours = embed(json!({"model": TEXT, "input": "a cat"})).await;
    let one = service.post(&path, &json!({"inputs": "a cat"})).await.ok();
    assert_eq!(one[0], ours["data"][0]["embedding"]);
    let two = service.post(&path, &json!({"inputs": ["a cat", "a dog"]})).await.ok();
    assert_eq!(two.as_array().unwrap().len(), 2);
}
