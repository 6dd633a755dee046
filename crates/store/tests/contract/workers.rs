//! Several stores on one database, as several processes have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use headstart_store::{JobFilter, PageRequest, Scope, Store, StoreError};
use headstart_types::job::JobState;

use crate::support::{LIMITS, T, job, version};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_take_each_job_once_and_lose_none() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [Store::open(folder.path()).await.unwrap(), Store::open(folder.path()).await.unwrap()];
    for number in 0..200 {
        job(&stores[0], ["alice", "bob", "carol"][number as usize % 3], T + number).await;
    }
    let mut workers = Vec::new();
    for number in 0..4 {
        let store = stores[number % 2].clone();
        workers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Some((lease, job)) = store.claim(&format!("w{number}"), LIMITS, T + 500).await.unwrap()
            {
                store.finish(&lease, &version(), None, T + 500).await.unwrap();
                taken.push(job.id);
            }
            taken
        }));
    }
    let mut times = BTreeMap::new();
    for worker in workers {
        let taken = worker.await.unwrap();
        taken.into_iter().for_each(|id| *times.entry(id).or_insert(0) += 1);
    }
    assert_eq!(times.len(), 200);
    assert!(times.values().all(|&times| times == 1), "a job was taken twice");
    let jobs =
        stores[1].jobs(Scope::All, &JobFilter::default(), &PageRequest::newest(500)).await.unwrap().data;
    assert!(jobs.iter().all(|job| job.state == JobState::Succeeded && job.attempt == 1));
    let mut numbers: Vec<String> =
        jobs.into_iter().map(|job| job.key + &job.fine_tuned_model.unwrap()).collect();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_stall_lose_their_jobs_and_each_job_ends_once() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [Store::open(folder.path()).await.unwrap(), Store::open(folder.path()).await.unwrap()];
    for number in 0..40 {
        job(&stores[0], "alice", T + number).await;
    }
    let limits = headstart_store::ClaimLimits { lost_max: 1_000, ..LIMITS };
    let clock = Arc::new(AtomicI64::new(T + 1_000));
    let mut workers = Vec::new();
    for number in 0..4 {
        let (store, clock) = (stores[number % 2].clone(), clock.clone());
        workers.push(tokio::spawn(async move {
            let (mut ended, mut late) = (Vec::new(), 0);
            let mut stalls = number == 0;
            // Every claim moves the clock on by a third of a lease: whoever waits for others is late.
            for _ in 0..400 {
                let now = clock.fetch_add(333, Ordering::Relaxed);
                let Some((lease, _)) = store.claim(&format!("w{number}"), limits, now).await.unwrap() else {
                    continue;
                };
                tokio::task::yield_now().await;
                // One of them is late for certain: it waits until another has its job.
                let looks = if std::mem::take(&mut stalls) { 10_000 } else { 0 };
                for _ in 0..looks {
                    if store.job(Scope::All, &lease.id).await.unwrap().attempt > lease.attempt {
                        break;
                    }
                }
                let now = clock.fetch_add(333, Ordering::Relaxed);
                match store.finish(&lease, &version(), None, now).await {
                    Ok(_) => ended.push(lease.id),
                    Err(StoreError::LeaseLost(_)) => late += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (ended, late)
        }));
    }
    let (mut ended, mut late) = (Vec::new(), 0);
    for worker in workers {
        let (its, lost) = worker.await.unwrap();
        ended.extend(its);
        late += lost;
    }
    assert!(late > 0, "no worker was late");
    ended.sort();
    let all = ended.len();
    ended.dedup();
    assert_eq!((all, ended.len()), (40, 40));
}

#[tokio::test]
async fn a_change_of_one_process_is_seen_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) =
        (Store::open(folder.path()).await.unwrap(), Store::open(folder.path()).await.unwrap());
    let mut changes = there.changes();
    let before = *changes.borrow_and_update();
    job(&here, "alice", T).await;
    assert!(!changes.has_changed().unwrap());
    let after = there.changed_since(before).await.unwrap().unwrap();
    assert!(changes.has_changed().unwrap() && after > before);
    assert_eq!(there.changed_since(after).await.unwrap(), None);
}
