//! What bodies may be, whatever the route: nothing that was sent is cut, dropped or misread without a word.

use axum::body::Body;
use axum::http::{Method, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{IMAGE, TEXT, TEXT_INT8, TestApp, cat};

type Refusal = (u16, String, Option<String>);

fn invalid(param: &str) -> Refusal {
    (400, "invalid_value".into(), Some(param.into()))
}

fn too_long(param: &str) -> Refusal {
    (400, "context_length_exceeded".into(), Some(param.into()))
}

/// A text of 402 tokens for a model that takes 256.
fn long() -> String {
    "word ".repeat(400)
}

async fn refusal(path: &str, body: &Value) -> Refusal {
    let reply = TestApp::shared().post(path, body).await;
    assert!(reply.status.is_client_error(), "{}", reply.text());
    reply.error()
}

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in parts {
        body.extend(format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--edge--\r\n");
    body
}

const FORM: &str = "multipart/form-data; boundary=edge";

#[tokio::test]
async fn every_task_says_what_it_cut_and_none_refuses_it() {
    let long = long();
    let service = TestApp::shared();
    let body = json!({"model": TEXT_INT8, "input": long, "candidates": ["short", long]});
    let answer = service.post("/v1/similarity", &body).await.ok();
    assert_eq!(
        (&answer["truncated_tokens"], &answer["data"][1]["truncated_tokens"]),
        (&json!(146), &json!(146))
    );
    assert!(answer["data"][0].get("truncated_tokens").is_none());

    let question = json!([{"type": "predicate", "instructions": "It is about words."}]);
    let mut body = json!({"model": TEXT_INT8, "input": long, "questions": question});
    let answer = service.post("/v1/decisions", &body).await.ok();
    assert_eq!(answer["truncated_tokens"], 146);
    body["truncate"] = "none".into();
    assert_eq!(refusal("/v1/decisions", &body).await, too_long("input"));
    body["input"] = "short".into();
    let answer = service.post("/v1/decisions", &body).await.ok();
    assert!(answer.get("truncated_tokens").is_none());
    body["questions"][0]["instructions"] = long.clone().into();
    assert_eq!(refusal("/v1/decisions", &body).await, too_long("questions[0].instructions"));
    body["questions"] = json!([{"type": "choice", "instructions": "Which?", "choices": [
        {"value": "one"}, {"value": "two", "description": long}
    ]}]);
    assert_eq!(refusal("/v1/decisions", &body).await, too_long("questions[0].choices[1]"));
}

#[tokio::test]
async fn labels_are_cut_by_the_requests_rule_and_never_by_a_template() {
    let ask = |labels: Value, more: Value| {
        let mut body = json!({"model": TEXT_INT8, "input": "a cat", "labels": labels});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let none = json!({"truncate": "none"});
    for labels in [json!(["cat", long()]), json!(["cat", {"label": "dog", "description": long()}])] {
        // Cut and cached first: what must not be cut is not taken from there.
        TestApp::shared().post("/v1/zero-shot", &ask(labels.clone(), json!({}))).await.ok();
        assert_eq!(refusal("/v1/zero-shot", &ask(labels, none.clone())).await, too_long("labels[1]"));
    }
    let full = json!({"template": format!("{}{{}}", long())});
    assert_eq!(refusal("/v1/zero-shot", &ask(json!(["cat", "dog"]), full)).await, invalid("template"));
    let nearly = json!({"template": format!("{}{{}}", "word ".repeat(252))});
    TestApp::shared().post("/v1/zero-shot", &ask(json!(["cat", "dog"]), nearly.clone())).await.ok();
    let two_words = ask(json!(["cat", "three more words"]), nearly);
    assert_eq!(refusal("/v1/zero-shot", &two_words).await, too_long("template"));
    let large = json!({"template": format!("{}{{}}", "x".repeat(2 << 20))});
    assert_eq!(refusal("/v1/zero-shot", &ask(json!(["cat", "dog"]), large)).await, invalid("template"));
    // Of a label that is too long by itself, start and end keep different words.
    let label = format!("{}{}", "cat ".repeat(300), "tax ".repeat(300));
    let by = |rule: &str| ask(json!([label, "dog"]), json!({"truncate": rule, "template": "about {}"}));
    let end = TestApp::shared().post("/v1/zero-shot", &by("end")).await.ok();
    let start = TestApp::shared().post("/v1/zero-shot", &by("start")).await.ok();
    assert_ne!(end["data"][0]["scores"], start["data"][0]["scores"]);
    assert_eq!(refusal("/v1/zero-shot", &by("none")).await, too_long("labels[0]"));
}

#[tokio::test]
async fn usage_counts_what_was_used_whether_it_was_cached_or_not() {
    let service = TestApp::with_store("").await;
    let body = json!({"model": TEXT, "input": "a cat", "labels": ["usage of cats", {"label": "dogs", "description": "a pet"}]});
    let first = service.post("/v1/zero-shot", &body).await.ok()["usage"].clone();
    let second = service.post("/v1/zero-shot", &body).await.ok()["usage"].clone();
    assert_eq!(first, second);
    // [CLS] a cat [SEP] and more.
    assert!(first["prompt_tokens"].as_u64().unwrap() > 4, "{first}");
}

#[tokio::test]
async fn more_labels_than_the_queue_has_places_are_read_in_parts() {
    let service = TestApp::start("queue_items = 8\nmax_items = 8");
    let labels: Vec<String> = (0..40).map(|number| format!("label number {number}")).collect();
    let body = json!({"model": TEXT, "input": "label number 7", "labels": labels});
    let answer = service.post("/v1/zero-shot", &body).await.ok();
    assert_eq!(answer["data"][0]["scores"].as_array().unwrap().len(), 40);
}

#[tokio::test]
async fn lists_and_objects_in_a_form_are_json() {
    let service = TestApp::shared();
    let embed = async |input: &str| {
        let parts = form(&[("model", TEXT.as_bytes()), ("input", input.as_bytes())]);
        service.post_bytes("/v1/embeddings", FORM, parts).await.ok()["data"].clone()
    };
    let two = service.post("/v1/embeddings", &json!({"model": TEXT, "input": ["hello", "x"]})).await.ok();
    assert_eq!(embed("[\"hello\",\"x\"]").await, two["data"]);
    assert_eq!(embed("{\"text\": \"hello\"}").await[0], two["data"][0]);
    let literal = service.post("/v1/embeddings", &json!({"model": TEXT, "input": "[hello"})).await.ok();
    assert_eq!(embed("[hello").await, literal["data"]);

    let url = format!("data:image/jpeg;base64,{}", STANDARD.encode(cat()));
    let candidates = json!([url, {"image": url}]).to_string();
    let parts = form(&[("model", IMAGE.as_bytes()), ("candidates", candidates.as_bytes()), ("file", &cat())]);
    let answer = service.post_bytes("/v1/similarity", FORM, parts).await.ok();
    let scores: Vec<f64> =
        answer["data"].as_array().unwrap().iter().map(|entry| entry["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 2 && scores.iter().all(|score| *score > 0.9999), "{scores:?}");
}

#[tokio::test]
async fn a_form_takes_texts_in_utf8_and_files_in_parts_of_their_own() {
    let service = TestApp::shared();
    let send = async |path: &str, parts: &[(&str, &[u8])]| service.post_bytes(path, FORM, form(parts)).await;
    for bad in [b"caf\xe9".as_slice(), b"\xff\xfe", b"\xff\xfec\0a\0t\0"] {
        let fields: [(&str, &[u8]); 3] =
            [("model", TEXT.as_bytes()), ("input", b"a cat"), ("labels", b"cat")];
        for at in 0..fields.len() {
            let mut fields = fields;
            fields[at].1 = bad;
            let reply = send("/v1/zero-shot", &fields).await;
            assert_eq!(reply.error(), invalid(fields[at].0));
            assert!(reply.message().contains("UTF-8"), "{}", reply.message());
        }
    }
    let text = json!({"model": TEXT, "input": "a caf\u{e9}"});
    let expected = service.post("/v1/embeddings", &text).await.ok();
    let fields = [("model", TEXT.as_bytes()), ("input", "a caf\u{e9}".as_bytes())];
    assert_eq!(send("/v1/embeddings", &fields).await.ok()["data"], expected["data"]);

    let reply = send("/v1/embeddings", &[("model", IMAGE.as_bytes()), ("image", &cat())]).await;
    assert_eq!(reply.error(), invalid("image"));
    assert!(reply.message().contains("named `file`"), "{}", reply.message());
    let reply = send("/v1/embeddings", &[("model", TEXT.as_bytes()), ("file", b"a cat")]).await;
    assert_eq!(reply.error(), invalid("input"));
    assert!(reply.message().contains("is a file but the model reads text"), "{}", reply.message());
}

#[tokio::test]
async fn labels_of_a_form_that_begin_like_json_must_be_json() {
    let service = TestApp::shared();
    let send = async |labels: &[&str]| {
        let mut parts = vec![("model", TEXT.as_bytes()), ("input", b"a cat".as_slice())];
        parts.extend(labels.iter().map(|label| ("labels", label.as_bytes())));
        service.post_bytes("/v1/zero-shot", FORM, form(&parts)).await
    };
    for bad in ["[cat, dog, car]", "{cat: dog}"] {
        let reply = send(&[bad]).await;
        assert_eq!(reply.error(), invalid("labels"), "{bad}");
        assert!(reply.message().contains("begins like JSON and is none"), "{}", reply.message());
    }
    for good in [&["[\"cat\", \"dog\"]"][..], &["[cat", "dog]"]] {
        assert_eq!(send(good).await.ok()["data"][0]["scores"].as_array().unwrap().len(), 2, "{good:?}");
    }
    let path = format!("/hf/{IMAGE}?candidate_labels=%5Bcat%2C+dog%5D");
    assert_eq!(service.post_bytes(&path, "image/jpeg", cat()).await.error(), invalid("candidate_labels"));
}

#[tokio::test]
async fn what_is_given_twice_or_does_not_go_together_is_refused() {
    let service = TestApp::shared();
    let parts = form(&[("model", IMAGE.as_bytes()), ("input", b"a"), ("file", &cat())]);
    assert_eq!(service.post_bytes("/v1/embeddings", FORM, parts).await.error(), invalid("input"));
    let path = format!("/v1/embeddings?model={IMAGE}&input=a");
    assert_eq!(service.post_bytes(&path, "image/jpeg", cat()).await.error(), invalid("input"));
    let path = format!("/hf/{IMAGE}?inputs=a");
    assert_eq!(service.post_bytes(&path, "image/jpeg", cat()).await.error(), invalid("inputs"));
    let parts = form(&[("model", TEXT.as_bytes()), ("model", b"b"), ("input", b"a")]);
    let reply = service.post_bytes("/v1/embeddings", FORM, parts).await;
    assert_eq!(reply.error(), invalid("model"));
    assert!(reply.message().contains("2 times"), "{}", reply.message());
}

#[tokio::test]
async fn a_raw_picture_for_hugging_face_has_its_fields_in_the_query() {
    let service = TestApp::shared();
    let path = format!("/hf/{IMAGE}?candidate_labels=cat&candidate_labels=dog");
    let labels = service.post_bytes(&path, "image/jpeg", cat()).await.ok();
    assert_eq!((labels.as_array().unwrap().len(), &labels[0]["label"]), (2, &json!("cat")));
    let path = format!("/hf/{IMAGE}?dimensions=16");
    assert_eq!(service.post_bytes(&path, "image/jpeg", cat()).await.ok()[0].as_array().unwrap().len(), 16);
    let path = format!("/hf/{IMAGE}?candidate_labels=cat&hypothesis_template=none");
    let reply = service.post_bytes(&path, "image/jpeg", cat()).await;
    assert_eq!(reply.error(), invalid("parameters.hypothesis_template"));
    let reply = service.post_bytes(&format!("/hf/{IMAGE}"), FORM, form(&[])).await;
    assert_eq!(reply.error().0, 415);
    assert!(!reply.message().contains("send application/json, multipart"), "{}", reply.message());
}

#[tokio::test]
async fn a_path_that_cannot_be_read_gets_the_error_object() {
    let service = TestApp::with_store("").await;
    for path in
        ["/v1/models/%ff", "/v1/files/", "/v1/files/%ff", "/v1/classifiers/", "/v1/fine_tuning/jobs/%ff"]
    {
        assert_eq!(service.get(path).await.error(), (404, "not_found".into(), None), "{path}");
    }
    let reply = service.post("/hf/%ff", &json!({"inputs": "a"})).await;
    assert_eq!(reply.error(), (404, "not_found".into(), None));
}

#[tokio::test]
async fn a_body_must_be_an_object() {
    for path in ["/v1/embeddings", "/v1/zero-shot", "/v1/similarity", "/v1/decisions", &format!("/hf/{TEXT}")]
    {
        for body in
            [json!([TEXT, "hi", null, null, null, null, null]), json!([1]), json!(1), json!("a"), Value::Null]
        {
            let reply = TestApp::shared().post(path, &body).await;
            assert_eq!(reply.error(), (400, "invalid_json".into(), None), "{path} {body}");
            assert_eq!(reply.message(), "the body must be a JSON object");
        }
    }
}

#[tokio::test]
async fn a_token_id_of_any_size_is_named_with_its_index_and_the_vocabulary() {
    for id in [json!(99_999_999_999_999_u64), json!(-1), json!(1_u64 << 32), json!(30_522)] {
        for input in [json!([101, id]), json!([[101, 102], [101, id]]), json!({"tokens": [101, id]})] {
            let reply =
                TestApp::shared().post("/v1/embeddings", &json!({"model": TEXT, "input": input})).await;
            let item = if input[1].is_array() { "input[1]" } else { "input" };
            assert_eq!(reply.error(), invalid(item));
            let said = format!("token id {id} at index 1 is outside the vocabulary of 30522 tokens");
            assert!(reply.message().contains(&said), "{}", reply.message());
        }
    }
}

#[tokio::test]
async fn an_empty_picture_is_refused_as_such_however_it_is_carried() {
    for input in [
        json!({"image": ""}),
        json!({"image": " "}),
        json!("data:image/jpeg;base64,"),
        json!("DATA:;base64,"),
    ] {
        let reply = TestApp::shared().post("/v1/embeddings", &json!({"model": IMAGE, "input": input})).await;
        assert_eq!(reply.error(), invalid("input"), "{input}");
        assert!(reply.message().contains("empty"), "{}", reply.message());
    }
}

#[tokio::test]
async fn errors_do_not_repeat_megabytes() {
    let large = "x".repeat(2 << 20);
    for (field, code) in [
        ("model", "model_not_found"),
        ("encoding_format", "invalid_value"),
        ("dimensions", "invalid_value"),
        ("prompt", "invalid_value"),
    ] {
        let mut body = json!({"model": TEXT, "input": "a"});
        body[field] = large.clone().into();
        let reply = TestApp::shared().post("/v1/embeddings", &body).await;
        assert_eq!((reply.error().1.as_str(), reply.error().2.as_deref()), (code, Some(field)));
        assert!(reply.body.len() < 1000, "{field}: {} bytes", reply.body.len());
    }
}

#[tokio::test]
async fn messages_say_what_to_send_instead() {
    let service = TestApp::shared();
    let said = async |path: &str, body: Value| service.post(path, &body).await.message();
    let url = "https://pictures.example/cat.png";
    for (path, body) in [
        ("/v1/embeddings", json!({"model": IMAGE, "input": {"image": url}})),
        ("/v1/embeddings", json!({"model": IMAGE, "input": {"image_url": {"url": url}}})),
        ("/v1/embeddings", json!({"model": IMAGE, "input": url})),
        ("/v1/embeddings", json!({"model": IMAGE, "input": url, "modality": "image"})),
        (&format!("/hf/{IMAGE}"), json!({"inputs": url})),
    ] {
        let message = said(path, body).await;
        assert!(message.contains("no URL is fetched"), "{message}");
    }
    for (field, value, words) in [
        ("truncate", json!(true), "`none`, `start`, `end`"),
        ("encoding_format", json!(1), "`float` or `base64`"),
        ("modality", json!(["text"]), "`image`, `audio`"),
    ] {
        let mut body = json!({"model": TEXT, "input": "a"});
        body[field] = value;
        let message = said("/v1/embeddings", body).await;
        assert!(message.starts_with(&format!("`{field}`: expected")) && message.contains(words), "{message}");
    }
    let message = said("/v1/embeddings", json!({"model": TEXT, "input": [101], "prompt": "query"})).await;
    assert!(message.contains("prompt"), "{message}");
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/embeddings")
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(Body::from(&b"\x1f\x8b\x08"[..]))
        .unwrap();
    let reply = service.send(request).await;
    assert_eq!(reply.error(), (415, "unsupported_media_type".into(), None));
    assert!(reply.message().contains("gzip"), "{}", reply.message());
}

#[tokio::test]
async fn decisions_take_what_the_official_client_may_send() {
    let ask = |turns: Value| {
        json!({"model": TEXT, "input": turns, "questions": [
            {"type": "predicate", "instructions": [{"type": "input_text", "text": "The customer wants money back."}]}
        ]})
    };
    let user = json!({"role": "user", "content": "I want my money back."});
    let plain = TestApp::shared().post("/v1/decisions", &ask(json!([user]))).await.ok();
    let turns = json!([
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}, user,
        {"type": "function_call", "call_id": "1", "name": "pay", "arguments": "{}"}
    ]);
    let conversation = TestApp::shared().post("/v1/decisions", &ask(turns)).await.ok();
    assert_eq!(plain, conversation);
    let robot = ask(json!([{"role": "robot", "content": "a"}]));
    let reply = TestApp::shared().post("/v1/decisions", &robot).await;
    assert_eq!(reply.error(), invalid("input"));
    assert!(reply.message().contains("robot"), "{}", reply.message());
}

#[tokio::test]
async fn the_document_has_an_example_of_every_error_and_names_every_header() {
    let document = TestApp::unready("").get("/openapi.json").await.ok();
    let mut errors = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["headers"].get("x-request-id").is_some(), "{path} {status}");
                if status.as_str() < "400" {
                    continue;
                }
                errors += 1;
                let error = &response["content"]["application/json"]["example"]["error"];
                if path == "/v2" || path.starts_with("/v2/") {
                    assert!(error.is_string(), "{path} {status}: {error}");
                    continue;
                }
                for key in ["message", "type", "code", "request_id"] {
                    assert!(error[key].is_string(), "{path} {status}: {error}");
                }
                let waits = response["headers"].get("Retry-After").is_some();
                assert_eq!(waits, matches!(status.as_str(), "429" | "503"), "{path} {status}");
            }
        }
    }
    assert!(errors > 300, "{errors}");
    let names = |path: &str| document["paths"][path]["post"]["parameters"].to_string();
    let task = names("/v1/embeddings");
    for name in ["X-Request-Timeout-Ms", "X-Priority", "\"dimensions\"", "\"encoding_format\""] {
        assert!(task.contains(name), "{task}");
    }
    assert!(names("/hf/{model}").contains("\"candidate_labels\""));
    assert!(document["paths"].get("/docs/").is_some() && document["paths"].get("/openapi.json").is_some());
    assert_eq!(
        document["components"]["responses"]["MethodNotAllowed"]["content"]["application/json"]["example"]["error"]
            ["code"],
        "method_not_allowed"
    );
}
