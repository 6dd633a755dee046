//! Versions that answer as the registry says: beside some that cannot be read, and each with its share of a split.

use std::collections::BTreeSet;
use std::sync::Arc;

use headstart::clock::now_ms;
use headstart::rollout::Rollout;
use headstart_methods::artifact::{self, Artifact};
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
