//! Acts: whatever changes the registry is in one list, and only that.

use headstart_store::{Expected, NewPurge, Order, PageRequest, Scope, Store, StoreError, When};
use headstart_types::ids::PurgeId;
use headstart_types::key::NewAct;
use headstart_types::purge::{NamedBy, PurgeDetails, PurgeNamed};
use serde_json::json;

use crate::support::{T, chance, contract, file, intent, job_on, reason, version};

contract!(
    what_is_done_to_the_registry_is_an_act_of_who_did_it,
    what_is_refused_is_no_act,
    acts_are_listed_in_pages_and_by_doer,
    acts_are_forgotten_by_age_and_numbers_are_not_given_again,
);

fn act(who: &str, subject: &str) -> NewAct {
    NewAct { who: who.into(), action: "model.load".into(), subject: subject.into(), details: json!({}) }
}

/// Who did what to what, oldest first.
async fn told(store: &Store) -> Vec<String> {
    let page = PageRequest { after: None, limit: 100, order: Order::Ascending };
    let acts = store.acts(None, &page).await.unwrap();
    acts.data.iter().map(|row| format!("{} {} {}", row.act.who, row.act.action, row.act.subject)).collect()
}

async fn what_is_done_to_the_registry_is_an_act_of_who_did_it(store: Store) {
    let row = file(&store, "alice", T).await;
    for _ in 0..2 {
        store.publish(&intent(), &version(), When::Always, Expected::Any, &reason(), T).await.unwrap();
    }
    store.rollback(&intent(), Expected::Any, &reason(), T).await.unwrap();
    let purge = PurgeId::new(T, chance());
    let named = PurgeNamed { by: NamedBy::Text, file: None, rows: None, sha256: None };
    let details = PurgeDetails {
        named,
        rows: 0,
        not_found: 0,
        files: Vec::new(),
        examples: Vec::new(),
        jobs: Vec::new(),
        trained_on: Vec::new(),
        unknown: Vec::new(),
        remaining: Vec::new(),
    };
    let whole = NewPurge {
        id: purge.clone(),
        reason: reason(),
        key: None,
        details,
        files: Vec::new(),
        versions: Vec::new(),
        reports: Vec::new(),
        evidence: Vec::new(),
    };
    assert!(store.purge(&whole, T).await.unwrap());
    store.delete_file(Scope::All, &row.id, &reason(), T).await.unwrap();
    store.note(&act("root", "resnet"), T).await.unwrap();
    let wanted = [
        "alice classifier.publish alice/intent".to_owned(),
        "alice classifier.publish alice/intent".to_owned(),
        "alice classifier.rollback alice/intent".to_owned(),
        format!("alice purge.create {purge}"),
        format!("alice file.delete {}", row.id),
        "root model.load resnet".to_owned(),
    ];
    assert_eq!(told(&store).await, wanted);
    let newest = store.acts(None, &PageRequest::newest(4)).await.unwrap();
    assert_eq!(newest.data[3].act.details, json!({"before": 2, "after": 1, "reason": "because"}));
}

async fn what_is_refused_is_no_act(store: Store) {
    let row = file(&store, "alice", T).await;
    store.create_job(&job_on(&row.id, "alice", T), 10, T).await.unwrap();
    let refused = store.delete_file(Scope::All, &row.id, &reason(), T).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))));
    assert!(store.rollback(&intent(), Expected::Any, &reason(), T).await.is_err());
    assert!(told(&store).await.is_empty());
}

async fn acts_are_listed_in_pages_and_by_doer(store: Store) {
    for number in 0..5 {
        let who = if number % 2 == 0 { "anna" } else { "bert" };
        store.note(&act(who, &format!("m{number}")), T + number).await.unwrap();
    }
    let first = store.acts(None, &PageRequest::newest(3)).await.unwrap();
    assert!(first.has_more);
    let page = PageRequest { after: Some(first.data[2].number), limit: 3, order: Order::Descending };
    let second = store.acts(None, &page).await.unwrap();
    let subjects: Vec<&str> =
        first.data.iter().chain(&second.data).map(|row| row.act.subject.as_str()).collect();
    assert_eq!(subjects, ["m4", "m3", "m2", "m1", "m0"]);
    let berts = store.acts(Some("bert"), &PageRequest::newest(10)).await.unwrap();
    assert_eq!(berts.data.len(), 2);
}

async fn acts_are_forgotten_by_age_and_numbers_are_not_given_again(store: Store) {
    for now in [T, T + 1, T + 2] {
        store.note(&act("anna", "m"), now).await.unwrap();
    }
    assert_eq!(store.forget_acts(T + 2).await.unwrap(), 2);
    assert_eq!(store.forget_acts(T + 3).await.unwrap(), 1);
    store.note(&act("anna", "m"), T + 4).await.unwrap();
    let left = store.acts(None, &PageRequest::newest(10)).await.unwrap();
    assert_eq!(left.data.iter().map(|row| row.number).collect::<Vec<_>>(), [4]);
    // The audit of a classifier says the same, and is forgotten with it.
    for now in [T + 10, T + 20] {
        store.publish(&intent(), &version(), When::Always, Expected::Any, &reason(), now).await.unwrap();
    }
    store.forget_acts(T + 20).await.unwrap();
    store.rollback(&intent(), Expected::Any, &reason(), T + 30).await.unwrap();
    let audits = store.audits(&intent(), &PageRequest::newest(10)).await.unwrap().data;
    let told: Vec<_> = audits.iter().map(|row| (row.number, row.action.as_str())).collect();
    assert_eq!(told, [(3, "rollback"), (2, "publish")]);
}
