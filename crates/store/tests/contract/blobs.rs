//! Blobs: written whole or not at all, kept as long as a row names them.

use std::path::Path;

use headstart_store::{BlobInfo, BlobStore, LocalBlobs, Store, StoreError, Young};
use headstart_types::ids::Sha256;
use tokio::io::AsyncReadExt as _;

use crate::support::{claim, contract, digest, file_of, job, version};

contract!(
    a_blob_is_named_by_its_bytes_and_read_back,
    an_unfinished_blob_leaves_nothing,
    a_blob_that_no_row_names_goes_once_it_is_old,
    a_blob_from_before_the_clock_was_set_back_goes_too,
    every_row_that_names_a_blob_keeps_it,
    a_blob_that_was_taken_from_its_name_gets_it_back_unless_it_is_removed,
);

/// Later than any file's time on this disk.
const LATER: i64 = 4_000_000_000_000;

/// Files below a folder, apart from locks.
fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if !path.to_str().unwrap().ends_with("lock") {
            found.push(path);
        }
    }
    found
}

async fn a_blob_is_named_by_its_bytes_and_read_back(store: Store) {
    let blobs = store.blobs();
    // SHA-256 of "abc": FIPS 180-2, appendix B.1.
    let abc: Sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".parse().unwrap();
    let mut writer = blobs.begin().await.unwrap();
    writer.write(b"a").await.unwrap();
    writer.write(b"").await.unwrap();
    writer.write(b"bc").await.unwrap();
    let written = writer.finish().await.unwrap();
    assert_eq!((&written.sha256, written.bytes), (&abc, 3));
    assert_eq!(blobs.read(&abc, 3).await.unwrap(), b"abc");
    assert!(matches!(blobs.read(&abc, 2).await, Err(StoreError::Invalid { .. })));
    let path = blobs.path(&abc).await.unwrap();
    assert!(path.ends_with(Path::new("ba").join(&abc.as_str()[2..])), "{}", path.display());
    assert_eq!(blobs.list(0xba).await.unwrap(), [written]);
    let long: Vec<u8> = (0..5_000_001u32).map(|n| (n % 251) as u8).collect();
    let info = blobs.put(&long).await.unwrap();
    let mut read = Vec::new();
    blobs.open(&info.sha256).await.unwrap().read_to_end(&mut read).await.unwrap();
    assert!(read == long);
    let missing = digest("00");
    assert_eq!(blobs.info(&missing).await.unwrap(), None);
    assert!(matches!(blobs.open(&missing).await.map(|_| ()), Err(StoreError::NotFound { what: "blob", .. })));
    assert!(matches!(blobs.path(&missing).await, Err(StoreError::NotFound { .. })));
}

async fn an_unfinished_blob_leaves_nothing(store: Store) {
    let blobs = store.blobs();
    let kept = blobs.put(b"kept").await.unwrap();
    let path = blobs.path(&kept.sha256).await.unwrap();
    let root = path.parent().unwrap().parent().unwrap().to_owned();
    let mut aborted = blobs.begin().await.unwrap();
    aborted.write(&vec![1; 3_000_000]).await.unwrap();
    let mut dropped = blobs.begin().await.unwrap();
    dropped.write(b"two").await.unwrap();
    assert_eq!(files_below(&root).len(), 3);
    aborted.abort().await.unwrap();
    drop(dropped);
    assert_eq!(files_below(&root), [path]);
}

async fn a_blob_that_no_row_names_goes_once_it_is_old(store: Store) {
    let blobs = store.blobs();
    let (named, stray) = (blobs.put(b"named").await.unwrap(), blobs.put(b"stray").await.unwrap());
    let mut row = file_of("alice", 5, 0);
    row.sha256 = named.sha256.clone();
    store.create_file(&row, u64::MAX).await.unwrap();
    let age = 60_000;
    let early = store.collect_blobs(age, stray.written_at + age - 1).await.unwrap();
    assert_eq!(early.blobs, 0);
    let collected = store.collect_blobs(age, stray.written_at + age).await.unwrap();
    assert_eq!((collected.blobs, collected.bytes, collected.deferred), (1, 5, false));
    assert_eq!(blobs.info(&stray.sha256).await.unwrap(), None);
    assert_eq!(blobs.read(&named.sha256, 9).await.unwrap(), b"named");
    // Written again, it counts as new.
    let again = blobs.put(b"stray").await.unwrap();
    assert_eq!(again.sha256, stray.sha256);
    assert!(blobs.withdraw(&again.sha256, Young::after(again.written_at - 1)).await.unwrap().is_none());
    assert_eq!(blobs.read(&again.sha256, 9).await.unwrap(), b"stray");
    let frozen = blobs.freeze().await.unwrap();
    assert!(store.collect_blobs(0, LATER).await.unwrap().deferred);
    drop(frozen);
    assert_eq!(store.collect_blobs(0, LATER).await.unwrap().blobs, 1);
}

async fn a_blob_from_before_the_clock_was_set_back_goes_too(store: Store) {
    let blob = store.blobs().put(b"stray").await.unwrap();
    let age = 3_600_000;
    // As far ahead as the clocks of disk and process may differ, it is one that was just written.
    let ahead = store.collect_blobs(age, blob.written_at - age).await.unwrap();
    assert_eq!(ahead.blobs, 0);
    let back = store.collect_blobs(age, blob.written_at - age - 60_001).await.unwrap();
    assert_eq!(back.blobs, 1);
}

async fn every_row_that_names_a_blob_keeps_it(store: Store) {
    let blobs = store.blobs().clone();
    let put = async |text: &str| -> Sha256 {
        let BlobInfo { sha256, .. } = blobs.put(text.as_bytes()).await.unwrap();
        sha256
    };
    let (step, checkpoint) = (put("step").await, put("checkpoint").await);
    let (artifact, report, job_report) = (put("artifact").await, put("report").await, put("job").await);
    let evidence = put("evidence").await;
    job(&store, "alice", 0).await;
    let (lease, _) = claim(&store, "w", 0).await;
    store.put_checkpoint(&lease, 1, &checkpoint, &serde_json::Value::Null, 0).await.unwrap();
    store.put_step(&lease, "fit", &step, LATER).await.unwrap();
    let collected = store.collect_blobs(0, LATER).await.unwrap();
    assert_eq!(collected.blobs, 4, "what nobody names yet");
    for text in ["artifact", "report", "evidence", "job"] {
        put(text).await;
    }
    let mut new = version();
    (new.artifact, new.report) = (artifact.clone(), Some(report.clone()));
    new.evidence = Some(evidence.clone());
    store.finish(&lease, &new, Some(&job_report), 0).await.unwrap();
    assert_eq!(store.collect_blobs(0, LATER).await.unwrap().blobs, 0);
    let backup = blobs.freeze().await.unwrap();
    assert!(store.clear_steps().await.unwrap().deferred);
    drop(backup);
    let cleared = store.clear_steps().await.unwrap();
    assert_eq!((cleared.blobs, cleared.bytes), (1, 4), "a finished job's steps");
    assert_eq!(blobs.info(&step).await.unwrap(), None);
    for kept in [checkpoint, artifact, report, evidence, job_report] {
        assert!(blobs.info(&kept).await.unwrap().is_some());
    }
}

async fn a_blob_that_was_taken_from_its_name_gets_it_back_unless_it_is_removed(store: Store) {
    let blobs = store.blobs();
    let blob = blobs.put(b"named late").await.unwrap();
    let withdraw = async || blobs.withdraw(&blob.sha256, Young::after(LATER)).await.unwrap().unwrap();
    let withdrawn = withdraw().await;
    assert_eq!(blobs.info(&blob.sha256).await.unwrap(), None);
    withdrawn.put_back().await.unwrap();
    assert_eq!(blobs.info(&blob.sha256).await.unwrap().as_ref(), Some(&blob));
    drop(withdraw().await);
    assert_eq!(blobs.info(&blob.sha256).await.unwrap().as_ref(), Some(&blob));
    // Written again meanwhile, the new one stays.
    let withdrawn = withdraw().await;
    let again = blobs.put(b"named late").await.unwrap();
    withdrawn.put_back().await.unwrap();
    assert_eq!(blobs.info(&blob.sha256).await.unwrap(), Some(again));
    withdraw().await.remove().await.unwrap();
    assert_eq!(blobs.info(&blob.sha256).await.unwrap(), None);
    withdraw().await.remove().await.unwrap();
}

#[tokio::test]
async fn the_next_start_clears_what_the_dead_left_and_nothing_of_the_living() {
    let folder = tempfile::tempdir().unwrap();
    let living = LocalBlobs::open(folder.path()).unwrap();
    let mut writer = living.begin().await.unwrap();
    writer.write(b"still ").await.unwrap();
    // What a killed process leaves: a folder whose lock nobody holds.
    let dead = folder.path().join("staging/77");
    std::fs::create_dir(&dead).unwrap();
    std::fs::write(dead.join("0.part"), b"half a blob").unwrap();
    let taken = living.put(b"taken from its name").await.unwrap().sha256;
    let name = living.path(&taken).await.unwrap();
    std::fs::rename(&name, dead.join(format!("{taken}.aside"))).unwrap();
    let _second = LocalBlobs::open(folder.path()).unwrap();
    assert!(!dead.exists());
    assert_eq!(living.read(&taken, 20).await.unwrap(), b"taken from its name");
    writer.write(b"here").await.unwrap();
    let info = writer.finish().await.unwrap();
    assert_eq!(living.read(&info.sha256, 20).await.unwrap(), b"still here");
}
