//! Versions, pointers and audit rows.

use std::collections::BTreeMap;

use headstart_store::{Ending, Expected, Order, PageRequest, Published, Scope, Store, StoreError, When};
use headstart_types::classifier::{ClassifierId, NewVersion, Origin, Reason};
use headstart_types::job::{JobState, NewEvent};
use serde_json::json;

use crate::support::{T, claim, contract, digest, intent, job, reason, version};

contract!(
    finishing_a_job_writes_version_state_and_event_together,
    the_first_version_is_promoted_and_later_ones_wait,
    a_jobs_version_takes_productions_place_where_it_is_asked_for,
    of_two_first_jobs_that_the_gate_lets_through_unseen_the_later_is_compared,
    a_version_that_a_gate_refused_waits_and_is_written_down,
    promotion_and_rollback_move_one_pointer_and_are_written_down,
    a_promotion_after_production_has_moved_is_a_conflict,
    traffic_shadow_and_aliases_name_versions_that_exist,
    a_history_has_each_step_back_once_and_no_more_than_it_may,
    what_has_changed_since_it_was_looked_at_is_neither_deleted_nor_rolled_back,
    a_version_in_use_stays,
    a_deleted_classifiers_numbers_are_not_used_again,
    examples_make_versions_that_answer_at_once,
    a_version_published_in_between_is_a_conflict,
    keys_do_not_share_names,
);

/// Runs a job to its version.
async fn trained(store: &Store, now: i64) -> u32 {
    job(store, "alice", now).await;
    let (lease, _) = claim(store, "w", now).await;
    store.finish(&lease, &version(), Some(&digest("b1")), now).await.unwrap().version.number
}

async fn finishing_a_job_writes_version_state_and_event_together(store: Store) {
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "w", T).await;
    store.put_step(&lease, "features", &digest("11"), T).await.unwrap();
    let done = store.finish(&lease, &version(), Some(&digest("b1")), T + 9).await.unwrap();
    assert!(done.promoted);
    assert_eq!(done.version.model_name(), "intent@1");
    assert_eq!(done.version.job.as_ref(), Some(&made.id));
    assert_eq!(done.version.training_file.as_ref(), Some(&made.training_file));
    assert_eq!((&done.version.artifact, done.version.created_at), (&digest("a1"), T + 9));
    assert_eq!(store.version(&intent(), 1).await.unwrap(), done.version);
    let over = store.job(Scope::All, &made.id).await.unwrap();
    assert_eq!((over.state, over.fine_tuned_model.as_deref()), (JobState::Succeeded, Some("intent@1")));
    assert_eq!((over.report, over.finished_at), (Some(digest("b1")), Some(T + 9)));
    let events = store.events(&made.id, &PageRequest::newest(1)).await.unwrap().data;
    assert!(events[0].message.contains("succeeded"));
    assert!(store.steps(&made.id).await.unwrap().is_empty());
    assert!(matches!(store.finish(&lease, &version(), None, T).await, Err(StoreError::LeaseLost(_))));
    assert_eq!(store.versions(&intent(), &PageRequest::newest(9)).await.unwrap().data.len(), 1);
}

async fn the_first_version_is_promoted_and_later_ones_wait(store: Store) {
    assert_eq!(trained(&store, T).await, 1);
    assert_eq!(trained(&store, T + 1).await, 2);
    let classifier = store.classifier(&intent()).await.unwrap();
    assert_eq!((classifier.production, classifier.last_version), (Some(1), 2));
    assert_eq!(classifier.created_at, T);
    let audits = store.audits(&intent(), &PageRequest::newest(9)).await.unwrap().data;
    assert_eq!(audits.len(), 1);
    assert_eq!((audits[0].action.as_str(), audits[0].from, audits[0].to), ("publish", None, Some(1)));
}

/// Runs a job to an end that has a say in production.
async fn ended(store: &Store, ending: &Ending, now: i64) -> Result<Published, StoreError> {
    job(store, "alice", now).await;
    let (lease, _) = claim(store, "w", now).await;
    let version = NewVersion { evidence: Some(digest("e1")), ..version() };
    store.finish_with(&lease, &version, None, ending, now).await
}

async fn a_jobs_version_takes_productions_place_where_it_is_asked_for(store: Store) {
    let always = Ending { promote: true, ..Ending::default() };
    assert!(ended(&store, &always, T).await.unwrap().promoted, "the first in any case");
    assert!(ended(&store, &always, T).await.unwrap().promoted);
    store.set_traffic(&intent(), &BTreeMap::from([(1, 50), (2, 50)]), &reason(), T).await.unwrap();
    let gated = Ending {
        expected: Expected::Revision(store.classifier(&intent()).await.unwrap().revision),
        gate: Some(json!({"p": 0.5})),
        event: Some(NewEvent::info("not worse")),
        ..always.clone()
    };
    let third = ended(&store, &gated, T + 1).await.unwrap();
    assert_eq!((third.promoted, third.version.evidence), (true, Some(digest("e1"))));
    let classifier = store.classifier(&intent()).await.unwrap();
    assert_eq!((classifier.production, &classifier.history), (Some(3), &vec![1, 2]));
    assert!(classifier.traffic.is_empty());
    let audits = store.audits(&intent(), &PageRequest::newest(1)).await.unwrap().data;
    assert_eq!((audits[0].action.as_str(), audits[0].from, audits[0].to), ("publish", Some(2), Some(3)));
    assert_eq!(audits[0].gate, gated.gate);
    let events = store.events(&third.version.job.unwrap(), &PageRequest::newest(2)).await.unwrap().data;
    assert!(events[0].message.contains("succeeded") && events[1].message == "not worse", "{events:?}");
    // The gate looked at another production: nothing is written, and the job goes on.
    let late = ended(&store, &gated, T + 2).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    assert_eq!(store.classifier(&intent()).await.unwrap().last_version, 3);
}

async fn of_two_first_jobs_that_the_gate_lets_through_unseen_the_later_is_compared(store: Store) {
    let unseen = Ending { expected: Expected::New, ..Ending::default() };
    assert!(ended(&store, &unseen, T).await.unwrap().promoted);
    let late = ended(&store, &unseen, T + 1).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    assert_eq!(store.classifier(&intent()).await.unwrap().last_version, 1);
    // A deleted one is none; its numbers go on.
    store.delete_classifier(&intent(), Expected::Any, &reason(), T + 2).await.unwrap();
    let again = ended(&store, &unseen, T + 3).await.unwrap();
    assert_eq!((again.promoted, again.version.number), (true, 2));
}

async fn a_version_that_a_gate_refused_waits_and_is_written_down(store: Store) {
    trained(&store, T).await;
    let expected = Expected::Revision(store.classifier(&intent()).await.unwrap().revision);
    let refused = Ending { expected, gate: Some(json!({"p": 0.01})), ..Ending::default() };
    assert!(!ended(&store, &refused, T).await.unwrap().promoted);
    let why = Reason { gate: Some(json!({"p": 0.02})), ..reason() };
    store.refuse(&intent(), &why, T + 1).await.unwrap();
    let classifier = store.classifier(&intent()).await.unwrap();
    assert_eq!((classifier.production, classifier.last_version, classifier.history.len()), (Some(1), 2, 0));
    let audits = store.audits(&intent(), &PageRequest::newest(9)).await.unwrap().data;
    let told: Vec<_> = audits.iter().map(|row| (row.number, row.action.as_str(), row.from, row.to)).collect();
    assert_eq!(
        told,
        [(3, "refuse", Some(1), Some(1)), (2, "refuse", Some(1), Some(1)), (1, "publish", None, Some(1))]
    );
    assert_eq!((&audits[0].gate, &audits[1].gate), (&why.gate, &refused.gate));
}

async fn promotion_and_rollback_move_one_pointer_and_are_written_down(store: Store) {
    for number in 0..3 {
        trained(&store, T + number).await;
    }
    let id = intent();
    store.promote(&id, 2, None, &reason(), T + 10).await.unwrap();
    let promoted = store.promote(&id, 3, Some(2), &reason(), T + 11).await.unwrap();
    assert_eq!((promoted.production, &promoted.history), (Some(3), &vec![1, 2]));
    assert_eq!(store.classifier(&id).await.unwrap(), promoted);
    assert_eq!(store.rollback(&id, Expected::Any, &reason(), T + 12).await.unwrap().production, Some(2));
    assert_eq!(store.rollback(&id, Expected::Any, &reason(), T + 13).await.unwrap().production, Some(1));
    assert!(matches!(store.rollback(&id, Expected::Any, &reason(), T).await, Err(StoreError::Conflict(_))));
    assert!(matches!(store.promote(&id, 9, None, &reason(), T).await, Err(StoreError::NotFound { .. })));
    let oldest = PageRequest { after: Some(1), limit: 9, order: Order::Ascending };
    let audits = store.audits(&id, &oldest).await.unwrap().data;
    let moves: Vec<_> = audits.iter().map(|row| (row.action.as_str(), row.from, row.to)).collect();
    let (promote, rollback) = ("promote", "rollback");
    assert_eq!(
        moves,
        [
            (promote, Some(1), Some(2)),
            (promote, Some(2), Some(3)),
            (rollback, Some(3), Some(2)),
            (rollback, Some(2), Some(1))
        ]
    );
    assert_eq!((audits[0].number, audits[0].created_at, audits[0].who.as_str()), (2, T + 10, "alice"));
    assert_eq!((audits[0].reason.as_str(), &audits[0].gate), ("because", &reason().gate));
}

async fn a_promotion_after_production_has_moved_is_a_conflict(store: Store) {
    for number in 0..3 {
        trained(&store, T + number).await;
    }
    store.promote(&intent(), 2, Some(1), &reason(), T).await.unwrap();
    let late = store.promote(&intent(), 3, Some(1), &reason(), T).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    assert_eq!(store.classifier(&intent()).await.unwrap().production, Some(2));
}

async fn traffic_shadow_and_aliases_name_versions_that_exist(store: Store) {
    trained(&store, T).await;
    trained(&store, T + 1).await;
    let (id, why) = (intent(), reason());
    for wrong in [vec![(1, 99)], vec![(1, 60), (2, 60)], vec![(1, 100), (2, 0)]] {
        let refused = store.set_traffic(&id, &BTreeMap::from_iter(wrong), &why, T).await;
        assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
    }
    let unknown = store.set_traffic(&id, &BTreeMap::from([(1, 50), (7, 50)]), &why, T).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })));
    let split = BTreeMap::from([(1, 90), (2, 10)]);
    assert_eq!(store.set_traffic(&id, &split, &why, T).await.unwrap().traffic, split);
    assert!(matches!(store.set_shadow(&id, Some(3), &why, T).await, Err(StoreError::NotFound { .. })));
    store.set_shadow(&id, Some(2), &why, T).await.unwrap();
    store.set_alias(&id, "candidate", Some(2), &why, T).await.unwrap();
    for wrong in ["", "12", "a@b"] {
        let refused = store.set_alias(&id, wrong, Some(1), &why, T).await;
        assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{wrong}");
    }
    let classifier = store.classifier(&id).await.unwrap();
    assert_eq!((classifier.shadow, classifier.aliases.get("candidate")), (Some(2), Some(&2)));
    // A promotion answers all requests again.
    assert!(store.promote(&id, 2, None, &why, T).await.unwrap().traffic.is_empty());
    assert_eq!(store.set_shadow(&id, None, &why, T).await.unwrap().shadow, None);
    assert!(store.set_alias(&id, "candidate", None, &why, T).await.unwrap().aliases.is_empty());
    assert!(matches!(
        store.set_alias(&id, "candidate", None, &why, T).await,
        Err(StoreError::NotFound { .. })
    ));
}

async fn a_history_has_each_step_back_once_and_no_more_than_it_may(store: Store) {
    for _ in 0..3 {
        trained(&store, T).await;
    }
    let back =
        async || store.rollback(&intent(), Expected::Any, &reason(), T).await.map(|now| now.production);
    store.promote(&intent(), 2, None, &reason(), T).await.unwrap();
    store.promote(&intent(), 2, None, &reason(), T).await.unwrap();
    assert_eq!(back().await.unwrap(), Some(1), "promoted again, it is no step");
    assert!(matches!(back().await, Err(StoreError::Conflict(_))));
    // 1, 2, 1, 3: without 2 there is one step from 3 to 1, and none from 1 to 1.
    for number in [2, 1, 3] {
        store.promote(&intent(), number, None, &reason(), T).await.unwrap();
    }
    store.delete_version(&intent(), 2, &reason(), T).await.unwrap();
    assert_eq!(back().await.unwrap(), Some(1));
    assert!(matches!(back().await, Err(StoreError::Conflict(_))));
    // 1, 3, 1, 4, 1: without 4 the step back leads to 3, without 3 from 1 to 1, which is none.
    for number in [3, 1] {
        store.promote(&intent(), number, None, &reason(), T).await.unwrap();
    }
    let fourth = trained(&store, T).await;
    store.promote(&intent(), fourth, None, &reason(), T).await.unwrap();
    store.promote(&intent(), 1, None, &reason(), T).await.unwrap();
    store.delete_version(&intent(), fourth, &reason(), T).await.unwrap();
    assert_eq!(back().await.unwrap(), Some(3));
    store.promote(&intent(), 1, None, &reason(), T).await.unwrap();
    store.delete_version(&intent(), 3, &reason(), T).await.unwrap();
    assert!(matches!(back().await, Err(StoreError::Conflict(_))), "nothing would change");
    trained(&store, T).await;
    for _ in 0..200 {
        store.promote(&intent(), 5, None, &reason(), T).await.unwrap();
        store.promote(&intent(), 1, None, &reason(), T).await.unwrap();
    }
    assert_eq!(store.classifier(&intent()).await.unwrap().history.len(), 100);
}

async fn what_has_changed_since_it_was_looked_at_is_neither_deleted_nor_rolled_back(store: Store) {
    trained(&store, T).await;
    trained(&store, T).await;
    store.promote(&intent(), 2, None, &reason(), T).await.unwrap();
    let seen = Expected::Revision(store.classifier(&intent()).await.unwrap().revision);
    trained(&store, T).await;
    let deleted = store.delete_classifier(&intent(), seen, &reason(), T).await;
    assert!(matches!(deleted, Err(StoreError::Conflict(_))), "{deleted:?}");
    let back = store.rollback(&intent(), seen, &reason(), T).await;
    assert!(matches!(back, Err(StoreError::Conflict(_))), "{back:?}");
    let seen = Expected::Revision(store.classifier(&intent()).await.unwrap().revision);
    assert_eq!(store.rollback(&intent(), seen, &reason(), T).await.unwrap().production, Some(1));
    assert!(store.rollback(&intent(), seen, &reason(), T).await.is_err(), "it is done once");
    store.delete_version(&intent(), 3, &reason(), T).await.unwrap();
    let seen = Expected::Revision(store.classifier(&intent()).await.unwrap().revision);
    store.delete_classifier(&intent(), seen, &reason(), T).await.unwrap();
    let audits = store.audits(&intent(), &PageRequest::newest(2)).await.unwrap().data;
    let actions: Vec<&str> = audits.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(actions, ["delete", "delete_version"]);
}

async fn a_version_in_use_stays(store: Store) {
    for number in 0..4 {
        trained(&store, T + number).await;
    }
    let (id, why) = (intent(), reason());
    store.set_shadow(&id, Some(2), &why, T).await.unwrap();
    store.set_alias(&id, "old", Some(3), &why, T).await.unwrap();
    store.set_alias(&id, "oldest", Some(3), &why, T).await.unwrap();
    store.set_traffic(&id, &BTreeMap::from([(1, 50), (2, 50)]), &why, T).await.unwrap();
    for (number, uses) in [
        (1, "production, a part of the traffic split"),
        (2, "a part of the traffic split, shadow"),
        (3, "alias `old`, alias `oldest`"),
    ] {
        let refused = store.delete_version(&id, number, &why, T).await.unwrap_err().to_string();
        assert_eq!(refused, format!("version `intent@{number}` is in use as {uses}"));
    }
    store.promote(&id, 4, None, &why, T).await.unwrap();
    assert!(store.delete_version(&id, 1, &why, T).await.unwrap().history.is_empty());
    assert!(matches!(store.version(&id, 1).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.rollback(&id, Expected::Any, &why, T).await, Err(StoreError::Conflict(_))));
    assert_eq!(trained(&store, T + 9).await, 5);
}

async fn a_deleted_classifiers_numbers_are_not_used_again(store: Store) {
    trained(&store, T).await;
    trained(&store, T).await;
    store.delete_classifier(&intent(), Expected::Any, &reason(), T + 1).await.unwrap();
    assert!(matches!(store.classifier(&intent()).await, Err(StoreError::NotFound { .. })));
    assert!(store.classifiers(Scope::All, None, 9).await.unwrap().data.is_empty());
    assert!(store.versions(&intent(), &PageRequest::newest(9)).await.unwrap().data.is_empty());
    assert!(matches!(
        store.delete_classifier(&intent(), Expected::Any, &reason(), T).await,
        Err(StoreError::NotFound { .. })
    ));
    assert_eq!(trained(&store, T + 2).await, 3);
    let again = store.classifier(&intent()).await.unwrap();
    assert_eq!((again.production, again.created_at), (Some(3), T + 2));
    assert!(again.history.is_empty());
    let audits = store.audits(&intent(), &PageRequest::newest(9)).await.unwrap().data;
    let actions: Vec<&str> = audits.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(actions, ["publish", "delete", "publish"]);
}

fn examples(digits: &str) -> NewVersion {
    NewVersion {
        origin: Origin::Examples,
        artifact: digest(digits),
        report: None,
        evidence: None,
        ..version()
    }
}

async fn examples_make_versions_that_answer_at_once(store: Store) {
    let (id, why) = (intent(), reason());
    let first = store.publish(&id, &examples("01"), When::Always, Expected::New, &why, T).await.unwrap();
    assert!(first.promoted);
    assert_eq!((first.version.origin, &first.version.job), (Origin::Examples, &None));
    let read = Expected::Revision(store.classifier(&id).await.unwrap().revision);
    let second = store.publish(&id, &examples("02"), When::Always, read, &why, T).await.unwrap();
    assert!(second.promoted);
    let third = store.publish(&id, &examples("03"), When::First, Expected::Any, &why, T).await.unwrap();
    assert!(!third.promoted);
    let classifier = store.classifier(&id).await.unwrap();
    assert_eq!((classifier.production, &classifier.history), (Some(2), &vec![1]));
    let audits = store.audits(&id, &PageRequest::newest(9)).await.unwrap().data;
    assert_eq!(
        audits.iter().map(|row| (row.from, row.to)).collect::<Vec<_>>(),
        [(Some(1), Some(2)), (None, Some(1))]
    );
    let unnamed = ClassifierId { key: "alice".into(), name: "a@b".into() };
    let refused = store.publish(&unnamed, &examples("01"), When::First, Expected::Any, &why, T).await;
    assert!(matches!(refused, Err(StoreError::Invalid { field: "name", .. })));
}

async fn a_version_published_in_between_is_a_conflict(store: Store) {
    let (id, why) = (intent(), reason());
    store.publish(&id, &examples("01"), When::Always, Expected::New, &why, T).await.unwrap();
    let twice = store.publish(&id, &examples("02"), When::Always, Expected::New, &why, T).await;
    assert!(matches!(twice, Err(StoreError::Conflict(_))), "{twice:?}");
    // So is a pointer that moved: what was made of one version is not put over another.
    let read = Expected::Revision(store.classifier(&id).await.unwrap().revision);
    store.promote(&id, 1, None, &why, T).await.unwrap();
    let late = store.publish(&id, &examples("02"), When::Always, read, &why, T).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    // Many at once: each is written, none twice, none lost.
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (store, id, why) = (store.clone(), id.clone(), why.clone());
            tokio::spawn(async move {
                store.publish(&id, &examples("03"), When::Always, Expected::Any, &why, T).await
            })
        })
        .collect();
    let mut numbers = Vec::new();
    for writer in writers {
        numbers.push(writer.await.unwrap().unwrap().version.number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=9).collect::<Vec<u32>>());
    assert_eq!(store.classifier(&id).await.unwrap().history, (1..=8).collect::<Vec<u32>>());
}

async fn keys_do_not_share_names(store: Store) {
    trained(&store, T).await;
    let other = ClassifierId { key: "bob".into(), ..intent() };
    assert!(matches!(store.classifier(&other).await, Err(StoreError::NotFound { .. })));
    store.publish(&other, &examples("01"), When::First, Expected::Any, &reason(), T).await.unwrap();
    let third = ClassifierId { key: "alice".into(), name: "topic".into() };
    store.publish(&third, &examples("01"), When::First, Expected::Any, &reason(), T).await.unwrap();
    let own = store.classifiers(Scope::Key("bob"), None, 9).await.unwrap().data;
    assert_eq!(own.iter().map(|classifier| &classifier.id).collect::<Vec<_>>(), [&other]);
    let page = store.classifiers(Scope::All, Some(&intent()), 1).await.unwrap();
    assert_eq!((&page.data[0].id, page.has_more), (&third, true));
    let page = store.classifiers(Scope::All, Some(&third), 1).await.unwrap();
    assert_eq!((&page.data[0].id, page.has_more), (&other, false));
}
