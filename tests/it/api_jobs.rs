//! Jobs: asked for, refused with the field that is wrong, repeated, listed, stopped; each key has its own.

use axum::http::HeaderValue;
use serde_json::{Value, json};

use crate::support::training::{KEYS, questions, request};
use crate::support::{IMAGE, TEXT, TestApp};

const JOBS: &str = "/v1/fine_tuning/jobs";

#[tokio::test]
async fn a_job_is_queued_with_all_that_clients_read() {
    let service = TestApp::with_store("").await;
    let file = service.file("", &questions(8)).await;
    let body = json!({
        "model": TEXT, "training_file": file["id"], "validation_file": null, "seed": 7, "suffix": "My Support",
        "metadata": {"team": "a"}, "integrations": [{"type": "wandb", "wandb": {"project": "p"}}],
        "method": {"type": "linear_probe", "linear_probe": {"hyperparameters": {"c": 2.0}}},
    });
    let job = service.ask("", "POST", JOBS, body).await.ok();
    assert_eq!((&job["object"], &job["status"]), (&json!("fine_tuning.job"), &json!("queued")));
    for key in ["error", "fine_tuned_model", "finished_at", "trained_tokens", "validation_file", "progress"] {
        assert!(job.as_object().unwrap().contains_key(key) && job[key].is_null(), "{key}: {job}");
    }
    assert_eq!((&job["seed"], &job["position"], &job["result_files"]), (&json!(7), &json!(1), &json!([])));
    assert_eq!(
        (&job["classifier"], &job["user_provided_suffix"]),
        (&json!("my-support"), &json!("My Support"))
    );
    let given = &job["method"]["linear_probe"]["hyperparameters"];
    assert_eq!((&given["c"], &given["folds"]), (&json!(2.0), &json!(5)), "resolved: {given}");
    assert_eq!(job["metadata"], json!({"team": "a"}));
    let path = format!("{JOBS}/{}", job["id"].as_str().unwrap());
    assert_eq!(service.get(&path).await.ok(), job);
}

#[tokio::test]
async fn what_is_left_out_is_made_up_and_reported() {
    let service = TestApp::with_store("").await;
    let file = service.file("", &questions(8)).await;
    let autos = json!({"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"});
    let body = json!({"model": TEXT, "training_file": file["id"], "hyperparameters": autos});
    let job = service.ask("", "POST", JOBS, body).await.ok();
    assert!(job["seed"].as_i64().unwrap() >= 0);
    assert!(job["classifier"].as_str().unwrap().starts_with(TEXT), "{job}");
    assert!(job["method"]["type"].is_string());
}

#[tokio::test]
async fn a_wrong_job_is_refused_with_the_field_that_is_wrong() {
    let service = TestApp::with_store("").await;
    let file = service.file("", &questions(8)).await;
    let other = "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\", \"label\": \"y\"}\n";
    let other = service
        .file("", &format!("{other}{}", other.replace(": \"a\"", ": \"c\"").replace("\"b\"", "\"d\"")))
        .await;
    assert_eq!(other["status"], "processed", "{other}");
    let probe = |fields: Value| json!({"type": "linear_probe", "linear_probe": {"hyperparameters": fields}});
    for (field, change, status) in [
        ("model", json!({"model": null}), 400),
        ("model", json!({"model": "none"}), 404),
        ("training_file", json!({"training_file": null}), 400),
        ("training_file", json!({"training_file": "file-0"}), 404),
        ("training_file", json!({"training_file": "../x"}), 404),
        ("training_file", json!({"model": IMAGE}), 400),
        ("validation_file", json!({"validation_file": "file-0"}), 404),
        ("validation_file", json!({"validation_file": other["id"]}), 400),
        ("method.type", json!({"method": {"type": "dpo"}}), 400),
        ("method.type", json!({"method": {}}), 400),
        ("method.linear_probe", json!({"method": {"type": "linear_probe", "linear_probe": 3}}), 400),
        ("method.linear_probe.hyperparameters.c", json!({"method": probe(json!({"c": -1}))}), 400),
        ("method.linear_probe.hyperparameters.x", json!({"method": probe(json!({"x": 1}))}), 400),
        (
            "method.linear_probe.hyperparameters.class_weight.NOPE",
            json!({"method": probe(json!({"class_weight": {"NOPE": 2}}))}),
            400,
        ),
        ("hyperparameters.n_epochs", json!({"hyperparameters": {"n_epochs": 3}}), 400),
        ("hyperparameters", json!({"hyperparameters": {"c": 3}, "method": probe(json!({}))}), 400),
        ("seed", json!({"seed": -1}), 400),
        ("seed", json!({"seed": "x"}), 400),
        ("report", json!({"report": {"budget_seconds": "x"}}), 400),
        ("method.linear_probe.hyperparameters.c", json!({"method": probe(json!({"c": "x"}))}), 400),
        (
            "method.mlp.hyperparameters.epochs",
            json!({"method": {"type": "mlp", "mlp": {"hyperparameters": {"epochs": -1}}}}),
            400,
        ),
        (
            "method.auto.hyperparameters.tune_seconds",
            json!({"method": {"type": "auto", "auto": {"hyperparameters": {"tune_seconds": 1.5}}}}),
            400,
        ),
        ("suffix", json!({"suffix": "x".repeat(65)}), 400),
        ("suffix", json!({"suffix": "!?"}), 400),
        ("suffix", json!({"suffix": TEXT}), 400),
        ("metadata", json!({"metadata": {"k": "x".repeat(513)}}), 400),
    ] {
        let mut body = json!({"model": TEXT, "training_file": file["id"]});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let reply = service.ask("", "POST", JOBS, body).await;
        let (found, _, param) = reply.error();
        assert_eq!((found, param.as_deref()), (status, Some(field)), "{change}: {}", reply.text());
        for rust in ["usize", "i64", "u64", "u32", "f32", "f64"] {
            assert!(!reply.message().contains(rust), "{change}: {}", reply.message());
        }
    }
    assert_eq!(service.get(JOBS).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn a_job_sent_again_under_its_key_is_made_once() {
    let service = TestApp::with_store("").await;
    let file = service.file("", &questions(8)).await;
    let body = |seed: u32| json!({"model": TEXT, "training_file": file["id"], "seed": seed});
    let send = async |body: &Value| {
        let mut request = request("", "POST", JOBS, body);
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("once"));
        service.send(request).await
    };
    let first = send(&body(1)).await.ok();
    assert_eq!(send(&body(1)).await.ok(), first);
    let other = send(&body(2)).await;
    assert_eq!(other.error(), (409, "conflict".into(), None));
    assert_eq!(other.headers["x-should-retry"], "false");
    assert_eq!(service.get(JOBS).await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_job_may_be_put_right_under_the_same_key() {
    let service = TestApp::with_store("").await;
    let file = service.file("", &questions(8)).await;
    for (seed, status) in [(-1, 400), (1, 200)] {
        let body = json!({"model": TEXT, "training_file": file["id"], "seed": seed});
        let mut request = request("", "POST", JOBS, &body);
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("again"));
        assert_eq!(service.send(request).await.status.as_u16(), status);
    }
}

#[tokio::test]
async fn jobs_are_listed_in_pages_and_by_their_metadata() {
    let service = TestApp::with_store("").await;
    let file = service.file("", &questions(8)).await;
    for team in ["a", "b", "a"] {
        let body = json!({"model": TEXT, "training_file": file["id"], "metadata": {"team": team}});
        service.ask("", "POST", JOBS, body).await.ok();
    }
    let first = service.get(&format!("{JOBS}?limit=2")).await.ok();
    assert_eq!((&first["has_more"], first["data"].as_array().unwrap().len()), (&json!(true), 2));
    let after = first["last_id"].as_str().unwrap();
    let second = service.get(&format!("{JOBS}?limit=2&after={after}")).await.ok();
    assert_eq!((&second["has_more"], second["data"].as_array().unwrap().len()), (&json!(false), 1));
    let of_a = service.get(&format!("{JOBS}?metadata%5Bteam%5D=a")).await.ok();
    assert_eq!(of_a["data"].as_array().unwrap().len(), 2);
    let of_pairs = async |count: usize| {
        let pairs: Vec<String> = (0..count).map(|number| format!("metadata[k{number}]=v")).collect();
        service.get(&format!("{JOBS}?{}", pairs.join("&"))).await
    };
    assert_eq!(of_pairs(16).await.ok()["data"], json!([]));
    assert_eq!(of_pairs(17).await.error(), (400, "invalid_value".into(), Some("metadata".into())));
}

#[tokio::test]
async fn a_job_is_paused_resumed_and_cancelled_where_its_state_allows_it() {
    let service = TestApp::with_store("").await;
    let job = service.job("", "support").await;
    let step = async |step: &str| {
        service.ask("", "POST", &format!("{JOBS}/{}/{step}", job["id"].as_str().unwrap()), Value::Null).await
    };
    let paused = step("pause").await.ok();
    assert_eq!((&paused["status"], &paused["position"]), (&json!("paused"), &Value::Null));
    let again = step("pause").await;
    assert_eq!(again.error(), (409, "conflict".into(), None));
    assert!(again.message().contains("paused"), "{}", again.message());
    assert_eq!(step("resume").await.ok()["status"], "queued");
    let cancelled = step("cancel").await.ok();
    assert_eq!((&cancelled["status"], &cancelled["error"]), (&json!("cancelled"), &Value::Null));
    assert!(cancelled["finished_at"].is_i64());
    assert_eq!(step("resume").await.error().0, 409);
}

#[tokio::test]
async fn a_report_is_there_once_the_job_has_succeeded() {
    let service = TestApp::with_store("").await;
    let job = service.job("", "support").await;
    let path = format!("{JOBS}/{}", job["id"].as_str().unwrap());
    assert_eq!(service.get(&format!("{path}/report")).await.error(), (404, "not_found".into(), None));
    let (lease, _) = service.claim().await;
    service.finish(&lease).await;
    assert_eq!(service.get(&format!("{path}/report")).await.ok(), json!({"accuracy": 0.9}));
    let done = service.get(&path).await.ok();
    assert_eq!((&done["status"], &done["fine_tuned_model"]), (&json!("succeeded"), &json!("support@1")));
}

#[tokio::test]
async fn the_queue_of_a_key_has_an_end() {
    let service = TestApp::with_store("key_queued_jobs = 1").await;
    service.job("", "first").await;
    let file = service.file("", &questions(8)).await;
    let body = json!({"model": TEXT, "training_file": file["id"]});
    let full = service.ask("", "POST", JOBS, body).await;
    assert_eq!(full.error(), (429, "rate_limit_exceeded".into(), None));
    assert!(full.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn another_keys_job_is_not_there_and_the_administrator_moves_it() {
    let service = TestApp::with_store(KEYS).await;
    let job = service.job("anna", "support").await;
    assert_eq!(job["organization_id"], "anna");
    let path = format!("{JOBS}/{}", job["id"].as_str().unwrap());
    for (method, tail) in [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/checkpoints"),
        ("GET", "/report"),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
    ] {
        let reply = service.ask("bert", method, &format!("{path}{tail}"), Value::Null).await;
        assert_eq!(reply.error(), (404, "not_found".into(), None), "{method} {tail}");
    }
    assert_eq!(service.ask("bert", "GET", JOBS, Value::Null).await.ok()["data"], json!([]));
    let cancelled = service.ask("root", "POST", &format!("{path}/cancel"), Value::Null).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
}

#[tokio::test]
async fn a_job_that_is_over_can_be_deleted_and_its_version_says_so() {
    let service = TestApp::with_store(KEYS).await;
    let job = service.job("anna", "support").await;
    let path = format!("{JOBS}/{}", job["id"].as_str().unwrap());
    let delete = async |key: &str| service.ask(key, "DELETE", &path, Value::Null).await;
    let queued = delete("anna").await;
    assert_eq!(queued.error(), (409, "conflict".into(), None));
    assert_eq!(queued.headers["x-should-retry"], HeaderValue::from_static("false"));
    let (lease, _) = service.claim().await;
    assert_eq!(delete("anna").await.error().0, 409, "it runs");
    service.finish(&lease).await;
    assert_eq!(delete("bert").await.error().0, 404);
    let version = async || {
        service.ask("anna", "GET", "/v1/classifiers/support", Value::Null).await.ok()["versions"][0].clone()
    };
    assert_eq!(version().await["job_deleted"], false);
    assert_eq!(
        delete("anna").await.ok(),
        json!({"id": job["id"], "object": "fine_tuning.job", "deleted": true, "versions": ["support@1"]})
    );
    for gone in ["", "/events", "/checkpoints", "/report"] {
        let reply = service.ask("anna", "GET", &format!("{path}{gone}"), Value::Null).await;
        assert_eq!(reply.error().0, 404, "{gone}");
    }
    let left = version().await;
    assert_eq!((&left["job"], &left["job_deleted"]), (&job["id"], &json!(true)));
    let report =
        service.ask("anna", "GET", "/v1/classifiers/support/versions/1/report", Value::Null).await.ok();
    assert_eq!(report["accuracy"], 0.9);
    assert_eq!(delete("anna").await.error().0, 404);
}
