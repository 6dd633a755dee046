//! Processes that die at any instant.

use std::process::{Command, Stdio};
use std::time::Duration;

use headstart_store::{ClaimLimits, JobFilter, PageRequest, Scope, Store, StoreError};
use headstart_types::job::{JobState, NewEvent};
use serde_json::json;

use crate::support::{T, claim, intent, job, version};

/// A file whose presence in the working folder tells a process that it is the worker.
const MARK: &str = "worker-to-be-killed";
const JOBS: i64 = 30;

fn limits() -> ClaimLimits {
    ClaimLimits { lease_ms: 1_000, lost_max: 1_000, running_max: 1_000 }
}

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// The worker that gets killed. It does nothing unless a test below starts it.
#[tokio::test]
async fn worker_to_be_killed() {
    if !std::path::Path::new(MARK).exists() {
        return;
    }
    let store = Store::open(".".as_ref()).await.unwrap();
    let owner = std::process::id().to_string();
    loop {
        let Some((lease, job)) = store.claim(&owner, limits(), now()).await.unwrap() else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let steps = store.steps(&job.id).await.unwrap();
        for step in ["features", "fit"] {
            if !steps.contains_key(step) {
                let bytes = format!("{step} of {}", job.id).repeat(1_000);
                let blob = store.blobs().put(bytes.as_bytes()).await.unwrap();
                let _ = store.put_step(&lease, step, &blob.sha256, now()).await;
                let _ = store.add_event(&lease, &NewEvent::info(step), now()).await;
            }
        }
        let artifact = store.blobs().put(format!("head of {}", job.id).as_bytes()).await.unwrap();
        let mut new = version();
        (new.artifact, new.report, new.metrics) = (artifact.sha256, None, json!({}));
        match store.finish(&lease, &new, None, now()).await {
            Ok(_) | Err(StoreError::LeaseLost(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn killed_workers_lose_no_job_and_leave_no_half_made_version() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(MARK), b"").unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    for _ in 0..JOBS {
        job(&store, "alice", now()).await;
    }
    let mut kills = 0;
    for round in 0u64.. {
        assert!(round < 400, "the jobs do not end");
        let mut worker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::worker_to_be_killed", "--nocapture"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Different instants of the work, from before the first claim on; longer lives later, where a start alone takes long.
        tokio::time::sleep(Duration::from_millis(20 + round * 37 % 90 + 2 * round)).await;
        worker.kill().unwrap();
        worker.wait().unwrap();
        kills += 1;
        check(&store).await;
        let size = store.queue_size(now()).await.unwrap();
        if size.jobs.is_empty() && kills >= 10 {
            break;
        }
    }
    let jobs = store.jobs(Scope::All, &JobFilter::default(), &PageRequest::newest(999)).await.unwrap().data;
    assert_eq!(jobs.len() as i64, JOBS);
    assert!(jobs.iter().all(|job| job.state == JobState::Succeeded));
    let versions = store.versions(&intent(), &PageRequest::newest(999)).await.unwrap().data;
    assert_eq!(versions.len() as i64, JOBS);
    for version in versions {
        let job = version.job.unwrap();
        let bytes = store.blobs().read(&version.artifact, 999).await.unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("head of {job}"));
    }
    // Staging of the dead goes with the next start, what jobs kept and stray blobs with the next sweep.
    drop(store);
    let store = Store::open(folder.path()).await.unwrap();
    let staging = std::fs::read_dir(folder.path().join("blobs/staging")).unwrap();
    assert_eq!(staging.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(), 1);
    store.clear_steps().await.unwrap();
    store.collect_blobs(0, 4_000_000_000_000).await.unwrap();
    let mut blobs = 0;
    for first in 0..=u8::MAX {
        blobs += store.blobs().list(first).await.unwrap().len();
    }
    assert_eq!(blobs as i64, JOBS, "one artifact a job");
}

/// What holds at every instant: a job has a version exactly when it has succeeded, and its blobs are whole.
async fn check(store: &Store) {
    let versions = store.versions(&intent(), &PageRequest::newest(999)).await.unwrap().data;
    let jobs = store.jobs(Scope::All, &JobFilter::default(), &PageRequest::newest(999)).await.unwrap().data;
    let named: Vec<_> = versions.iter().filter_map(|version| version.job.as_ref()).collect();
    for job in &jobs {
        let over = job.state == JobState::Succeeded;
        // Versions were read first: a job may have ended since, but no version may be without its job's end.
        assert!(!named.contains(&&job.id) || over, "{job:?}");
        assert_eq!(job.fine_tuned_model.is_some(), over);
        for (step, blob) in store.steps(&job.id).await.unwrap() {
            let bytes = store.blobs().read(&blob, 1 << 20).await.unwrap();
            assert!(String::from_utf8(bytes).unwrap().starts_with(&format!("{step} of ")));
        }
    }
}

#[tokio::test]
async fn a_write_whose_caller_goes_away_happens_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    for number in 0..20 {
        job(&store, "alice", T + number).await;
        let (lease, taken) = claim(&store, "w", T + 50).await;
        let writing = store.clone();
        let task = tokio::spawn(async move { writing.finish(&lease, &version(), None, T + 60).await });
        for _ in 0..number {
            tokio::task::yield_now().await;
        }
        task.abort();
        let _ = task.await;
        let job = store.job(Scope::All, &taken.id).await.unwrap();
        let versions = store.versions(&intent(), &PageRequest::newest(99)).await.unwrap().data;
        let has = versions.iter().any(|version| version.job.as_ref() == Some(&taken.id));
        if job.state != JobState::Succeeded {
            // It may still be on its way to the disk; what is read later is later.
            continue;
        }
        assert!(has && job.fine_tuned_model.is_some());
    }
    drop(store);
    let store = Store::open(folder.path()).await.unwrap();
    check(&store).await;
}
