//! File rows: quota, lists, retention, and what keeps a file.

use headstart_store::{Expected, FileFilter, Order, PageRequest, Scope, Store, StoreError};
use headstart_types::classifier::ClassifierId;
use headstart_types::file::FileState;
use headstart_types::ids::FileId;
use headstart_types::job::Checkpoint;
use serde_json::json;

use crate::support::{T, claim, contract, digest, file, file_of, intent, job, job_on, reason, version};

contract!(
    a_file_comes_back_as_it_was_written,
    a_key_keeps_within_its_bytes,
    files_are_listed_by_purpose_in_pages_either_way,
    a_file_in_use_stays_until_its_job_is_over,
    deleting_a_file_names_what_was_trained_on_it,
    checkpoints_are_named_with_their_file_and_go_with_their_classifier,
    files_whose_time_is_over_go_once_unless_somebody_uses_them,
);

async fn a_file_comes_back_as_it_was_written(store: Store) {
    let mut row = file_of("alice", 1 << 40, T);
    row.filename = "Übung \"1\".jsonl".into();
    row.state = FileState::Error;
    row.status_details = Some("3 problems".into());
    row.problems = json!([{"line": 3, "code": "no_label", "message": "has no label"}]);
    row.expires_at = Some(T + 1);
    store.create_file(&row, u64::MAX).await.unwrap();
    assert_eq!(store.file(Scope::Key("alice"), &row.id).await.unwrap(), row);
    assert!(matches!(store.file(Scope::Key("bob"), &row.id).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.create_file(&row, u64::MAX).await, Err(StoreError::Conflict(_))));
}

async fn a_key_keeps_within_its_bytes(store: Store) {
    store.create_file(&file_of("alice", 60, T), 100).await.unwrap();
    let refused = store.create_file(&file_of("alice", 41, T), 100).await;
    assert!(matches!(refused, Err(StoreError::Quota { used: 60, limit: 100, needed: 41 })), "{refused:?}");
    store.create_file(&file_of("alice", 40, T), 100).await.unwrap();
    store.create_file(&file_of("bob", 100, T), 100).await.unwrap();
    assert_eq!(store.bytes_used("alice").await.unwrap(), 100);
    assert_eq!(store.bytes_used("nobody").await.unwrap(), 0);
}

async fn files_are_listed_by_purpose_in_pages_either_way(store: Store) {
    let mut ids = Vec::new();
    for number in 0..5 {
        let mut row = file_of("alice", 1, T + number);
        row.purpose = if number == 2 { "user_data".into() } else { "fine-tune".into() };
        store.create_file(&row, u64::MAX).await.unwrap();
        ids.push(row.id);
    }
    file(&store, "bob", T).await;
    let list = async |order, after: Option<FileId>, purpose: Option<&str>| {
        let filter = FileFilter { purpose: purpose.map(Into::into) };
        let page = PageRequest { after, limit: 3, order };
        let page = store.files(Scope::Key("alice"), &filter, &page).await.unwrap();
        (page.data.into_iter().map(|row| row.id).collect::<Vec<_>>(), page.has_more)
    };
    let reversed: Vec<FileId> = ids.iter().rev().cloned().collect();
    assert_eq!(list(Order::Descending, None, None).await, (reversed[..3].to_vec(), true));
    let after = Some(reversed[2].clone());
    // The client may delete what it has read: the next page does not need it.
    store.delete_file(Scope::All, &reversed[2], &reason(), T).await.unwrap();
    assert_eq!(list(Order::Descending, after, None).await, (reversed[3..].to_vec(), false));
    assert_eq!(list(Order::Ascending, None, Some("fine-tune")).await.0, [0, 1, 3].map(|n| ids[n].clone()));
}

async fn a_file_in_use_stays_until_its_job_is_over(store: Store) {
    let (training, validation) = (file(&store, "alice", T).await, file(&store, "alice", T).await);
    let mut new = job_on(&training.id, "alice", T);
    new.validation_file = Some(validation.id.clone());
    let made = store.create_job(&new, 10, T).await.unwrap();
    for id in [&training.id, &validation.id] {
        let refused = store.delete_file(Scope::Key("alice"), id, &reason(), T).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    }
    let foreign = store.delete_file(Scope::Key("bob"), &training.id, &reason(), T).await;
    assert!(matches!(foreign, Err(StoreError::NotFound { .. })));
    store.cancel(Scope::All, &made.id, T).await.unwrap();
    let deleted = store.delete_file(Scope::Key("alice"), &training.id, &reason(), T).await.unwrap();
    assert_eq!((deleted.file.id, deleted.versions), (training.id.clone(), Vec::new()));
    assert!(matches!(store.file(Scope::All, &training.id).await, Err(StoreError::NotFound { .. })));
}

async fn deleting_a_file_names_what_was_trained_on_it(store: Store) {
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "w", T).await;
    store.finish(&lease, &version(), None, T).await.unwrap();
    let left = store.delete_job(Scope::All, &made.id, &reason(), T).await.unwrap();
    assert_eq!(left.iter().map(|version| version.model_name()).collect::<Vec<_>>(), ["intent@1"]);
    assert!(store.jobs_of(&left[0].classifier).await.unwrap().is_empty());
    let deleted = store.delete_file(Scope::All, &made.training_file, &reason(), T).await.unwrap();
    let names: Vec<String> = deleted.versions.iter().map(|version| version.model_name()).collect();
    assert_eq!(names, ["intent@1"]);
}

async fn checkpoints_are_named_with_their_file_and_go_with_their_classifier(store: Store) {
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "w", T).await;
    store.put_checkpoint(&lease, 40, &digest("c1"), &json!({}), T).await.unwrap();
    store.finish(&lease, &version(), None, T).await.unwrap();
    let runs = job(&store, "alice", T + 1).await;
    let (lease, _) = claim(&store, "w", T + 1).await;
    store.put_checkpoint(&lease, 2, &digest("c2"), &json!({}), T).await.unwrap();
    let deleted = store.delete_file(Scope::All, &made.training_file, &reason(), T).await.unwrap();
    let names = |found: Vec<(ClassifierId, Checkpoint)>| {
        found.iter().map(|(id, checkpoint)| checkpoint.model_name(&id.name)).collect::<Vec<_>>()
    };
    let name = format!("intent:{}:ckpt-step-40", made.id.tail());
    let trained = names(store.checkpoints_on_deleted(Scope::Key("alice")).await.unwrap());
    assert_eq!((names(deleted.checkpoints), trained.as_slice()), (trained.clone(), [name].as_slice()));
    assert!(store.checkpoints_on_deleted(Scope::Key("bob")).await.unwrap().is_empty());
    store.delete_classifier(&intent(), Expected::Any, &reason(), T).await.unwrap();
    assert!(matches!(store.checkpoint(&made.id, 40).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.checkpoint(&runs.id, 2).await.unwrap().step, 2, "what runs goes on");
}

async fn files_whose_time_is_over_go_once_unless_somebody_uses_them(store: Store) {
    let mut rows = Vec::new();
    for expires_at in [None, Some(T + 10), Some(T + 20), Some(T + 5)] {
        let mut row = file_of("alice", 1, T);
        row.expires_at = expires_at;
        store.create_file(&row, u64::MAX).await.unwrap();
        rows.push(row);
    }
    let used = store.create_job(&job_on(&rows[3].id, "alice", T), 10, T).await.unwrap();
    assert_eq!(store.delete_expired_files(T + 10).await.unwrap(), [rows[1].clone()]);
    assert_eq!(store.delete_expired_files(T + 10).await.unwrap(), []);
    store.cancel(Scope::All, &used.id, T).await.unwrap();
    // Two sweeps at once: the file is deleted by one of them.
    let (one, other) = tokio::join!(store.delete_expired_files(T + 10), store.delete_expired_files(T + 10));
    assert_eq!([one.unwrap(), other.unwrap()].concat(), [rows[3].clone()]);
    for kept in [&rows[0], &rows[2]] {
        assert_eq!(store.file(Scope::All, &kept.id).await.unwrap(), *kept);
    }
}
