//! Copies made while the store serves, and brought back.

use headstart_store::{PageRequest, Scope, Store, StoreError, restore};

use crate::support::{T, claim, contract, file_of, intent, job, job_on, reason, takes, version};

contract!(
    a_backup_brings_back_rows_and_blobs,
    a_damaged_backup_is_refused,
    an_empty_folder_is_filled_as_it_is,
);

/// A store with a trained classifier and blobs behind it.
async fn fill(store: &Store) {
    let artifact = store.blobs().put(b"weights").await.unwrap().sha256;
    job(store, "alice", T).await;
    let (lease, _) = claim(store, "w", T).await;
    let mut new = version();
    (new.artifact, new.report) = (artifact, None);
    store.finish(&lease, &new, None, T).await.unwrap();
    // The files of these tests have no bytes of their own; give them some.
    for row in store.files(Scope::All, &Default::default(), &PageRequest::newest(99)).await.unwrap().data {
        store.delete_file(Scope::All, &row.id, &reason(), T).await.unwrap();
    }
    let mut row = file_of("alice", 8, T);
    row.sha256 = store.blobs().put(b"examples").await.unwrap().sha256;
    store.create_file(&row, u64::MAX).await.unwrap();
    store.blobs().put(b"stray").await.unwrap();
}

async fn a_backup_brings_back_rows_and_blobs(store: Store) {
    fill(&store).await;
    let place = tempfile::tempdir().unwrap();
    let (copy, back) = (place.path().join("copy"), place.path().join("back"));
    // Rows are written while it runs; the copy is of one moment.
    let (writer, examples) = (store.clone(), store.blobs().put(b"examples").await.unwrap().sha256);
    let busy = tokio::spawn(async move {
        for number in 0..50 {
            let mut row = file_of("bob", 8, T + number);
            row.sha256 = examples.clone();
            writer.create_file(&row, u64::MAX).await.unwrap();
            writer.create_job(&job_on(&row.id, "bob", T + number), 99, T + number).await.unwrap();
        }
    });
    store.backup(&copy).await.unwrap();
    busy.await.unwrap();
    assert!(matches!(store.backup(&copy).await, Err(StoreError::Conflict(_))));
    let done = restore(&copy, &back).unwrap();
    assert_eq!((done.blobs, done.bytes, done.versions), (2, 15, 1));
    let refused = restore(&copy, &back).unwrap_err().to_string();
    assert!(refused.ends_with("has a store already"), "{refused}");
    let again = Store::open(&back).await.unwrap();
    assert_eq!(again.classifier(&intent()).await.unwrap(), store.classifier(&intent()).await.unwrap());
    let found = again.version(&intent(), 1).await.unwrap();
    assert_eq!(again.blobs().read(&found.artifact, 99).await.unwrap(), b"weights");
    assert_eq!(again.bytes_used("alice").await.unwrap(), takes(&file_of("alice", 8, T)));
    let jobs = again.jobs(Scope::Key("bob"), &Default::default(), &PageRequest::newest(99)).await.unwrap();
    for job in jobs.data {
        again.file(Scope::All, &job.training_file).await.unwrap();
    }
    let refused = restore(&copy, &back).unwrap_err().to_string();
    assert!(refused.contains("is in use"), "{refused}");
    let refused = restore(&back, &place.path().join("third")).unwrap_err().to_string();
    assert!(refused.contains("a data folder in use, not a backup"), "{refused}");
    // What is written to the one does not reach the other.
    job(&again, "carol", T).await;
    assert_eq!(store.bytes_used("carol").await.unwrap(), 0);
}

async fn a_damaged_backup_is_refused(store: Store) {
    fill(&store).await;
    let place = tempfile::tempdir().unwrap();
    let (copy, back) = (place.path().join("copy"), place.path().join("back"));
    assert_eq!(store.backup(&copy).await.unwrap().blobs, 2);
    assert!(matches!(restore(&place.path().join("nowhere"), &back), Err(StoreError::NotFound { .. })));
    let artifact = store.version(&intent(), 1).await.unwrap().artifact;
    let blob = copy.join("blobs").join(&artifact.as_str()[..2]).join(&artifact.as_str()[2..]);
    // Not written over: it may share its bytes with the store.
    std::fs::remove_file(&blob).unwrap();
    let missing = restore(&copy, &back);
    assert!(matches!(missing, Err(StoreError::Corrupt { .. })), "{missing:?}");
    std::fs::write(&blob, b"other weights").unwrap();
    let changed = restore(&copy, &back).unwrap_err().to_string();
    assert!(changed.contains("its bytes have changed"), "{changed}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "nothing but the backup is left");
    std::fs::create_dir_all(back.join("lost+found")).unwrap();
    restore(&copy, &back).unwrap_err();
    assert_eq!(std::fs::read_dir(&back).unwrap().count(), 1);
    assert_eq!(store.blobs().read(&artifact, 99).await.unwrap(), b"weights");
    std::fs::write(copy.join("store.db"), b"not a database, not at all, whatever it is called").unwrap();
    assert!(restore(&copy, &back).is_err());
}

async fn an_empty_folder_is_filled_as_it_is(store: Store) {
    fill(&store).await;
    let place = tempfile::tempdir().unwrap();
    let (copy, back) = (place.path().join("copy"), place.path().join("back"));
    for folder in [&copy, &back] {
        // As at the root of a volume, and with what a copy that was killed has left.
        std::fs::create_dir_all(folder.join("lost+found")).unwrap();
        std::fs::create_dir_all(folder.join(".partial/blobs/ab")).unwrap();
    }
    store.backup(&copy).await.unwrap();
    restore(&copy, &back).unwrap();
    let again = Store::open(&back).await.unwrap();
    assert_eq!(again.bytes_used("alice").await.unwrap(), takes(&file_of("alice", 8, T)));
    assert!(!copy.join(".partial").exists() && !back.join(".partial").exists());
}

#[tokio::test]
async fn a_backup_of_an_earlier_build_is_brought_to_the_form_of_today() {
    let place = tempfile::tempdir().unwrap();
    let (old, back) = (place.path().join("old"), place.path().join("back"));
    let artifact = {
        let store = Store::open(&place.path().join("blobs-of")).await.unwrap();
        fill(&store).await;
        store.backup(&old).await.unwrap();
        store.version(&intent(), 1).await.unwrap().artifact
    };
    // The rows as the first form has them.
    let first = include_str!("../../migrations/sqlite/0001_start.sql");
    std::fs::remove_file(old.join("store.db")).unwrap();
    let connection = rusqlite::Connection::open(old.join("store.db")).unwrap();
    connection.execute_batch(first).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    let rows = format!(
        "INSERT INTO classifiers (key, name, created_at, last_version, production) VALUES ('alice', 'intent', 1, 1, 1); \
         INSERT INTO versions (key, name, number, origin, artifact, metrics, backbone, backbone_sha256, created_at) \
         VALUES ('alice', 'intent', 1, 'job', '{artifact}', '{{}}', 'b', 'c', 1);"
    );
    connection.execute_batch(&rows).unwrap();
    drop(connection);
    assert_eq!(restore(&old, &back).unwrap().blobs, 1);
    let found = Store::open(&back).await.unwrap().version(&intent(), 1).await.unwrap();
    assert_eq!((&found.artifact, found.evidence), (&artifact, None));
}

#[tokio::test]
async fn a_folder_of_a_newer_build_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).await.unwrap());
    let file = folder.path().join("store.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let refused = Store::open(folder.path()).await.map(|_| ());
    assert!(matches!(refused, Err(StoreError::Newer { found: 99, .. })), "{refused:?}");
    let restored = restore(folder.path(), &folder.path().join("back"));
    assert!(matches!(restored, Err(StoreError::Newer { .. })), "{restored:?}");
}
