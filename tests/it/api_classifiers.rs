//! Classifiers: which version answers, who moved it there, and what is gone; each key has its own.

use std::time::Duration;

use axum::http::HeaderValue;
use headstart::clock::now_ms;
use headstart::rollout::Rollout;
use headstart_store::{Expected, NewRequest, RequestKey, When};
use headstart_types::classifier::{ClassifierId, NewVersion, Origin, Reason};
use headstart_types::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::training::{KEYS, request};
use crate::support::{IMAGE, TEXT, TestApp};

const SUPPORT: &str = "/v1/classifiers/support";

#[tokio::test]
async fn the_first_version_is_production_and_later_ones_wait() {
    let service = TestApp::with_store("").await;
    let job = service.classifier("", "support", 2).await;
    let found = service.get(SUPPORT).await.ok();
    assert_eq!((&found["id"], &found["object"]), (&json!("support"), &json!("classifier")));
    assert_eq!((&found["production"], &found["last_version"]), (&json!(1), &json!(2)));
    let version = &found["versions"][0];
    assert_eq!((&version["id"], &version["job"]), (&json!("support@2"), &json!(job.id.as_str())));
    assert_eq!((&version["backbone"], &version["metrics"]), (&json!(TEXT), &json!({"accuracy": 0.9})));
    assert_eq!((&found["audit"][0]["action"], &found["audit"][0]["to"]), (&json!("publish"), &json!(1)));
    let report = service.get(&format!("{SUPPORT}/versions/2/report")).await.ok();
    assert_eq!(report, json!({"accuracy": 0.9}));
    for path in [
        "/v1/classifiers/none",
        &format!("{SUPPORT}/versions/3/report"),
        &format!("{SUPPORT}/versions/x/report"),
    ] {
        assert_eq!(service.get(path).await.error(), (404, "not_found".into(), None), "{path}");
    }
}

#[tokio::test]
async fn a_promotion_and_a_rollback_are_written_down() {
    let service = TestApp::with_store("").await;
    service.classifier("", "support", 2).await;
    let promote = format!("{SUPPORT}/versions/2/promote");
    let moved = service.ask("", "POST", &promote, json!({"reason": "it is better"})).await.ok();
    assert_eq!((&moved["production"], &moved["history"]), (&json!(2), &json!([1])));
    let stale = service.ask("", "POST", &promote, json!({"if_production": 1})).await;
    assert_eq!(stale.error(), (409, "conflict".into(), None));
    let gated = service.ask("", "POST", &promote, json!({"gate": {"metric": "accuracy"}})).await;
    assert_eq!(gated.error(), (400, "invalid_value".into(), Some("gate.kind".into())));
    let back = service.ask("", "POST", &format!("{SUPPORT}/rollback"), Value::Null).await.ok();
    assert_eq!(back["production"], 1);
    let further = service.ask("", "POST", &format!("{SUPPORT}/rollback"), Value::Null).await;
    assert_eq!(further.error(), (409, "conflict".into(), None));
    assert_eq!(
        service.ask("", "POST", &format!("{SUPPORT}/versions/9/promote"), json!({})).await.error().0,
        404
    );
    let audit = service.get(SUPPORT).await.ok()["audit"].clone();
    let actions: Vec<&str> =
        audit.as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["rollback", "promote", "publish"]);
    assert_eq!(
        (&audit[1]["reason"], &audit[1]["from"], &audit[1]["to"]),
        (&json!("it is better"), &json!(1), &json!(2))
    );
}

#[tokio::test]
async fn a_rollback_sent_again_under_its_key_goes_back_once() {
    let service = TestApp::with_store("").await;
    service.classifier("", "support", 3).await;
    for version in [2, 3] {
        service.ask("", "POST", &format!("{SUPPORT}/versions/{version}/promote"), Value::Null).await.ok();
    }
    for _ in 0..2 {
        let mut request = request("", "POST", &format!("{SUPPORT}/rollback"), &Value::Null);
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("back"));
        assert_eq!(service.send(request).await.ok()["production"], 2);
    }
}

#[tokio::test]
async fn a_rollback_cut_off_before_it_answered_is_not_done_again() {
    let service = TestApp::with_store("").await;
    service.classifier("", "support", 3).await;
    for version in [2, 3] {
        service.ask("", "POST", &format!("{SUPPORT}/versions/{version}/promote"), Value::Null).await.ok();
    }
    let (store, id) =
        (service.app.store().unwrap(), ClassifierId { key: String::new(), name: "support".into() });
    let route = "POST /v1/classifiers/{name}/rollback".to_owned();
    let cut_off = async |token: &'static str, done: bool| {
        let key = RequestKey { key: String::new(), route: route.clone(), token: token.into() };
        let (revision, now) = (store.classifier(&id).await.unwrap().revision, now_ms());
        let new = NewRequest {
            key: &key,
            fingerprint: &hex(&Sha256::digest(b"support\0{}")),
            resource: &format!("{revision} {now}"),
            hold_ms: 1,
            keep_ms: 60_000,
        };
        store.begin(new, now).await.unwrap();
        let why = Reason { who: String::new(), reason: String::new(), gate: None };
        if done {
            store.rollback(&id, Expected::Revision(revision), &why, now).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut request = request("", "POST", &format!("{SUPPORT}/rollback"), &json!({}));
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static(token));
        service.send(request).await
    };
    assert_eq!(cut_off("done", true).await.ok()["production"], 2, "once");
    assert_eq!(cut_off("not done", false).await.ok()["production"], 1);
}

#[tokio::test]
async fn a_classifier_made_by_a_request_that_was_cut_off_is_no_conflict_for_its_second_try() {
    let service = TestApp::with_store("").await;
    let store = service.app.store().unwrap();
    let body = |labels: [&str; 2]| json!({"name": "support", "model": TEXT, "labels": labels});
    let again = async |token: &'static str, since: i64, labels: [&str; 2]| {
        let key =
            RequestKey { key: String::new(), route: "POST /v1/classifiers".to_owned(), token: token.into() };
        let asked = [b"\0".as_slice(), body(labels).to_string().as_bytes()].concat();
        let new = NewRequest {
            key: &key,
            fingerprint: &hex(&Sha256::digest(&asked)),
            resource: &since.to_string(),
            hold_ms: 1,
            keep_ms: 60_000,
        };
        store.begin(new, now_ms()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut request = request("", "POST", "/v1/classifiers", &body(labels));
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static(token));
        service.send(request).await
    };
    let before = now_ms();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let made = service.post("/v1/classifiers", &body(["refund", "delivery"])).await.ok();
    let after = now_ms() + 1;
    assert_eq!(again("its own", before, ["refund", "delivery"]).await.ok(), made);
    let other = again("other labels", before, ["refund", "praise"]).await;
    assert_eq!((other.error().0, other.error().1.as_str()), (409, "conflict"), "{}", other.text());
    let older = again("made before", after, ["refund", "delivery"]).await;
    assert_eq!(older.error().0, 409, "{}", older.text());
    assert_eq!(service.get(SUPPORT).await.ok()["last_version"], 1);
}

#[tokio::test]
async fn a_request_that_was_cut_off_does_not_keep_its_key_and_one_whose_sender_left_is_done_once() {
    let service = TestApp::with_store("").await;
    let body = json!({"name": "support", "model": TEXT, "labels": ["refund", "delivery"]});
    service.post("/v1/classifiers", &body).await.ok();
    let ask = |key: &'static str, text: &str, deadline: Option<&'static str>| {
        let body = json!({"examples": [{"text": text, "label": "refund"}]});
        let mut request = request("", "POST", &format!("{SUPPORT}/examples"), &body);
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static(key));
        if let Some(deadline) = deadline {
            request.headers_mut().insert("x-request-timeout-ms", HeaderValue::from_static(deadline));
        }
        service.send(request)
    };
    for _ in 0..3 {
        // Whether it is done in time or not: it is over once it is answered.
        let late = ask("late", "Where is my money?", Some("1")).await;
        assert!([200, 504].contains(&late.status.as_u16()), "{}", late.text());
    }
    assert_eq!(ask("late", "Where is my money?", None).await.ok()["added"], 1);

    let left =
        tokio::time::timeout(Duration::from_millis(1), ask("left", "I was charged twice.", None)).await;
    drop(left);
    let mut again = ask("left", "I was charged twice.", None).await;
    for _ in 0..1000 {
        if again.status.is_success() {
            break;
        }
        assert_eq!(again.error().1, "conflict", "{}", again.text());
        tokio::time::sleep(Duration::from_millis(10)).await;
        again = ask("left", "I was charged twice.", None).await;
    }
    assert_eq!(again.ok(), ask("left", "I was charged twice.", None).await.ok());
    assert_eq!(
        service.get(SUPPORT).await.ok()["last_version"],
        3,
        "the first version, and one of each request"
    );
}

#[tokio::test]
async fn fields_in_a_list_are_no_example() {
    let service = TestApp::with_store("").await;
    let body = json!({"name": "support", "model": TEXT, "labels": ["refund", "delivery"]});
    service.post("/v1/classifiers", &body).await.ok();
    let body = json!({"examples": [["Where is it?", null, "delivery", null]]});
    let refused = service.post(&format!("{SUPPORT}/examples"), &body).await;
    assert_eq!(refused.error(), (400, "invalid_value".into(), Some("examples".into())), "{}", refused.text());
}

#[tokio::test]
async fn traffic_and_aliases_point_at_versions_that_exist() {
    let service = TestApp::with_store("").await;
    service.classifier("", "support", 2).await;
    let put =
        async |tail: &str, body: Value| service.ask("", "PUT", &format!("{SUPPORT}/{tail}"), body).await;
    assert_eq!(put("traffic", json!({"1": 90, "2": 10})).await.ok()["traffic"], json!({"1": 90, "2": 10}));
    for (body, status) in [
        (json!({"1": 90}), 400),
        (json!({"one": 100}), 400),
        (json!({"1": 101}), 400),
        (json!({"9": 100}), 404),
        (json!({"1": 300}), 400),
    ] {
        assert_eq!(put("traffic", body.clone()).await.error().0, status, "{body}");
    }
    assert_eq!(put("traffic", json!({})).await.ok()["traffic"], json!({}));
    assert_eq!(put("aliases/champion", json!({"version": 2})).await.ok()["aliases"], json!({"champion": 2}));
    for alias in ["7", "production", "%2e", "%2e%2e", "."] {
        let refused = put(&format!("aliases/{alias}"), json!({"version": 2})).await;
        assert_eq!(refused.error(), (400, "invalid_value".into(), Some("alias".into())), "{alias}");
    }
    let gone = service.ask("", "DELETE", &format!("{SUPPORT}/aliases/champion"), Value::Null).await.ok();
    assert_eq!(gone["aliases"], json!({}));
    put("shadow", json!({"version": 2})).await.ok();
    for (tail, body, field) in [
        ("aliases/champion", json!({}), "version"),
        ("aliases/champion", json!({"version": "two"}), "version"),
        ("aliases/champion", json!({"version": -1}), "version"),
        ("shadow", json!({"version": 1.5}), "version"),
        ("shadow", json!({}), "version"),
        ("shadow", json!({"verison": 2}), "version"),
        ("traffic", json!({"1": 300}), "traffic"),
        ("traffic", json!({"1": "all"}), "traffic"),
    ] {
        let refused = put(tail, body.clone()).await;
        assert_eq!(refused.error(), (400, "invalid_value".into(), Some(field.into())), "{tail} {body}");
        assert!(
            !refused.message().contains("u32") && !refused.message().contains("u8"),
            "{}",
            refused.message()
        );
    }
    assert_eq!(service.get(SUPPORT).await.ok()["shadow"]["version"], 2, "no refusal takes it off");
    assert_eq!(put("shadow", json!({"version": null})).await.ok()["shadow"], Value::Null);
}

#[tokio::test]
async fn the_audit_says_what_was_set() {
    let service = TestApp::with_store("").await;
    service.classifier("", "support", 3).await;
    let ask = async |method: &str, tail: &str, body: Value| {
        service.ask("", method, &format!("{SUPPORT}/{tail}"), body).await.ok()
    };
    ask("PUT", "aliases/champion", json!({"version": 2})).await;
    ask("PUT", "traffic", json!({"1": 90, "2": 10})).await;
    ask("PUT", "traffic", json!({})).await;
    ask("PUT", "shadow", json!({"version": 2})).await;
    ask("PUT", "shadow", json!({"version": null})).await;
    ask("DELETE", "aliases/champion", Value::Null).await;
    ask("DELETE", "versions/3", Value::Null).await;
    let audit = service.get(SUPPORT).await.ok()["audit"].clone();
    let told: Vec<(&str, &str)> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["action"].as_str().unwrap(), row["reason"].as_str().unwrap()))
        .take(7)
        .collect();
    assert_eq!(
        told,
        [
            ("delete_version", "version 3"),
            ("alias", "`champion` means nothing"),
            ("shadow", "nothing scores along"),
            ("shadow", "version 2 scores along"),
            ("traffic", "all to production"),
            ("traffic", "version 1: 90 %, version 2: 10 %"),
            ("alias", "`champion` means version 2"),
        ]
    );
}

#[tokio::test]
async fn versions_that_read_different_things_share_no_requests() {
    let service = TestApp::with_store("").await;
    service.classifier("", "support", 1).await;
    let (store, now) = (service.app.store().unwrap(), 1_000);
    let id = ClassifierId { key: String::new(), name: "support".into() };
    let first = store.version(&id, 1).await.unwrap();
    let pictures = NewVersion {
        origin: Origin::Job,
        artifact: first.artifact,
        report: None,
        evidence: None,
        metrics: json!({}),
        backbone: IMAGE.into(),
        backbone_sha256: first.backbone_sha256,
    };
    let why = Reason { who: String::new(), reason: String::new(), gate: None };
    store.publish(&id, &pictures, When::First, Expected::Any, &why, now).await.unwrap();
    let split = json!({"1": 50, "2": 50});
    let refused = service.ask("", "PUT", &format!("{SUPPORT}/traffic"), split).await;
    assert_eq!(refused.error(), (400, "invalid_value".into(), Some("traffic".into())));
    assert!(refused.message().contains("reads text, version 2 image"), "{}", refused.message());
    let alone = service.ask("", "PUT", &format!("{SUPPORT}/traffic"), json!({"2": 100})).await;
    assert_eq!(alone.error().0, 400, "production reads texts");
}

#[tokio::test]
async fn what_answers_cannot_be_deleted_and_the_whole_classifier_can() {
    let service = TestApp::with_store("").await;
    service.classifier("", "support", 2).await;
    let delete = async |path: &str| service.ask("", "DELETE", path, Value::Null).await;
    assert_eq!(delete(&format!("{SUPPORT}/versions/1")).await.error(), (409, "conflict".into(), None));
    assert_eq!(
        delete(&format!("{SUPPORT}/versions/2")).await.ok(),
        json!({"id": "support@2", "object": "classifier.version", "deleted": true})
    );
    assert_eq!(delete(SUPPORT).await.ok(), json!({"id": "support", "object": "classifier", "deleted": true}));
    assert_eq!(service.get(SUPPORT).await.error().0, 404);
    assert_eq!(delete(SUPPORT).await.error().0, 404);
}

#[tokio::test]
async fn the_official_clients_delete_takes_fine_tuned_models_and_leaves_backbones() {
    let service = TestApp::with_store("").await;
    service.classifier("", "support", 2).await;
    let delete =
        async |name: &str| service.ask("", "DELETE", &format!("/v1/models/{name}"), Value::Null).await;
    assert_eq!(delete(TEXT).await.error(), (409, "conflict".into(), None));
    for unknown in ["none", "none@1", "support@9", "support@x"] {
        let reply = delete(unknown).await;
        assert_eq!(reply.error(), (404, "model_not_found".into(), Some("model".into())), "{unknown}");
    }
    assert_eq!(delete("support@1").await.error().0, 409);
    assert_eq!(
        delete("support@2").await.ok(),
        json!({"id": "support@2", "object": "model", "deleted": true})
    );
    delete("support@1").await.ok();
    assert_eq!(service.get(SUPPORT).await.error().0, 404, "the last version takes the classifier along");
}

#[tokio::test]
async fn classifiers_are_listed_by_name_in_pages() {
    let service = TestApp::with_store("").await;
    for name in ["b", "a", "c"] {
        service.classifier("", name, 1).await;
    }
    let first = service.get("/v1/classifiers?limit=2").await.ok();
    assert_eq!((&first["data"][0]["id"], &first["last_id"]), (&json!("a"), &json!("b")));
    assert_eq!((&first["has_more"], &first["data"][0]["versions"]), (&json!(true), &Value::Null));
    let rest = service.get("/v1/classifiers?limit=2&after=b").await.ok();
    assert_eq!((&rest["data"][0]["id"], &rest["has_more"]), (&json!("c"), &json!(false)));
}

#[tokio::test]
async fn another_keys_classifier_is_not_there_and_the_administrator_names_its_owner() {
    let service = TestApp::with_store(KEYS).await;
    service.classifier("anna", "support", 2).await;
    service.classifier("bert", "other", 1).await;
    for (method, path) in [
        ("GET", SUPPORT.to_owned()),
        ("DELETE", SUPPORT.to_owned()),
        ("POST", format!("{SUPPORT}/rollback")),
        ("POST", format!("{SUPPORT}/versions/2/promote")),
        ("GET", format!("{SUPPORT}/versions/1/report")),
        ("DELETE", format!("{SUPPORT}/versions/2")),
        ("GET", "/v1/classifiers/anna%2Fsupport".to_owned()),
    ] {
        let reply = service.ask("bert", method, &path, Value::Null).await;
        assert_eq!(reply.error(), (404, "not_found".into(), None), "{method} {path}");
    }
    assert_eq!(service.ask("bert", "DELETE", "/v1/models/support", Value::Null).await.error().0, 404);
    let all = service.ask("root", "GET", "/v1/classifiers", Value::Null).await.ok();
    assert_eq!(
        (&all["data"][0]["id"], &all["data"][1]["id"]),
        (&json!("anna/support"), &json!("bert/other"))
    );
    let path = "/v1/classifiers/anna%2Fsupport";
    let moved = service.ask("root", "POST", &format!("{path}/versions/2/promote"), Value::Null).await.ok();
    assert_eq!(moved["production"], 2);
    let seen = service.ask("anna", "GET", SUPPORT, Value::Null).await.ok();
    assert_eq!((&seen["production"], &seen["audit"][0]["who"]), (&json!(2), &json!("root")));
}

#[tokio::test]
async fn a_key_asks_classifiers_of_those_it_may_reach() {
    let keys = "api_keys = \"anna:train+infer:key-of-anna,bert:train+infer:key-of-bert,root:admin:key-of-root,\
                web:infer@anna:key-of-web,app:infer:key-of-app\"";
    let service = TestApp::with_store(keys).await;
    service.classifier("anna", "support", 1).await;
    service.classifier("bert", "other", 1).await;
    let rollout = tokio::spawn(Rollout::start(&service.app).await.unwrap().run());
    let ask = async |key: &str, model: &str| {
        service.ask(key, "POST", "/v1/classify", json!({"model": model, "input": "Money back!"})).await
    };
    for (key, model) in [
        ("anna", "support"),
        ("anna", "anna/support"),
        ("root", "anna/support@1"),
        ("root", "bert/other"),
        ("web", "anna/support@production"),
    ] {
        assert_eq!(ask(key, model).await.ok()["data"][0]["label"], "refund", "{key}: {model}");
    }
    for (key, model) in [
        ("web", "bert/other"),
        ("web", "support"),
        ("app", "anna/support"),
        ("bert", "anna/support"),
        ("root", "support"),
    ] {
        let refused = ask(key, model).await;
        assert_eq!(refused.error(), (404, "model_not_found".into(), Some("model".into())), "{key}: {model}");
    }
    let listed = async |key: &str| -> Vec<String> {
        let list = service.ask(key, "GET", "/v1/models", Value::Null).await.ok();
        let models = list["data"].as_array().unwrap().iter();
        let classifiers = models.filter(|model| model.get("classifier").is_some());
        classifiers.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed("web").await, ["anna/support"]);
    assert_eq!(listed("root").await, ["anna/support", "bert/other"]);
    assert_eq!(listed("anna").await, ["support"]);
    assert_eq!(listed("app").await, [""; 0]);
    let one = service.ask("web", "GET", "/v1/models/anna%2Fsupport", Value::Null).await.ok();
    assert_eq!((&one["id"], &one["classifier"]["backbone"]), (&json!("anna/support"), &json!(TEXT)));
    let hidden = service.ask("app", "GET", "/v1/models/anna%2Fsupport", Value::Null).await;
    assert_eq!(hidden.error().0, 404);
    let backbone = ask("anna", TEXT).await;
    assert_eq!(backbone.error(), (404, "model_not_found".into(), Some("model".into())));
    assert!(backbone.message().contains("is a backbone"), "{}", backbone.message());
    rollout.abort();
}
