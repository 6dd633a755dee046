//! Job rows, transitions, events, checkpoints and steps.

use headstart_store::{Beat, JobFilter, Order, PageRequest, Scope, Store, StoreError};
use headstart_types::file::FileState;
use headstart_types::ids::{EventId, JobId, Sha256};
use headstart_types::job::{JobError, JobState, Level, NewEvent, Progress};
use serde_json::json;

use crate::support::{LIMITS, T, chance, claim, contract, digest, file, file_of, job, job_on, reason};

contract!(
    a_job_comes_back_as_it_was_written,
    a_job_needs_a_good_file_and_room_in_its_queue,
    a_pause_makes_no_room_in_the_queue_that_its_job_gets_back,
    another_keys_job_does_not_exist,
    jobs_are_listed_in_pages_and_by_metadata,
    a_validated_job_is_queued_and_a_refused_one_fails,
    an_owner_pauses_resumes_and_cancels,
    events_are_numbered_paged_and_capped,
    checkpoints_are_one_a_step,
    steps_stay_until_the_job_is_over,
    a_resumed_job_waits_behind_the_others_and_belongs_to_nobody,
    a_failed_job_says_why,
    changes_wake_those_who_wait,
    a_job_is_forgotten_only_when_it_is_over,
);

async fn a_job_comes_back_as_it_was_written(store: Store) {
    let training = file(&store, "alice", T).await;
    let mut new = job_on(&training.id, "alice", T);
    new.validation_file = Some(file(&store, "alice", T).await.id);
    let made = store.create_job(&new, 10, T).await.unwrap();
    assert_eq!(store.job(Scope::Key("alice"), &new.id).await.unwrap(), made);
    assert_eq!(made.state, JobState::Queued);
    assert_eq!((made.seed, made.suffix.as_deref(), &made.params), (-7, Some("intent"), &new.params));
    assert_eq!((&made.metadata, &made.validation_file), (&new.metadata, &new.validation_file));
    assert_eq!((made.created_at, made.started_at, made.finished_at, made.attempt), (T, None, None, 0));
    assert!(made.error.is_none() && made.progress.is_none() && made.fine_tuned_model.is_none());
    let events = store.events(&new.id, &PageRequest::newest(10)).await.unwrap().data;
    assert_eq!(events.iter().map(|event| event.message.as_str()).collect::<Vec<_>>(), ["job created"]);
    assert!(matches!(store.create_job(&new, 10, T).await, Err(StoreError::Conflict(_))));
}

async fn a_job_needs_a_good_file_and_room_in_its_queue(store: Store) {
    let mut bad = file_of("alice", 1, T);
    bad.state = FileState::Error;
    store.create_file(&bad, u64::MAX).await.unwrap();
    let missing = job_on(&file_of("alice", 1, T).id, "alice", T);
    assert!(matches!(
        store.create_job(&missing, 10, T).await,
        Err(StoreError::NotFound { what: "file", .. })
    ));
    assert!(matches!(
        store.create_job(&job_on(&bad.id, "alice", T), 10, T).await,
        Err(StoreError::Conflict(_))
    ));
    let good = file(&store, "alice", T).await;
    let mut tuned = job_on(&good.id, "alice", T);
    tuned.validation_file = Some(file_of("alice", 1, T).id);
    let missing = store.create_job(&tuned, 10, T).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "file", .. })), "{missing:?}");
    assert!(store.job(Scope::All, &tuned.id).await.is_err(), "refused, it is nowhere");
    // A validation file may be too small to learn from.
    tuned.validation_file = Some(bad.id.clone());
    let made = store.create_job(&tuned, 10, T).await.unwrap();
    store.cancel(Scope::All, &made.id, T).await.unwrap();
    for _ in 0..2 {
        store.create_job(&job_on(&good.id, "alice", T), 2, T).await.unwrap();
    }
    let third = store.create_job(&job_on(&good.id, "alice", T), 2, T).await;
    assert!(matches!(third, Err(StoreError::TooMany { limit: 2, .. })), "{third:?}");
    let other = file(&store, "bob", T).await;
    store.create_job(&job_on(&other.id, "bob", T), 2, T).await.unwrap();
    // Those whose files are still looked at take places too.
    let mut looked_at = job_on(&other.id, "bob", T);
    looked_at.validate_first = true;
    store.create_job(&looked_at, 2, T).await.unwrap();
    let third = store.create_job(&job_on(&other.id, "bob", T), 2, T).await;
    assert!(matches!(third, Err(StoreError::TooMany { .. })), "{third:?}");
    claim(&store, "worker", T).await;
    store.create_job(&job_on(&good.id, "alice", T), 2, T).await.unwrap();
}

async fn a_pause_makes_no_room_in_the_queue_that_its_job_gets_back(store: Store) {
    let good = file(&store, "alice", T).await;
    let first = store.create_job(&job_on(&good.id, "alice", T), 1, T).await.unwrap();
    store.pause(Scope::All, &first.id, T).await.unwrap();
    let second = store.create_job(&job_on(&good.id, "alice", T), 1, T).await.unwrap();
    let resumed = store.resume(Scope::All, &first.id, 1, T).await;
    assert!(matches!(resumed, Err(StoreError::TooMany { what: "queued jobs", limit: 1 })), "{resumed:?}");
    assert_eq!(store.job(Scope::All, &first.id).await.unwrap().state, JobState::Paused);
    store.cancel(Scope::All, &second.id, T).await.unwrap();
    job(&store, "bob", T).await;
    store.resume(Scope::All, &first.id, 1, T).await.unwrap();
}

async fn another_keys_job_does_not_exist(store: Store) {
    let made = job(&store, "alice", T).await;
    assert!(store.job(Scope::All, &made.id).await.is_ok());
    for refused in [
        store.job(Scope::Key("bob"), &made.id).await.map(|_| ()),
        store.cancel(Scope::Key("bob"), &made.id, T).await.map(|_| ()),
        store.delete_job(Scope::Key("bob"), &made.id, &reason(), T).await.map(|_| ()),
    ] {
        assert!(matches!(refused, Err(StoreError::NotFound { what: "job", .. })), "{refused:?}");
    }
}

async fn jobs_are_listed_in_pages_and_by_metadata(store: Store) {
    let mut ids = Vec::new();
    for number in 0..5 {
        let training = file(&store, "alice", T).await;
        let mut new = job_on(&training.id, "alice", T + number);
        new.metadata.insert("parity".into(), if number % 2 == 0 { "even".into() } else { "odd".into() });
        ids.push(store.create_job(&new, 10, T).await.unwrap().id);
    }
    job(&store, "bob", T).await;
    let (scope, all) = (Scope::Key("alice"), JobFilter::default());
    let mut page = PageRequest::newest(2);
    let mut seen = Vec::new();
    loop {
        let found = store.jobs(scope, &all, &page).await.unwrap();
        assert!(found.data.len() <= 2);
        seen.extend(found.data.into_iter().map(|job| job.id));
        if !found.has_more {
            break;
        }
        page.after = seen.last().cloned();
    }
    assert_eq!(seen.iter().rev().collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    let odd = JobFilter { state: Some(JobState::Queued), metadata: vec![("parity".into(), "odd".into())] };
    let found = store.jobs(scope, &odd, &PageRequest::newest(10)).await.unwrap();
    assert_eq!(found.data.iter().map(|job| &job.id).collect::<Vec<_>>(), [&ids[3], &ids[1]]);
    let running = JobFilter { state: Some(JobState::Running), metadata: Vec::new() };
    assert!(store.jobs(scope, &running, &PageRequest::newest(10)).await.unwrap().data.is_empty());
    let quoted = ("team".to_owned(), "a \"quoted\" one".to_owned());
    let found = JobFilter { state: None, metadata: vec![quoted] };
    assert_eq!(store.jobs(scope, &found, &PageRequest::newest(10)).await.unwrap().data.len(), 5);
    let none = JobFilter { state: None, metadata: vec![("team".into(), "a".into())] };
    assert!(store.jobs(scope, &none, &PageRequest::newest(10)).await.unwrap().data.is_empty());
    let training = file(&store, "alice", T).await;
    let mut new = job_on(&training.id, "alice", T + 5);
    let pairs = [("z\"a", "b"), ("", "empty"), ("number", "1"), ("ü\\\n", "{\"c\":\"d\"}")];
    new.metadata = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    store.create_job(&new, 10, T).await.unwrap();
    let found = async |name: &str, value: &str| {
        let one = JobFilter { state: None, metadata: vec![(name.into(), value.into())] };
        store.jobs(scope, &one, &PageRequest::newest(10)).await.unwrap().data.len()
    };
    for (name, value) in pairs {
        assert_eq!(found(name, value).await, 1, "{name}");
    }
    for (name, value) in [("a", "b"), ("c", "d"), ("z", "b"), ("z\"a", "B"), ("number", "1.0"), ("", "")] {
        assert_eq!(found(name, value).await, 0, "{name}");
    }
}

async fn a_validated_job_is_queued_and_a_refused_one_fails(store: Store) {
    let training = file(&store, "alice", T).await;
    let mut new = job_on(&training.id, "alice", T);
    new.validate_first = true;
    let made = store.create_job(&new, 10, T).await.unwrap();
    assert_eq!(made.state, JobState::ValidatingFiles);
    assert!(store.claim("worker", LIMITS, T).await.unwrap().is_none());
    assert_eq!(store.validated(&made.id, T + 5).await.unwrap().state, JobState::Queued);
    assert!(matches!(store.validated(&made.id, T + 5).await, Err(StoreError::Conflict(_))));
    new.id = JobId::new(T, chance());
    store.create_job(&new, 10, T).await.unwrap();
    let error = JobError { code: "invalid_file".into(), message: "no label".into(), param: None };
    let failed = store.refuse_job(&new.id, &error, T + 6).await.unwrap();
    assert_eq!(
        (failed.state, failed.error, failed.finished_at),
        (JobState::Failed, Some(error), Some(T + 6))
    );
}

async fn an_owner_pauses_resumes_and_cancels(store: Store) {
    let scope = Scope::Key("alice");
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "worker", T).await;
    store.put_step(&lease, "features", &digest("11"), T).await.unwrap();
    assert_eq!(store.pause(scope, &made.id, T + 1).await.unwrap().state, JobState::Paused);
    assert_eq!(store.heartbeat(&lease, 1_000, T + 2).await.unwrap(), Beat::Paused);
    // The worker finishes what it is at, then lets go.
    store.put_step(&lease, "split", &digest("22"), T + 3).await.unwrap();
    assert!(store.claim("other", LIMITS, T + 9_999).await.unwrap().is_none());
    assert_eq!(store.resume(scope, &made.id, u32::MAX, T + 10_000).await.unwrap().state, JobState::Queued);
    assert!(matches!(store.put_step(&lease, "fit", &digest("33"), T).await, Err(StoreError::LeaseLost(_))));
    let (second, resumed) = claim(&store, "worker", T + 10_001).await;
    assert_eq!((second.attempt, resumed.lost, resumed.started_at), (2, 0, Some(T)));
    assert_eq!(store.steps(&made.id).await.unwrap().len(), 2);
    let cancelled = store.cancel(scope, &made.id, T + 10_002).await.unwrap();
    assert_eq!((cancelled.state, cancelled.finished_at), (JobState::Cancelled, Some(T + 10_002)));
    assert_eq!(store.heartbeat(&second, 1_000, T + 10_003).await.unwrap(), Beat::Cancelled);
    assert_eq!(store.heartbeat(&lease, 1_000, T + 10_003).await.unwrap(), Beat::Lost);
    assert!(matches!(store.cancel(scope, &made.id, T).await, Err(StoreError::Conflict(_))));
    let progress = Progress { step: 1, total: 2, eta_seconds: None };
    assert!(matches!(store.set_progress(&second, progress, T).await, Err(StoreError::LeaseLost(_))));
}

async fn events_are_numbered_paged_and_capped(store: Store) {
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "worker", T).await;
    for number in 0..5 {
        let event = NewEvent {
            level: Level::Warn,
            message: format!("epoch {number}"),
            data: Some(json!({ "loss": number })),
        };
        store.add_event(&lease, &event, T + number).await.unwrap();
    }
    let newest = store.events(&made.id, &PageRequest::newest(2)).await.unwrap();
    assert!(newest.has_more);
    assert_eq!(newest.data[0].message, "epoch 4");
    assert_eq!((newest.data[0].level, newest.data[0].data.clone()), (Level::Warn, Some(json!({"loss": 4}))));
    // A stream goes on after the last id it sent, oldest first.
    let after = PageRequest { after: Some(newest.data[1].id.clone()), limit: 9, order: Order::Ascending };
    let rest = store.events(&made.id, &after).await.unwrap();
    assert_eq!(rest.data, vec![newest.data[0].clone()]);
    let foreign = EventId::of(&JobId::new(T, chance()), 1);
    let foreign = PageRequest { after: Some(foreign), limit: 9, order: Order::Ascending };
    assert!(matches!(store.events(&made.id, &foreign).await, Err(StoreError::NotFound { .. })));
    let long = NewEvent::info("é".repeat(10_000));
    store.add_event(&lease, &long, T).await.unwrap();
    assert_eq!(store.events(&made.id, &PageRequest::newest(1)).await.unwrap().data[0].message.len(), 4096);
    let huge = NewEvent { data: Some(json!("x".repeat(100_000))), ..NewEvent::info("big") };
    assert!(matches!(store.add_event(&lease, &huge, T).await, Err(StoreError::Invalid { .. })));
}

async fn checkpoints_are_one_a_step(store: Store) {
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "worker", T).await;
    for (step, digits) in [(1, "11"), (2, "22"), (2, "33")] {
        store.put_checkpoint(&lease, step, &digest(digits), &json!({"loss": step}), T).await.unwrap();
    }
    let page = store.checkpoints(&made.id, &PageRequest::newest(1)).await.unwrap();
    assert!(page.has_more);
    assert_eq!((page.data[0].step, &page.data[0].artifact), (2, &digest("33")));
    let next = PageRequest { after: Some(page.data[0].id.clone()), ..PageRequest::newest(5) };
    let next = store.checkpoints(&made.id, &next).await.unwrap();
    assert_eq!((next.data.len(), next.data[0].step, next.has_more), (1, 1, false));
    for step in 3..150 {
        store.put_checkpoint(&lease, step, &digest("44"), &json!({}), T).await.unwrap();
    }
    let all = store.checkpoints(&made.id, &PageRequest::newest(1_000)).await.unwrap().data;
    assert_eq!((all.len(), all[0].step, all[99].step), (100, 149, 50));
}

async fn steps_stay_until_the_job_is_over(store: Store) {
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "worker", T).await;
    store.put_step(&lease, "features", &digest("11"), T).await.unwrap();
    store.put_step(&lease, "features", &digest("12"), T).await.unwrap();
    let steps: Vec<(String, Sha256)> = store.steps(&made.id).await.unwrap().into_iter().collect();
    assert_eq!(steps, [("features".to_owned(), digest("12"))]);
    store.release(&lease, 0, T).await.unwrap();
    assert_eq!(store.steps(&made.id).await.unwrap().len(), 1);
    store.cancel(Scope::All, &made.id, T).await.unwrap();
    assert!(store.steps(&made.id).await.unwrap().is_empty());
}

async fn a_resumed_job_waits_behind_the_others_and_belongs_to_nobody(store: Store) {
    let scope = Scope::Key("alice");
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "w", T).await;
    let other = job(&store, "alice", T + 1).await;
    store.pause(scope, &made.id, T + 2).await.unwrap();
    store.resume(scope, &made.id, u32::MAX, T + 3).await.unwrap();
    assert_eq!(store.position(&made.id, T + 4).await.unwrap(), Some(2));
    // Paused again before anybody took it: its last worker is of the past.
    store.pause(scope, &made.id, T + 5).await.unwrap();
    assert!(matches!(store.put_step(&lease, "fit", &digest("11"), T).await, Err(StoreError::LeaseLost(_))));
    store.resume(scope, &made.id, u32::MAX, T + 6).await.unwrap();
    assert_eq!(claim(&store, "w", T + 7).await.1.id, other.id);
    assert_eq!(claim(&store, "w", T + 7).await.1.id, made.id);
}

async fn a_failed_job_says_why(store: Store) {
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "worker", T).await;
    let progress = Progress { step: 3, total: 10, eta_seconds: Some(4) };
    store.set_progress(&lease, progress, T + 1).await.unwrap();
    store.put_step(&lease, "features", &digest("11"), T + 1).await.unwrap();
    let error = JobError {
        code: "diverged".into(),
        message: "the loss is not finite".into(),
        param: Some("lr".into()),
    };
    store.fail(&lease, &error, T + 2).await.unwrap();
    let failed = store.job(Scope::All, &made.id).await.unwrap();
    assert_eq!((failed.state, failed.progress), (JobState::Failed, Some(progress)));
    assert_eq!((failed.error, failed.finished_at), (Some(error.clone()), Some(T + 2)));
    assert!(store.steps(&made.id).await.unwrap().is_empty(), "it will not go on");
    let last = store.events(&made.id, &PageRequest::newest(1)).await.unwrap().data.remove(0);
    assert_eq!((last.level, last.message.as_str()), (Level::Error, "the loss is not finite"));
    assert!(matches!(store.fail(&lease, &error, T).await, Err(StoreError::LeaseLost(_))));
}

async fn changes_wake_those_who_wait(store: Store) {
    let made = job(&store, "alice", T).await;
    let mut changes = store.changes();
    let before = *changes.borrow_and_update();
    assert_eq!(store.changed_since(before).await.unwrap(), None);
    let (lease, _) = claim(&store, "worker", T).await;
    changes.changed().await.unwrap();
    let claimed = *changes.borrow_and_update();
    assert!(claimed > before);
    store.heartbeat(&lease, 1_000, T).await.unwrap();
    assert!(!changes.has_changed().unwrap(), "a heartbeat is no news");
    let progress = Progress { step: 3, total: 10, eta_seconds: None };
    store.set_progress(&lease, progress, T + 1).await.unwrap();
    assert_eq!(store.changed_since(claimed).await.unwrap(), None, "progress is no news");
    assert!(!changes.has_changed().unwrap(), "progress wakes nobody");
    assert_eq!(store.job(Scope::All, &made.id).await.unwrap().progress, Some(progress), "but it is there");
    store.cancel(Scope::All, &made.id, T).await.unwrap();
    assert_eq!(store.changed_since(claimed).await.unwrap(), Some(*changes.borrow()));
}

async fn a_job_is_forgotten_only_when_it_is_over(store: Store) {
    let made = job(&store, "alice", T).await;
    let scope = Scope::Key("alice");
    assert!(matches!(store.delete_job(scope, &made.id, &reason(), T).await, Err(StoreError::Conflict(_))));
    store.cancel(scope, &made.id, T).await.unwrap();
    assert_eq!(store.delete_job(scope, &made.id, &reason(), T).await.unwrap(), []);
    assert!(matches!(store.job(scope, &made.id).await, Err(StoreError::NotFound { .. })));
    assert!(store.events(&made.id, &PageRequest::newest(5)).await.unwrap().data.is_empty());
}

#[tokio::test]
async fn only_the_latest_events_of_a_job_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_memory(folder.path()).await.unwrap();
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "worker", T).await;
    for number in 0..2_100 {
        store.add_event(&lease, &NewEvent::info(number.to_string()), T).await.unwrap();
    }
    let oldest = PageRequest { after: None, limit: 5_000, order: Order::Ascending };
    let kept = store.events(&made.id, &oldest).await.unwrap().data;
    assert_eq!((kept.len(), kept[0].message.as_str()), (2_000, "100"));
    assert_eq!(kept[1_999].message, "2099");
}
