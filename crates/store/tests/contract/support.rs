//! Stores to test, and rows to put into them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use headstart_store::{ClaimLimits, Store};
use headstart_types::classifier::{ClassifierId, NewVersion, Origin, Reason};
use headstart_types::file::{FileRow, FileState};
use headstart_types::ids::{FileId, JobId, Sha256};
use headstart_types::job::{Job, JobParams, Lease, NewJob};
use serde_json::json;

/// Runs each test for every back end.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(headstart_store::Store::in_memory(folder.path()).await.unwrap()).await;
            })*
        }
        mod on_disk {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(headstart_store::Store::open(folder.path()).await.unwrap()).await;
            })*
        }
    };
}
pub(crate) use contract;

pub(crate) const LIMITS: ClaimLimits = ClaimLimits { lease_ms: 1_000, lost_max: 3, running_max: 100 };

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Ten bytes that no other call gives, growing.
pub(crate) fn chance() -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes
}

pub(crate) fn digest(digits: &str) -> Sha256 {
    format!("{digits:0<64}").parse().unwrap()
}

pub(crate) fn file_of(key: &str, bytes: u64, now: i64) -> FileRow {
    FileRow {
        id: FileId::new(now, chance()),
        key: key.into(),
        filename: "examples.jsonl".into(),
        purpose: "fine-tune".into(),
        bytes,
        sha256: digest("f1"),
        created_at: now,
        expires_at: None,
        state: FileState::Processed,
        status_details: None,
        problems: json!([]),
        summary: json!({"classes": 2}),
    }
}

/// What a row takes of its key's bytes.
pub(crate) fn takes(row: &FileRow) -> u64 {
    row.bytes + (row.problems.to_string().len() + row.summary.to_string().len()) as u64
}

/// A file's row in the store.
pub(crate) async fn file(store: &Store, key: &str, now: i64) -> FileRow {
    let row = file_of(key, 10, now);
    store.create_file(&row, u64::MAX).await.unwrap();
    row
}

pub(crate) fn job_on(training_file: &FileId, key: &str, now: i64) -> NewJob {
    NewJob {
        id: JobId::new(now, chance()),
        key: key.into(),
        model: "all-minilm-l6-v2".into(),
        method: "linear_probe".into(),
        classifier: "intent".into(),
        suffix: Some("intent".into()),
        training_file: training_file.clone(),
        validation_file: None,
        seed: -7,
        metadata: BTreeMap::from([("team".into(), "a \"quoted\" one".into())]),
        params: JobParams { version: 1, value: json!({"l2": [0.1, 1.0]}) },
        webhook: None,
        traceparent: None,
        validate_first: false,
    }
}

/// A queued job in the store, with a file of its own.
pub(crate) async fn job(store: &Store, key: &str, now: i64) -> Job {
    let file = file(store, key, now).await;
    store.create_job(&job_on(&file.id, key, now), 1_000, now).await.unwrap()
}

/// Takes a job that must be there.
pub(crate) async fn claim(store: &Store, owner: &str, now: i64) -> (Lease, Job) {
    store.claim(owner, LIMITS, now).await.unwrap().unwrap()
}

pub(crate) fn version() -> NewVersion {
    NewVersion {
        origin: Origin::Job,
        artifact: digest("a1"),
        report: Some(digest("b1")),
        evidence: None,
        metrics: json!({"accuracy": 0.9}),
        backbone: "all-minilm-l6-v2".into(),
        backbone_sha256: digest("cc").to_string(),
    }
}

pub(crate) fn reason() -> Reason {
    Reason { who: "alice".into(), reason: "because".into(), gate: Some(json!({"p": 0.2})) }
}

pub(crate) fn intent() -> ClassifierId {
    ClassifierId { key: "alice".into(), name: "intent".into() }
}

/// Time at which most tests begin.
pub(crate) const T: i64 = 1_700_000_000_000;
