//! Probes, metrics, pages, and the documents that must stay true.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::support::training::{form, questions, upload};
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
    let named = json!({"name": TEXT, "model": TEXT, "labels": ["a", "b"]});
    let reply = service.post("/v1/classifiers", &named).await;
    assert_eq!(reply.error(), (503, "not_ready".into(), None));
    assert_eq!(service.metric("headstart_ready").await, 0.0);
}

#[tokio::test]
async fn every_series_of_a_loaded_server_is_there_before_its_first_request() {
    let service = TestApp::start("");
    let text = service.get("/metrics").await.text();
    for series in [
        "headstart_requests_total{method=\"POST\",route=\"/v1/embeddings\",status=\"200\"} 0".to_owned(),
        "headstart_requests_total{method=\"POST\",route=\"/v1/embeddings\",status=\"504\"} 0".to_owned(),
        format!("headstart_queue_wait_seconds_count{{class=\"interactive\",model=\"{TEXT}\"}} 0"),
        format!("headstart_queue_wait_seconds_count{{class=\"bulk\",model=\"{TEXT}\"}} 0"),
        format!("headstart_items_total{{model=\"{TEXT}\",outcome=\"answered\"}} 0"),
        format!("headstart_model_loaded{{model=\"{TEXT}\"}} 1"),
        "headstart_cache_misses_total{cache=\"labels\"} 0".to_owned(),
        "headstart_panics_total 0".to_owned(),
        "headstart_lanes_busy 0".to_owned(),
        "headstart_bulk_lanes_busy 0".to_owned(),
        "headstart_ready 1".to_owned(),
    ] {
        assert!(text.contains(&series), "{series} is missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_of_bulk_items_are_counted_apart() {
    let service = TestApp::start("cache_bytes = 0");
    let body = json!({"model": TEXT, "input": ["one", "two", "three"]});
    let bulk = Request::post("/v1/embeddings")
        .header("content-type", "application/json")
        .header("x-priority", "bulk")
        .body(Body::from(body.to_string()))
        .unwrap();
    service.send(bulk).await.ok();
    service.post("/v1/embeddings", &json!({"model": TEXT, "input": "four"})).await.ok();
    let waits =
        |class: &str| format!("headstart_queue_wait_seconds_count{{class=\"{class}\",model=\"{TEXT}\"}}");
    assert_eq!(service.metric(&waits("bulk")).await, 3.0);
    assert_eq!(service.metric(&waits("interactive")).await, 1.0);
}

#[tokio::test]
async fn labels_that_were_read_before_are_taken_from_their_cache() {
    let service = TestApp::with_store("").await;
    let counted =
        async |what: &str| service.metric(&format!("headstart_cache_{what}_total{{cache=\"labels\"}}")).await;
    let asked = async |input: &str, labels: Value| {
        let body = json!({"model": TEXT, "input": input, "labels": labels});
        service.post("/v1/zero-shot", &body).await.ok()["data"][0]["scores"].clone()
    };
    let labels = json!(["refund", {"label": "praise", "description": "the customer is happy"}]);
    let first = asked("I want my money back.", labels.clone()).await;
    assert_eq!(counted("hits").await, 0.0);
    let missed = counted("misses").await;
    assert!(missed >= 2.0, "{missed}");
    assert_eq!(asked("I want my money back.", labels.clone()).await, first);
    assert_eq!((counted("hits").await, counted("misses").await), (2.0, missed));
    // They are kept for themselves, whatever they are compared with.
    asked("Well done!", labels).await;
    assert_eq!((counted("hits").await, counted("misses").await), (4.0, missed));
    asked("Well done!", json!(["refund", "praise"])).await;
    assert!(counted("misses").await > missed, "without its description a label is another one");
}

#[tokio::test]
async fn the_pages_work_without_the_internet() {
    let service = TestApp::unready("");
    let page = service.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("https://"), "{}", page.text());
    let script = service.get("/docs/swagger-ui-bundle.js").await;
    assert!(script.status == 200 && script.body.len() > 100_000);
    // Under another name than localhost the pages would ask a public validator, naming this server.
    let initialiser = service.get("/docs/swagger-initializer.js").await.text();
    let dense: String = initialiser.split_whitespace().collect();
    assert!(dense.contains("\"validatorUrl\":\"none\""), "{initialiser}");
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
            let name = operation["operationId"].as_str().unwrap_or_default();
            // A store each: nothing that one operation leaves may be in another's way.
            let service = TestApp::with_store("").await;
            service.app.attach(Arc::new(service.app.start_engine().unwrap()));
            service.answering("intents", false);
            service.answering("policy", true);
            let rows = Rows::prepare(&service, name).await;
            let example = &operation["requestBody"]["content"]["application/json"]["example"];
            let request = if name == "upload_file" {
                let purpose = ("purpose", None, b"fine-tune".as_slice());
                upload("", form(&[purpose, ("file", Some("a.jsonl"), questions(8).as_bytes())]))
            } else {
                let path = rows.fill(path, if name == "delete_model" { &rows.classifier } else { TEXT });
                let mut example = example.clone();
                if example.get("training_file").is_some() {
                    example["training_file"] = rows.file.clone().into();
                }
                let request = Request::builder().method(method.to_uppercase().as_str()).uri(&path);
                request
                    .header("content-type", "application/json")
                    .body(Body::from(example.to_string()))
                    .unwrap()
            };
            let reply = service.send(request).await;
            assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn the_document_names_what_refuses_requests_before_an_operation_sees_them() {
    let document = TestApp::unready("").get("/openapi.json").await.ok();
    let (mut keyed, mut with_body, mut with_deadline) = (0, 0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap();
            let has = |status: &str| {
                let answer = answers.get(status);
                let answer = answer.unwrap_or_else(|| panic!("{method} {path} does not document {status}"));
                let schema = &answer["content"]["application/json"]["schema"]["$ref"];
                let error = if path.starts_with("/v2") { "InferenceError" } else { "ErrorBody" };
                assert_eq!(*schema, format!("#/components/schemas/{error}"), "{method} {path} {status}");
            };
            if operation.get("security").is_some() {
                keyed += 1;
                ["401", "403", "429"].into_iter().for_each(has);
            }
            if operation.get("requestBody").is_some() {
                with_body += 1;
                ["413", "415"].into_iter().for_each(has);
            }
            if answers.contains_key("504") {
                with_deadline += 1;
                let taken = json!({"$ref": "#/components/parameters/X-Request-Timeout-Ms"});
                let parameters = operation["parameters"].as_array().unwrap();
                // An upload may take as long as pieces come.
                let is_upload = (method.as_str(), path.as_str()) == ("post", "/v1/files");
                assert_eq!(parameters.contains(&taken), !is_upload, "{method} {path}");
            }
        }
    }
    assert!(keyed > 50 && with_body > 20 && with_deadline > 20, "{keyed} {with_body} {with_deadline}");
}

/// What the placeholders of a route stand for.
struct Rows {
    file: String,
    job: String,
    classifier: String,
    version: &'static str,
    purge: String,
}

impl Rows {
    /// Makes rows in the state that an operation needs.
    async fn prepare(service: &TestApp, operation: &str) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let file = text(&service.file("", &questions(8)).await["id"]);
        let classifier = format!("c-{}", operation.replace('_', "-"));
        let mut purge = String::new();
        if operation == "retrieve_purge" {
            let made = service.ask("", "POST", "/v1/purges", json!({"text": "question"})).await.ok();
            purge = text(&made["id"]);
        }
        if operation.ends_with("classifier_examples") {
            let words = json!({"name": classifier, "model": TEXT, "labels": ["refund", "delivery"]});
            service.ask("", "POST", "/v1/classifiers", words).await.ok();
            return Self { file, job: String::new(), classifier, version: "1", purge };
        }
        if operation.contains("classifier") || matches!(operation, "delete_model" | "fine_tuning_job_report")
        {
            let job = service.classifier("", &classifier, 2).await.id.to_string();
            let post = async |path: &str, body: Value| {
                let method = if path.contains("aliases") { "PUT" } else { "POST" };
                service.ask("", method, &format!("/v1/classifiers/{classifier}/{path}"), body).await.ok();
            };
            match operation {
                "rollback_classifier" => post("versions/2/promote", Value::Null).await,
                "delete_classifier_alias" => post("aliases/champion", json!({"version": 2})).await,
                _ => {}
            }
            return Self { file, job, classifier, version: "2", purge };
        }
        let job = text(&service.job("", &classifier).await["id"]);
        if operation == "delete_fine_tuning_job" {
            service.ask("", "POST", &format!("/v1/fine_tuning/jobs/{job}/cancel"), Value::Null).await.ok();
        }
        if operation == "resume_fine_tuning_job" {
            service.ask("", "POST", &format!("/v1/fine_tuning/jobs/{job}/pause"), Value::Null).await.ok();
        }
        Self { file, job, classifier, version: "1", purge }
    }

    fn fill(&self, path: &str, model: &str) -> String {
        path.replace("{id}", model)
            .replace("{model}", model)
            .replace("{file}", &self.file)
            .replace("{job}", &self.job)
            .replace("{name}", &self.classifier)
            .replace("{version}", self.version)
            .replace("{alias}", "champion")
            .replace("{purge}", &self.purge)
    }
}

#[tokio::test]
async fn answers_say_where_their_time_went() {
    let reply = TestApp::shared().post("/v1/embeddings", &json!({"model": TEXT, "input": "time"})).await;
    let timing = reply.headers["server-timing"].to_str().unwrap();
    for part in ["decode;dur=", "preprocess;dur=", "queue;dur=", "inference;dur=", "post;dur="] {
        assert!(timing.contains(part), "{timing}");
    }
}
