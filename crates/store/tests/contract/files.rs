//! File rows: quota, lists, retention, and what keeps a file.

use headstart_store::{
    Begun, Expected, FileFilter, NewRequest, Order, PageRequest, RequestKey, Scope, Store, StoreError,
    StoredAnswer,
};
use headstart_types::classifier::ClassifierId;
use headstart_types::file::{FileRow, FileState};
use headstart_types::ids::FileId;
use headstart_types::job::Checkpoint;
use serde_json::{Value, json};

use crate::support::{
    T, claim, contract, digest, file, file_of, intent, job, job_on, reason, takes, version,
};

contract!(
    a_file_comes_back_as_it_was_written,
    a_key_keeps_within_its_bytes,
    what_was_found_in_a_file_counts_in_bytes,
    a_list_leaves_out_the_classes_and_findings_that_a_file_has,
    the_answer_kept_for_a_file_that_goes_is_without_classes_and_findings,
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
    let found = takes(&file_of("alice", 0, T));
    let quota = 100 + 2 * found;
    store.create_file(&file_of("alice", 60, T), quota).await.unwrap();
    let refused = store.create_file(&file_of("alice", 41, T), quota).await;
    let Err(StoreError::Quota { used, limit, needed }) = refused else { panic!("{refused:?}") };
    assert_eq!((used, limit, needed), (60 + found, quota, 41 + found));
    store.create_file(&file_of("alice", 40, T), quota).await.unwrap();
    store.create_file(&file_of("bob", 100 + found, T), quota).await.unwrap();
    assert_eq!(store.bytes_used("alice").await.unwrap(), quota);
    assert_eq!(store.bytes_used("nobody").await.unwrap(), 0);
}

async fn what_was_found_in_a_file_counts_in_bytes(store: Store) {
    let mut row = file_of("alice", 1, T);
    row.problems = json!([{"message": "x".repeat(300)}]);
    row.summary = json!({"summary": {"classes": [{"label": "é".repeat(500)}]}});
    let all = takes(&row);
    assert!(all > 1 + 300 + 1000, "{all}");
    let refused = store.create_file(&row, all - 1).await;
    let Err(StoreError::Quota { used, limit, needed }) = refused else { panic!("{refused:?}") };
    assert_eq!((used, limit, needed), (0, all - 1, all));
    store.create_file(&row, all).await.unwrap();
    assert_eq!(store.bytes_used("alice").await.unwrap(), all);
}

async fn a_list_leaves_out_the_classes_and_findings_that_a_file_has(store: Store) {
    let mut row = file_of("alice", 1, T);
    row.problems = json!([{"code": "no_label"}]);
    row.summary = json!({
        "format": "csv",
        "summary": {"examples": 3, "classes": [{"label": "\"é\"", "examples": 3}]},
        "problems": [{"code": "no_label"}],
        "problem_counts": {"no_label": 1},
        "warnings": [{"code": "duplicate"}],
    });
    store.create_file(&row, u64::MAX).await.unwrap();
    assert_eq!(store.file(Scope::All, &row.id).await.unwrap(), row);
    let page = PageRequest::newest(9);
    let listed = store.files(Scope::Key("alice"), &FileFilter::default(), &page).await.unwrap().data;
    let summary = json!({
        "format": "csv",
        "summary": {"examples": 3, "classes": []},
        "problems": [],
        "problem_counts": {"no_label": 1},
        "warnings": [],
    });
    assert_eq!(listed, [FileRow { problems: json!([]), summary, ..row.clone() }]);
    let bare = store.files_without_findings(Scope::Key("alice"), &page).await.unwrap().data;
    assert_eq!(bare, [FileRow { problems: Value::Null, summary: Value::Null, ..row }]);
    assert!(store.files_without_findings(Scope::Key("bob"), &page).await.unwrap().data.is_empty());
}

async fn the_answer_kept_for_a_file_that_goes_is_without_classes_and_findings(store: Store) {
    let begin = async |token: &str, resource: &str| {
        let key = RequestKey { key: "alice".into(), route: "r".into(), token: token.into() };
        let new = NewRequest { key: &key, fingerprint: "f", resource, hold_ms: 1000, keep_ms: 100_000 };
        store.begin(new, T).await.unwrap()
    };
    let whole = json!({"id": "f", "classes": [{"label": "a"}], "problems": [], "warnings": [], "rows": 3});
    let mut ids = Vec::new();
    for (token, expires_at) in [("kept", None), ("deleted", None), ("expired", Some(T + 10))] {
        let mut row = file_of("alice", 1, T);
        row.expires_at = expires_at;
        store.create_file(&row, u64::MAX).await.unwrap();
        let Begun::Fresh(ticket) = begin(token, row.id.as_str()).await else { panic!("{token}") };
        let answer = StoredAnswer { status: 200, body: whole.to_string() };
        store.complete(&ticket, &answer).await.unwrap();
        ids.push(row.id);
    }
    store.delete_file(Scope::All, &ids[1], &reason(), T).await.unwrap();
    assert_eq!(store.delete_expired_files(T + 10).await.unwrap(), [ids[2].clone()]);
    let brief = json!({"id": "f", "rows": 3});
    for (token, left) in [("kept", &whole), ("deleted", &brief), ("expired", &brief)] {
        let Begun::Answered(answer) = begin(token, "file-new").await else { panic!("{token} is done again") };
        assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), *left, "{token}");
    }
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
    assert_eq!(store.delete_expired_files(T + 10).await.unwrap(), [rows[1].id.clone()]);
    assert_eq!(store.delete_expired_files(T + 10).await.unwrap(), []);
    store.cancel(Scope::All, &used.id, T).await.unwrap();
    // Two sweeps at once: the file is deleted by one of them.
    let (one, other) = tokio::join!(store.delete_expired_files(T + 10), store.delete_expired_files(T + 10));
    assert_eq!([one.unwrap(), other.unwrap()].concat(), [rows[3].id.clone()]);
    for kept in [&rows[0], &rows[2]] {
        assert_eq!(store.file(Scope::All, &kept.id).await.unwrap(), *kept);
    }
}
