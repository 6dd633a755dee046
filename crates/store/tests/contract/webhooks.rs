//! Ends of jobs that somebody is to be told of: none is lost, none is told by two at a time.

use std::collections::BTreeMap;

use headstart_store::{MAX_LEASE_MS, Outbox, PageRequest, Scope, Store, StoreError};
use headstart_types::ids::JobId;
use headstart_types::job::{Job, JobError, JobState, Level, NewJob};
use headstart_types::webhook::{Delivery, Webhook};

use crate::support::{LIMITS, T, claim, contract, digest, file, job, job_on, reason, version};

const LEASE_MS: i64 = 1_000;

contract!(
    every_end_of_a_job_that_asks_for_it_is_there_to_tell,
    a_job_that_asks_for_nothing_leaves_nothing_to_tell,
    an_end_that_was_not_written_is_not_told,
    a_delivery_is_noted_once_with_an_event,
    whoever_is_late_writes_nothing_over_the_next_attempt,
    an_end_that_was_put_off_waits_and_lets_newer_ones_pass,
    an_end_that_was_given_up_stays_to_be_looked_at,
    a_clock_set_back_makes_no_wait_eternal,
    what_is_to_be_told_goes_with_its_job,
    waits_without_a_sensible_length_are_refused,
);

fn error() -> JobError {
    JobError { code: "code".into(), message: "message".into(), param: None }
}

/// Of the request that made the job, where its receiver is its own.
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn url() -> Webhook {
    Webhook::Url("https://hooks.example.com/a?b=c".into())
}

async fn job_that_tells(store: &Store, webhook: Webhook, now: i64) -> Job {
    let file = file(store, "alice", now).await;
    let traceparent = (webhook == url()).then(|| TRACE.to_owned());
    let new = NewJob { webhook: Some(webhook.clone()), traceparent, ..job_on(&file.id, "alice", now) };
    let made = store.create_job(&new, 1_000, now).await.unwrap();
    assert_eq!(made.webhook, Some(webhook));
    made
}

/// A job that has been cancelled, so that its end is to be told.
async fn ended(store: &Store, now: i64) -> JobId {
    let made = job_that_tells(store, url(), now).await;
    store.cancel(Scope::All, &made.id, now).await.unwrap().id
}

async fn taken(store: &Store, now: i64) -> Option<Delivery> {
    store.claim_webhook(LEASE_MS, now).await.unwrap()
}

async fn last_event(store: &Store, job: &JobId) -> (Level, String) {
    let event = store.events(job, &PageRequest::newest(1)).await.unwrap().data.remove(0);
    (event.level, event.message)
}

async fn every_end_of_a_job_that_asks_for_it_is_there_to_tell(store: Store) {
    let succeeded = job_that_tells(&store, url(), T).await.id;
    let (lease, _) = claim(&store, "w", T).await;
    store.finish(&lease, &version(), None, T + 1).await.unwrap();
    let failed = job_that_tells(&store, Webhook::Default, T).await.id;
    let (lease, _) = claim(&store, "w", T).await;
    store.fail(&lease, &error(), T + 2).await.unwrap();
    let refused = job_that_tells(&store, url(), T).await.id;
    store.refuse_job(&refused, &error(), T + 3).await.unwrap();
    let cancelled = job_that_tells(&store, url(), T).await.id;
    store.cancel(Scope::All, &cancelled, T + 4).await.unwrap();
    let lost = job_that_tells(&store, url(), T).await.id;
    for round in 0..LIMITS.lost_max {
        claim(&store, "w", T + i64::from(round) * LIMITS.lease_ms).await;
    }
    store.give_up(LIMITS.lost_max, T + 5_000).await.unwrap();

    let mut told = BTreeMap::new();
    while let Some(delivery) = taken(&store, T + 5_000).await {
        assert_eq!(delivery.attempt, 1);
        assert_eq!(delivery.traceparent.as_deref(), (delivery.webhook == url()).then_some(TRACE));
        told.insert(delivery.job, (delivery.state, delivery.webhook, delivery.ended_at));
    }
    let expected = BTreeMap::from([
        (succeeded, (JobState::Succeeded, url(), T + 1)),
        (failed, (JobState::Failed, Webhook::Default, T + 2)),
        (refused, (JobState::Failed, url(), T + 3)),
        (cancelled, (JobState::Cancelled, url(), T + 4)),
        (lost, (JobState::Failed, url(), T + 5_000)),
    ]);
    assert_eq!(told, expected);
}

async fn a_job_that_asks_for_nothing_leaves_nothing_to_tell(store: Store) {
    let silent = job(&store, "alice", T).await;
    store.cancel(Scope::All, &silent.id, T).await.unwrap();
    let running = job_that_tells(&store, url(), T).await;
    claim(&store, "w", T).await;
    store.pause(Scope::All, &running.id, T).await.unwrap();
    assert_eq!(taken(&store, T + 1).await, None);
    assert_eq!(store.outbox().await.unwrap(), Outbox::default());
}

async fn an_end_that_was_not_written_is_not_told(store: Store) {
    let made = job_that_tells(&store, url(), T).await;
    let (old, _) = claim(&store, "a", T).await;
    claim(&store, "b", T + LIMITS.lease_ms).await;
    let late = store.finish(&old, &version(), Some(&digest("b1")), T + 2_000).await;
    assert!(matches!(late, Err(StoreError::LeaseLost(_))));
    assert!(matches!(store.fail(&old, &error(), T + 2_000).await, Err(StoreError::LeaseLost(_))));
    assert_eq!(taken(&store, T + 9_000).await, None);
    store.cancel(Scope::All, &made.id, T + 9_000).await.unwrap();
    assert_eq!(taken(&store, T + 9_000).await.map(|told| told.state), Some(JobState::Cancelled));
}

async fn a_delivery_is_noted_once_with_an_event(store: Store) {
    let id = ended(&store, T).await;
    assert_eq!(store.outbox().await.unwrap(), Outbox { waiting: 1, oldest_ended_at: Some(T), given_up: 0 });
    let delivery = taken(&store, T + 10).await.unwrap();
    assert_eq!(taken(&store, T + 10).await, None, "one teller at a time");
    assert!(store.webhook_delivered(&delivery, "delivered", T + 20).await.unwrap());
    assert_eq!(last_event(&store, &id).await, (Level::Info, "delivered".into()));
    assert!(!store.webhook_delivered(&delivery, "again", T + 30).await.unwrap());
    assert_eq!(last_event(&store, &id).await.1, "delivered");
    assert_eq!(taken(&store, T + 999_999).await, None);
    assert_eq!(store.outbox().await.unwrap(), Outbox::default());
}

async fn whoever_is_late_writes_nothing_over_the_next_attempt(store: Store) {
    let id = ended(&store, T).await;
    let first = taken(&store, T).await.unwrap();
    assert_eq!(taken(&store, T + LEASE_MS - 1).await, None);
    let second = taken(&store, T + LEASE_MS).await.unwrap();
    assert_eq!((&second.job, second.attempt), (&id, 2));
    let late = T + LEASE_MS + 1;
    assert!(!store.webhook_delivered(&first, "late", late).await.unwrap());
    assert!(!store.webhook_put_off(&first, "late", 5_000, late).await.unwrap());
    assert!(!store.webhook_given_up(&first, "late", "late", late).await.unwrap());
    assert_eq!(last_event(&store, &id).await.1, "job cancelled");
    assert!(store.webhook_delivered(&second, "in time", late).await.unwrap());
}

async fn an_end_that_was_put_off_waits_and_lets_newer_ones_pass(store: Store) {
    let old = ended(&store, T).await;
    let delivery = taken(&store, T).await.unwrap();
    assert!(store.webhook_put_off(&delivery, "answered 500", 5_000, T).await.unwrap());
    assert_eq!(taken(&store, T + 4_999).await, None);
    let new = ended(&store, T + 5_000).await;
    assert_eq!(taken(&store, T + 5_000).await.unwrap().job, new);
    let again = taken(&store, T + 5_000).await.unwrap();
    assert_eq!((again.job, again.attempt, again.ended_at), (old, 2, delivery.ended_at));
}

async fn an_end_that_was_given_up_stays_to_be_looked_at(store: Store) {
    let id = ended(&store, T).await;
    let delivery = taken(&store, T).await.unwrap();
    assert!(store.webhook_given_up(&delivery, "answered 410", "given up", T + 1).await.unwrap());
    assert_eq!(last_event(&store, &id).await, (Level::Warn, "given up".into()));
    assert_eq!(taken(&store, T + 10 * MAX_LEASE_MS).await, None);
    assert!(!store.webhook_delivered(&delivery, "late", T + 2).await.unwrap());
    assert_eq!(store.outbox().await.unwrap(), Outbox { waiting: 0, oldest_ended_at: None, given_up: 1 });
}

async fn a_clock_set_back_makes_no_wait_eternal(store: Store) {
    ended(&store, T).await;
    let delivery = taken(&store, T).await.unwrap();
    store.webhook_put_off(&delivery, "answered 500", MAX_LEASE_MS, T).await.unwrap();
    assert_eq!(taken(&store, T).await, None);
    assert!(taken(&store, T - 1).await.is_some(), "no wait is longer than the longest");
}

async fn what_is_to_be_told_goes_with_its_job(store: Store) {
    let id = ended(&store, T).await;
    let delivery = taken(&store, T).await.unwrap();
    store.delete_job(Scope::All, &id, &reason(), T).await.unwrap();
    assert!(!store.webhook_delivered(&delivery, "late", T).await.unwrap());
    assert_eq!(store.outbox().await.unwrap(), Outbox::default());
}

async fn waits_without_a_sensible_length_are_refused(store: Store) {
    ended(&store, T).await;
    for wrong in [0, -1, MAX_LEASE_MS + 1] {
        assert!(matches!(store.claim_webhook(wrong, T).await, Err(StoreError::Invalid { .. })));
    }
    let delivery = taken(&store, T).await.unwrap();
    let wrong = store.webhook_put_off(&delivery, "reason", MAX_LEASE_MS + 1, T).await;
    assert!(matches!(wrong, Err(StoreError::Invalid { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_tell_each_end_once() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [Store::open(folder.path()).await.unwrap(), Store::open(folder.path()).await.unwrap()];
    for number in 0..60 {
        ended(&stores[0], T + number).await;
    }
    let mut tellers = Vec::new();
    for number in 0..4 {
        let store = stores[number % 2].clone();
        tellers.push(tokio::spawn(async move {
            let mut told = Vec::new();
            while let Some(delivery) = taken(&store, T + 500).await {
                assert!(store.webhook_delivered(&delivery, "delivered", T + 500).await.unwrap());
                told.push(delivery.job);
            }
            told
        }));
    }
    let mut told = Vec::new();
    for teller in tellers {
        told.extend(teller.await.unwrap());
    }
    told.sort();
    let all = told.len();
    told.dedup();
    assert_eq!((all, told.len()), (60, 60));
}

#[tokio::test]
async fn what_is_to_be_told_survives_the_process_that_ended_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let id = ended(&store, T).await;
    assert!(taken(&store, T).await.is_some(), "this one dies before it has told");
    drop(store);
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(taken(&store, T + LEASE_MS).await.map(|told| (told.job, told.attempt)), Some((id, 2)));
}
