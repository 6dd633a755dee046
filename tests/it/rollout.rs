//! Versions that answer as the registry says: beside some that cannot be read, and each with its share of a split.

use std::collections::BTreeSet;
use std::sync::Arc;

use headstart::clock::now_ms;
use headstart::rollout::Rollout;
use headstart_methods::artifact::{self, Artifact};
use headstart_methods::head::{Head, HeadParts};
use headstart_store::{Expected, When};
use headstart_tasks::classifiers::{NewVersion as LiveVersion, Pointers};
use headstart_types::classifier::{ClassifierId, NewVersion, Origin, Reason};
use headstart_types::ids::Sha256;
use serde_json::{Value, json};

use crate::support::{TEXT, TestApp};

const SUPPORT: &str = "/v1/classifiers/support";

/// Publishes versions 1 to `count`, the last of which is production. Version n gives `refund` the logit n.
async fn publish(service: &TestApp, count: u8) -> Vec<Sha256> {
    let store = service.app.store().unwrap();
    let id = ClassifierId { key: String::new(), name: "support".into() };
    let why = Reason { who: String::new(), reason: String::new(), gate: None };
    let mut artifacts = Vec::new();
    for number in 1..=count {
        let head = service.head_that_gives(number.into(), false);
        let artifact = store.blobs().put(&artifact::save(&head).unwrap()).await.unwrap().sha256;
        let version = NewVersion {
            origin: Origin::Job,
            artifact: artifact.clone(),
            report: None,
            evidence: None,
            metrics: json!({}),
            backbone: TEXT.into(),
            backbone_sha256: head.parts().backbone.sha256.clone(),
        };
        store.publish(&id, &version, When::Always, Expected::Any, &why, now_ms()).await.unwrap();
        artifacts.push(artifact);
    }
    artifacts
}

/// The version that gives `refund` this probability.
fn version_of(probability: &Value) -> i64 {
    let probability = probability.as_f64().unwrap();
    (probability / (1.0 - probability)).ln().round() as i64
}

/// The version that classifies for a user.
async fn answering(service: &TestApp, model: &str, user: Option<&str>) -> i64 {
    let body = json!({"model": model, "input": "Where is my parcel?", "user": user});
    let answer = service.post("/v1/classify", &body).await.ok();
    let scores = answer["data"][0]["scores"].as_array().unwrap().clone();
    let refund = scores.iter().find(|score| score["label"] == "refund").unwrap();
    version_of(&refund["score"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_read_keeps_no_other_from_answering() {
    let service = TestApp::with_store("").await;
    let artifacts = publish(&service, 3).await;
    let lost = service.app.store().unwrap().blobs().path(&artifacts[0]).await.unwrap();
    let kept = std::fs::read(&lost).unwrap();
    std::fs::remove_file(&lost).unwrap();
    let rollout = tokio::spawn(Rollout::start(&service.app).await.unwrap().run());
    let change = async |method: &str, tail: &str, body: Value| {
        service.ask("", method, &format!("{SUPPORT}/{tail}"), body).await.ok();
        answering(&service, "support", None).await
    };
    let broken = "headstart_classifiers_broken";

    assert_eq!(answering(&service, "support", None).await, 3);
    assert_eq!(answering(&service, "support@2", None).await, 2);
    let missing = service.post("/v1/classify", &json!({"model": "support@1", "input": "a"})).await;
    assert_eq!(missing.error().0, 404);
    assert_eq!(service.metric(broken).await, 1.0);
    assert_eq!(change("POST", "versions/2/promote", Value::Null).await, 2);
    assert_eq!(change("POST", "rollback", Value::Null).await, 3);
    // Nor do requests go to one that cannot answer them.
    assert_eq!(change("PUT", "traffic", json!({"1": 100})).await, 3);
    assert_eq!(change("POST", "versions/1/promote", Value::Null).await, 3);
    assert_eq!(service.metric(broken).await, 1.0);
    std::fs::write(&lost, kept).unwrap();
    assert_eq!(change("PUT", "aliases/first", json!({"version": 1})).await, 1);
    assert_eq!(answering(&service, "support@first", None).await, 1);
    assert_eq!(service.metric(broken).await, 0.0);
    rollout.abort();
}

#[tokio::test]
async fn a_split_draws_for_requests_of_nobody_and_keeps_a_user_at_one_version() {
    let service = TestApp::with_store("").await;
    let version = |number: u8| {
        let head = service.head_that_gives(number.into(), true);
        LiveVersion { number: number.into(), artifact: Arc::new(Artifact::Head(Arc::new(head))) }
    };
    let traffic = [(1, 50), (2, 50)].into();
    let pointers = Pointers { production: Some(1), traffic, ..Pointers::default() };
    let versions = vec![version(1), version(2)];
    service.app.tasks.classifiers.set(("", "support"), &[], versions, pointers).unwrap();

    let both = BTreeSet::from([1, 2]);
    let (mut drawn, mut moderated, mut users) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for _ in 0..60 {
        drawn.insert(answering(&service, "support", None).await);
        let body = json!({"model": "support", "input": "Where is my parcel?"});
        let answer = service.post("/v1/moderations", &body).await.ok();
        moderated.insert(version_of(&answer["results"][0]["category_scores"]["refund"]));
    }
    assert_eq!((&drawn, &moderated), (&both, &both));
    for user in 0..20 {
        let user = format!("user {user}");
        let first = answering(&service, "support", Some(&user)).await;
        for _ in 0..5 {
            assert_eq!(answering(&service, "support", Some(&user)).await, first, "{user}");
        }
        users.insert(first);
    }
    assert_eq!(users, both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_read_moves_no_other_versions_users() {
    let service = TestApp::with_store("").await;
    let artifacts = publish(&service, 3).await;
    let rollout = tokio::spawn(Rollout::start(&service.app).await.unwrap().run());
    let split = json!({"1": 50, "2": 50});
    service.ask("", "PUT", &format!("{SUPPORT}/traffic"), split).await.ok();
    let mut users = Vec::new();
    for user in 0..40 {
        let user = format!("user {user}");
        users.push((answering(&service, "support", Some(&user)).await, user));
    }
    let seen: BTreeSet<i64> = users.iter().map(|(version, _)| *version).collect();
    assert_eq!(seen, BTreeSet::from([1, 2]));

    // As a process that starts finds it.
    rollout.abort();
    let _ = rollout.await;
    service.app.tasks.classifiers.remove("", "support");
    let lost = service.app.store().unwrap().blobs().path(&artifacts[0]).await.unwrap();
    std::fs::remove_file(lost).unwrap();
    let rollout = tokio::spawn(Rollout::start(&service.app).await.unwrap().run());
    for (before, user) in users {
        let expected = if before == 1 { 3 } else { 2 };
        assert_eq!(answering(&service, "support", Some(&user)).await, expected, "{user} had {before}");
    }
    rollout.abort();
}

#[tokio::test]
async fn versions_on_a_backbone_that_was_replaced_are_refused_and_newer_ones_answer() {
    let service = TestApp::with_store("").await;
    let set = |kept: &[u32], number: u8, change: &dyn Fn(HeadParts) -> HeadParts| {
        let head = Head::new(change(service.head_that_gives(number.into(), false).into_parts())).unwrap();
        let version =
            LiveVersion { number: number.into(), artifact: Arc::new(Artifact::Head(Arc::new(head))) };
        let pointers = Pointers { production: Some(number.into()), ..Pointers::default() };
        service.app.tasks.classifiers.set(("", "support"), kept, vec![version], pointers).unwrap();
    };
    let narrow = |parts: HeadParts| HeadParts { rows: ndarray::ArcArray2::zeros((2, 8)), ..parts };
    set(&[], 1, &|parts| {
        let mut parts = narrow(parts);
        parts.backbone.sha256 = "0".repeat(64);
        parts
    });
    // Its graph is the same, of which another output was named.
    set(&[1], 2, &narrow);
    set(&[1, 2], 3, &|parts| parts);
    assert_eq!(answering(&service, "support", None).await, 3);
    for models in [json!("support@1"), json!("support@2"), json!(["support@3", "support@2"])] {
        let reply = service.post("/v1/classify", &json!({"model": models, "input": "a"})).await;
        assert_eq!(reply.error(), (503, "not_ready".into(), Some("model".into())), "{models}");
        assert!(reply.message().contains("another backbone has its name now"), "{}", reply.message());
    }
}

#[tokio::test]
async fn what_hugging_faces_body_asks_of_the_scores_is_asked_of_the_version_that_answers() {
    let service = TestApp::with_store("").await;
    let version = |number: u8, multi_label| {
        let head = service.head_that_gives(number.into(), multi_label);
        LiveVersion { number: number.into(), artifact: Arc::new(Artifact::Head(Arc::new(head))) }
    };
    let traffic = [(1, 50), (2, 50)].into();
    let pointers = Pointers { production: Some(1), traffic, ..Pointers::default() };
    let versions = vec![version(1, false), version(2, true)];
    service.app.tasks.classifiers.set(("", "support"), &[], versions, pointers).unwrap();

    for (function, expected) in [("softmax", 1), ("sigmoid", 2)] {
        let body = json!({"inputs": "Where is my parcel?", "parameters": {"function_to_apply": function}});
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            let reply = service.post("/hf/support", &body).await;
            seen.insert(reply.status.as_u16());
            if reply.status != 200 {
                let param = Some("parameters.function_to_apply".to_owned());
                assert_eq!(reply.error(), (400, "invalid_value".into(), param));
                continue;
            }
            let scores = reply.json()[0].as_array().unwrap().clone();
            let refund = scores.iter().find(|score| score["label"] == "refund").unwrap();
            assert_eq!(version_of(&refund["score"]), expected, "{function}: {scores:?}");
        }
        assert_eq!(seen, BTreeSet::from([200, 400]), "{function}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_series_of_a_shadow_go_when_it_ends_or_its_classifier_does() {
    let service = TestApp::with_store("").await;
    publish(&service, 3).await;
    let rollout = tokio::spawn(Rollout::start(&service.app).await.unwrap().run());
    let shadow = async |version: Value| {
        let body = json!({"version": version});
        service.ask("", "PUT", &format!("{SUPPORT}/shadow"), body).await.ok();
        answering(&service, "support", None).await;
        // Whoever looks at the classifier brings nothing back.
        service.get(SUPPORT).await.ok()["shadow"].clone()
    };
    let shown = async || {
        let metrics = service.get("/metrics").await.text();
        let series = metrics.lines().filter(|line| line.starts_with("headstart_shadow_items_total{"));
        series.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    let of = |version: u32| {
        ["agreed", "differed"].map(|outcome| {
            format!("headstart_shadow_items_total{{classifier=\"support@{version}\",outcome=\"{outcome}\"}}")
        })
    };
    assert_eq!(shown().await, Vec::<String>::new());
    assert_eq!(shadow(json!(1)).await, json!({"version": 1, "items": 1, "disagreements": 0}));
    assert_eq!(shown().await, of(1));
    assert_eq!(shadow(json!(2)).await, json!({"version": 2, "items": 1, "disagreements": 0}));
    assert_eq!(shown().await, of(2));
    assert_eq!(shadow(json!(null)).await, json!(null));
    assert_eq!(shown().await, Vec::<String>::new());
    assert_eq!(shadow(json!(2)).await, json!({"version": 2, "items": 1, "disagreements": 0}));
    service.ask("", "DELETE", SUPPORT, Value::Null).await.ok();
    let gone = service.post("/v1/classify", &json!({"model": "support", "input": "a"})).await;
    assert_eq!(gone.error().0, 404);
    assert_eq!(shown().await, Vec::<String>::new());
    rollout.abort();
}
