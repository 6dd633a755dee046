//! Tests of classifiers without a job.

use headstart_store::{Begun, NewPurge, NewRequest, RequestKey, VersionChange};
use headstart_types::Label;
use headstart_types::ids::PurgeId;
use headstart_types::purge::{NamedBy, PurgeDetails, PurgeNamed};

use super::*;

fn wording(backbone: &str) -> Wording {
    Wording {
        labels: ["rain", "sun"].map(Label::from).into(),
        template: None,
        multi_label: false,
        backbone: Backbone { id: backbone.into(), sha256: "00".into() },
    }
}

fn learn(number: u8, label: &str) -> Change {
    let features = vec![f32::from(number), 1.0, -1.0];
    let seen = Seen { features, zero_shot: vec![0.4, 0.6], content: [number; 32] };
    Change::Learn(vec![Labelled { seen, labels: vec![label.to_owned()] }])
}

fn reason() -> Reason {
    Reason { who: "alice".into(), reason: "because".into(), gate: None }
}

/// A purge that makes a version forget an example.
async fn forgetting(store: &Store, grounds: &Grounds, number: u8) -> NewPurge {
    let Base::FewShot { few_shot, shown } = &grounds.base else { panic!("a head") };
    let mut shown = shown.clone();
    assert_eq!(shown.forget(&[[number; 32]]).forgotten, 1);
    let without = few_shot::save(&few_shot.fitted(&shown).unwrap(), &shown).unwrap();
    let named = PurgeNamed { by: NamedBy::Text, file: None, rows: None, sha256: None };
    NewPurge {
        id: PurgeId::new(0, [number; 10]),
        reason: reason(),
        key: None,
        details: PurgeDetails {
            named,
            rows: 0,
            not_found: 0,
            files: Vec::new(),
            examples: Vec::new(),
            jobs: Vec::new(),
            trained_on: Vec::new(),
            unknown: Vec::new(),
            remaining: Vec::new(),
        },
        files: Vec::new(),
        versions: vec![VersionChange {
            classifier: grounds.version.classifier.clone(),
            revision: grounds.revision,
            number: grounds.version.number,
            from: grounds.version.artifact.clone(),
            to: store.blobs().put(&without).await.unwrap().sha256,
            metrics: json!({}),
        }],
        reports: Vec::new(),
        evidence: Vec::new(),
    }
}

async fn held(store: &Store, id: &ClassifierId) -> Vec<Content> {
    let Base::FewShot { shown, .. } = grounds(store, id).await.unwrap().base else { panic!("a head") };
    shown.contents().to_vec()
}

#[tokio::test]
async fn what_is_purged_while_examples_are_looked_at_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (id, why) = (ClassifierId { key: "alice".into(), name: "weather".into() }, reason());
    create(&store, &id, &FewShot::new(wording("b")), &why).await.unwrap();
    for (number, label) in [(1, "sun"), (2, "rain")] {
        let at_hand = grounds(&store, &id).await.unwrap();
        change(&store, &id, at_hand, learn(number, label), &why, None).await.unwrap();
    }
    let looked_at = grounds(&store, &id).await.unwrap();
    let purge = forgetting(&store, &looked_at, 1).await;
    assert!(store.purge(&purge, 0).await.unwrap());
    let outcome = change(&store, &id, looked_at, learn(3, "sun"), &why, None).await.unwrap();
    assert_eq!((outcome.version, held(&store, &id).await), (4, vec![[2; 32], [3; 32]]));
}

#[tokio::test]
async fn others_of_the_thread_go_on_while_an_artifact_of_many_examples_is_read() {
    let mut shown = Shown::none(2);
    let example = |number: u16| Example {
        features: vec![f32::from(number); 256],
        zero_shot: vec![0.4, 0.6],
        labels: vec![u32::from(number % 2)],
        content: std::array::from_fn(|byte| number.to_le_bytes()[byte % 2]),
    };
    shown.add((0..4000).map(example).collect()).unwrap();
    let bytes = few_shot::save(&FewShot::new(wording("b")), &shown).unwrap();
    assert!(bytes.len() > 2 << 20);
    let other = tokio::spawn(async {});
    let Base::FewShot { shown, .. } = parsed(bytes, "weather@1".into()).await.unwrap() else {
        panic!("a head")
    };
    assert!(other.is_finished(), "the only thread was busy with it");
    assert_eq!(shown.len(), 4000);
}

#[tokio::test]
async fn what_was_seen_by_another_backbone_is_not_learned() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (id, why) = (ClassifierId { key: "alice".into(), name: "weather".into() }, reason());
    create(&store, &id, &FewShot::new(wording("b")), &why).await.unwrap();
    let looked_at = grounds(&store, &id).await.unwrap();
    let other = FewShot::new(wording("c"));
    let bytes = few_shot::save(&other, &Shown::none(2)).unwrap();
    let expected = (Expected::Any, &why);
    publish(&store, &id, other.wording().backbone.clone(), bytes, json!({}), expected, None).await.unwrap();
    let late = change(&store, &id, looked_at, learn(1, "sun"), &why, None).await;
    assert!(matches!(late, Err(FewShotError::Store(StoreError::Conflict(_)))));
    assert!(held(&store, &id).await.is_empty());
}

#[tokio::test]
async fn examples_are_learned_once_under_an_idempotency_key_wherever_their_request_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (id, why) = (ClassifierId { key: "alice".into(), name: "weather".into() }, reason());
    create(&store, &id, &FewShot::new(wording("b")), &why).await.unwrap();
    let key = RequestKey { key: "alice".into(), route: "examples".into(), token: "t".into() };
    let new = NewRequest { key: &key, fingerprint: "body", resource: "", hold_ms: 10, keep_ms: 60_000 };
    let begin = async || store.begin(new, now_ms()).await.unwrap();
    let ticket = async || {
        let Begun::Fresh(ticket) = begin().await else { panic!("it is held") };
        ticket
    };
    let answer = |outcome: &Outcome| Some(StoredAnswer { status: 200, body: outcome.version.to_string() });
    let learned = async |ticket: &Ticket| {
        let at_hand = grounds(&store, &id).await.unwrap();
        change(&store, &id, at_hand, learn(1, "sun"), &why, Some((ticket, &answer))).await
    };

    // One that took so long that another took over changes nothing.
    let late = ticket().await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let second = ticket().await;
    let refused = learned(&late).await;
    assert!(matches!(refused, Err(FewShotError::Store(StoreError::Conflict(_)))));
    assert!(held(&store, &id).await.is_empty());

    // Cut off behind the version: who asks again finds the answer.
    assert_eq!(learned(&second).await.unwrap().version, 2);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let stored = StoredAnswer { status: 200, body: "2".into() };
    assert_eq!(begin().await, Begun::Answered(stored.clone()));
    assert_eq!(store.classifier(&id).await.unwrap().last_version, 2);
    // Not cut off, it is told once more, and nothing else can be.
    store.complete(&second, &stored).await.unwrap();
    let other = StoredAnswer { status: 200, body: "3".into() };
    assert!(store.complete(&second, &other).await.is_err());
    assert_eq!(begin().await, Begun::Answered(stored));
}
