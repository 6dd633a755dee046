//! Who gets which job, and who keeps it.

use headstart_store::{Beat, ClaimLimits, MAX_LEASE_MS, Order, PageRequest, Scope, Store, StoreError};
use headstart_types::ids::JobId;
use headstart_types::job::{JobState, NewEvent};

use crate::support::{LIMITS, T, claim, contract, digest, job, version};

contract!(
    the_oldest_job_is_taken_first_and_only_once,
    a_key_with_fewer_running_jobs_goes_first,
    one_worker_serves_keys_in_turn,
    a_job_that_was_given_back_takes_its_keys_turn_again,
    a_start_in_the_future_holds_nobody_back,
    a_key_runs_no_more_than_it_may,
    positions_say_in_which_order_jobs_are_taken,
    a_lost_workers_job_goes_to_another_and_the_lost_one_changes_nothing,
    a_worker_that_was_only_late_keeps_its_job,
    a_job_that_costs_too_many_workers_fails,
    a_released_job_is_no_loss_and_waits_as_long_as_asked,
    a_job_that_breaks_too_often_is_given_up_and_one_that_waits_is_not,
    a_clock_set_back_makes_no_lease_eternal,
    a_clock_set_forward_takes_a_job_at_most_once,
    a_clock_set_back_makes_no_delay_eternal,
    events_keep_their_order_and_their_reader_whatever_the_clock_says,
    a_clock_set_back_keeps_no_job_waiting,
    a_lease_without_a_sensible_length_is_refused,
    the_queues_size_counts_what_waits,
);

async fn the_oldest_job_is_taken_first_and_only_once(store: Store) {
    let first = job(&store, "alice", T).await;
    let second = job(&store, "alice", T + 1).await;
    let (lease, taken) = claim(&store, "a", T + 5).await;
    assert_eq!((&taken.id, taken.state, taken.attempt), (&first.id, JobState::Running, 1));
    assert_eq!((lease.owner.as_str(), taken.started_at), ("a", Some(T + 5)));
    assert_eq!(claim(&store, "b", T + 5).await.1.id, second.id);
    assert!(store.claim("c", LIMITS, T + 5).await.unwrap().is_none());
}

async fn a_key_with_fewer_running_jobs_goes_first(store: Store) {
    let mut alice = Vec::new();
    for number in 0..3 {
        alice.push(job(&store, "alice", T + number).await.id);
    }
    let bob = job(&store, "bob", T + 100).await.id;
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(claim(&store, "w", T + 200).await.1.id);
    }
    assert_eq!(order, [alice[0].clone(), bob, alice[1].clone(), alice[2].clone()]);
}

/// Does the next job from start to end.
async fn done(store: &Store, now: i64) -> JobId {
    let (lease, taken) = claim(store, "w", now).await;
    store.finish(&lease, &version(), None, now + 5).await.unwrap();
    taken.id
}

async fn one_worker_serves_keys_in_turn(store: Store) {
    let mut ids = Vec::new();
    for (key, at) in
        [("a", 0), ("a", 1), ("a", 2), ("b", 3), ("b", 4), ("c", 5), ("c", 6), ("c", 7), ("a", 8), ("d", 9)]
    {
        ids.push(job(&store, key, T + at).await.id);
    }
    let place = async |id: &JobId, now| store.position(id, now).await.unwrap().unwrap();
    let mut foretold = Vec::new();
    for id in &ids {
        foretold.push((place(id, T + 10).await, id.clone()));
    }
    foretold.sort();
    let keys = [0, 3, 5, 9, 1, 4, 6, 2, 7, 8].map(|number| ids[number].clone());
    assert_eq!(foretold.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>(), keys);
    for (turn, (_, id)) in foretold.iter().enumerate() {
        let now = T + 20 + 10 * turn as i64;
        assert_eq!(place(id, now).await, 1, "foretold again before each");
        assert_eq!(done(&store, now).await, *id);
    }
    // Whoever comes new does not wait for those who were served before.
    for number in 0..3 {
        job(&store, "a", T + 200 + number).await;
    }
    let new = job(&store, "e", T + 210).await.id;
    assert_eq!((place(&new, T + 220).await, done(&store, T + 220).await), (1, new));
}

async fn a_job_that_was_given_back_takes_its_keys_turn_again(store: Store) {
    let begun = job(&store, "a", T).await.id;
    job(&store, "a", T + 1).await;
    let (lease, _) = claim(&store, "w", T + 5).await;
    job(&store, "b", T + 6).await;
    store.release(&lease, 0, T + 7).await.unwrap();
    assert_eq!(store.position(&begun, T + 8).await.unwrap(), Some(1));
    claim(&store, "w", T + 8).await;
    // A worker that was lost with it gave it back as well.
    assert_eq!(claim(&store, "w", T + 2_000).await.1.id, begun);
}

async fn a_start_in_the_future_holds_nobody_back(store: Store) {
    let day = 86_400_000;
    job(&store, "a", T + day).await;
    done(&store, T + day).await;
    let (waits, other) = (job(&store, "a", T).await.id, job(&store, "b", T + 1).await.id);
    assert_eq!([done(&store, T + 2).await, done(&store, T + 10).await], [waits, other]);
}

async fn a_key_runs_no_more_than_it_may(store: Store) {
    for number in 0..3 {
        job(&store, "alice", T + number).await;
    }
    let bob = job(&store, "bob", T + 9).await.id;
    let limits = ClaimLimits { running_max: 1, ..LIMITS };
    let (first, _) = store.claim("w", limits, T + 10).await.unwrap().unwrap();
    assert_eq!(store.claim("w", limits, T + 10).await.unwrap().unwrap().1.id, bob);
    assert!(store.claim("w", limits, T + 10).await.unwrap().is_none());
    store.release(&first, 0, T + 10).await.unwrap();
    assert!(store.claim("w", limits, T + 10).await.unwrap().is_some());
}

async fn positions_say_in_which_order_jobs_are_taken(store: Store) {
    let mut ids = Vec::new();
    for (key, at) in [("a", 0), ("a", 1), ("b", 2), ("c", 3), ("a", 4), ("b", 5)] {
        ids.push(job(&store, key, T + at).await.id);
    }
    let running = claim(&store, "w", T + 10).await.1.id;
    assert_eq!(store.position(&running, T + 10).await.unwrap(), None);
    let mut foretold = Vec::new();
    for id in &ids[1..] {
        foretold.push((store.position(id, T + 10).await.unwrap().unwrap(), id.clone()));
    }
    foretold.sort();
    assert_eq!(foretold.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    for (at, id) in foretold {
        assert_eq!(claim(&store, "w", T + 10 + at.cast_signed()).await.1.id, id);
    }
}

async fn a_lost_workers_job_goes_to_another_and_the_lost_one_changes_nothing(store: Store) {
    let made = job(&store, "alice", T).await;
    let (old, _) = claim(&store, "a", T).await;
    assert!(store.claim("b", LIMITS, T + 999).await.unwrap().is_none());
    let (new, taken) = claim(&store, "b", T + 1_000).await;
    assert_eq!((new.attempt, taken.lost), (2, 1));
    assert_eq!(store.heartbeat(&old, 1_000, T + 1_001).await.unwrap(), Beat::Lost);
    let refused = [
        store.put_step(&old, "fit", &digest("11"), T).await,
        store.release(&old, 0, T).await,
        store.finish(&old, &version(), None, T).await.map(|_| ()),
    ];
    assert!(refused.iter().all(|refused| matches!(refused, Err(StoreError::LeaseLost(_)))), "{refused:?}");
    let unchanged = store.job(Scope::All, &made.id).await.unwrap();
    assert_eq!(unchanged, taken);
    assert_eq!(store.heartbeat(&new, 1_000, T + 1_001).await.unwrap(), Beat::Held);
}

async fn a_worker_that_was_only_late_keeps_its_job(store: Store) {
    job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "a", T).await;
    assert_eq!(store.heartbeat(&lease, 1_000, T + 60_000).await.unwrap(), Beat::Held);
    assert!(store.claim("b", LIMITS, T + 60_999).await.unwrap().is_none());
}

async fn a_job_that_costs_too_many_workers_fails(store: Store) {
    let made = job(&store, "alice", T).await;
    for attempt in 0..3 {
        let (lease, _) = claim(&store, "w", T + attempt * 2_000).await;
        assert_eq!(i64::from(lease.attempt), attempt + 1);
        store.put_step(&lease, "features", &digest("11"), T).await.unwrap();
    }
    assert!(store.claim("w", LIMITS, T + 6_000).await.unwrap().is_none());
    let failed = store.job(Scope::All, &made.id).await.unwrap();
    assert_eq!((failed.state, failed.lost, failed.finished_at), (JobState::Failed, 3, Some(T + 6_000)));
    assert!(store.steps(&made.id).await.unwrap().is_empty(), "it will not go on");
    let error = failed.error.unwrap();
    assert_eq!(error.code, "worker_lost");
    assert_eq!(error.message, "the worker was lost 3 times while it had this job");
    let last = store.events(&made.id, &PageRequest::newest(1)).await.unwrap().data.remove(0);
    assert_eq!(last.message, error.message);
}

async fn a_released_job_is_no_loss_and_waits_as_long_as_asked(store: Store) {
    job(&store, "alice", T).await;
    for _ in 0..10 {
        let (lease, taken) = claim(&store, "w", T).await;
        assert_eq!(taken.lost, 0);
        store.release(&lease, 0, T).await.unwrap();
    }
    let (lease, _) = claim(&store, "w", T).await;
    store.release(&lease, 500, T).await.unwrap();
    assert!(store.claim("w", LIMITS, T + 499).await.unwrap().is_none());
    claim(&store, "w", T + 500).await;
}

async fn a_job_that_breaks_too_often_is_given_up_and_one_that_waits_is_not(store: Store) {
    let made = job(&store, "alice", T).await;
    let event = NewEvent::info("again");
    for round in 0..10 {
        let (lease, taken) = claim(&store, "w", T + round * 100).await;
        assert_eq!(taken.lost, 0);
        store.retry(&lease, false, &event, 100, T + round * 100).await.unwrap();
        let again = store.retry(&lease, false, &event, 100, T + round * 100).await;
        assert!(matches!(again, Err(StoreError::LeaseLost(_))), "{again:?}");
    }
    assert!(store.claim("w", LIMITS, T + 999).await.unwrap().is_none(), "the delay counts");
    for lost in 0..2 {
        let (lease, taken) = claim(&store, "w", T + 1_000).await;
        assert_eq!(taken.lost, lost);
        store.retry(&lease, true, &event, 0, T + 1_000).await.unwrap();
    }
    let events = store.events(&made.id, &PageRequest::newest(99)).await.unwrap().data;
    assert_eq!(events.iter().filter(|event| event.message == "again").count(), 12);
    // Twice broken and once lost: the third of three.
    claim(&store, "w", T + 1_000).await;
    assert!(store.claim("w", LIMITS, T + 2_000).await.unwrap().is_none());
    assert_eq!(store.job(Scope::All, &made.id).await.unwrap().state, JobState::Failed);
}

async fn a_clock_set_back_makes_no_lease_eternal(store: Store) {
    job(&store, "alice", T).await;
    let (lost, _) = claim(&store, "a", T).await;
    let day = 86_400_000;
    // A living worker renews by the new clock and keeps the job.
    assert_eq!(store.heartbeat(&lost, 1_000, T - day).await.unwrap(), Beat::Held);
    assert!(store.claim("b", LIMITS, T - day + 999).await.unwrap().is_none());
    // A dead one does not hold it for a day when the clock is set back again.
    let (_, taken) = claim(&store, "b", T - 2 * day).await;
    assert_eq!(taken.attempt, 2);
    // A small correction takes nothing away from a living worker, and the lease ends within twice its length.
    assert!(store.claim("c", LIMITS, T - 2 * day - 1_000).await.unwrap().is_none());
    assert!(store.claim("c", LIMITS, T - 2 * day + 1_000).await.unwrap().is_some());
}

async fn a_clock_set_forward_takes_a_job_at_most_once(store: Store) {
    job(&store, "alice", T).await;
    let (old, _) = claim(&store, "a", T).await;
    let (new, _) = claim(&store, "b", T + 86_400_000).await;
    assert_eq!(store.heartbeat(&old, 1_000, T + 86_400_001).await.unwrap(), Beat::Lost);
    store.finish(&new, &version(), None, T + 86_400_001).await.unwrap();
    assert!(matches!(store.finish(&old, &version(), None, T).await, Err(StoreError::LeaseLost(_))));
}

async fn a_clock_set_back_makes_no_delay_eternal(store: Store) {
    job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "a", T).await;
    store.release(&lease, MAX_LEASE_MS, T).await.unwrap();
    assert!(store.claim("a", LIMITS, T).await.unwrap().is_none());
    assert!(store.claim("a", LIMITS, T - 86_400_000).await.unwrap().is_some());
}

async fn events_keep_their_order_and_their_reader_whatever_the_clock_says(store: Store) {
    let made = job(&store, "alice", T).await;
    let (lease, _) = claim(&store, "a", T).await;
    let day = 86_400_000;
    store.add_event(&lease, &NewEvent::info("before"), T).await.unwrap();
    let seen = store.events(&made.id, &PageRequest::newest(1)).await.unwrap().data.remove(0).id;
    for (message, now) in [("back", T - day), ("forward", T + day), ("again", T)] {
        store.add_event(&lease, &NewEvent::info(message), now).await.unwrap();
    }
    let rest = PageRequest { after: Some(seen), limit: 9, order: Order::Ascending };
    let rest = store.events(&made.id, &rest).await.unwrap().data;
    let messages: Vec<&str> = rest.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(messages, ["back", "forward", "again"]);
    assert!(rest.windows(2).all(|pair| pair[0].id < pair[1].id));
}

async fn a_clock_set_back_keeps_no_job_waiting(store: Store) {
    let day = 86_400_000;
    let old = job(&store, "alice", T).await.id;
    let new = job(&store, "alice", T - day).await.id;
    // Both are taken at once, whichever is thought the older.
    let taken = [claim(&store, "a", T - day).await.1.id, claim(&store, "b", T - day).await.1.id];
    assert!(taken.contains(&old) && taken.contains(&new));
}

async fn a_lease_without_a_sensible_length_is_refused(store: Store) {
    job(&store, "alice", T).await;
    for lease_ms in [i64::MIN, -1, 0, MAX_LEASE_MS + 1, i64::MAX] {
        let limits = ClaimLimits { lease_ms, ..LIMITS };
        assert!(matches!(store.claim("a", limits, T).await, Err(StoreError::Invalid { .. })), "{lease_ms}");
    }
    let (lease, _) = claim(&store, "a", T).await;
    assert!(matches!(store.heartbeat(&lease, 0, T).await, Err(StoreError::Invalid { .. })));
}

async fn the_queues_size_counts_what_waits(store: Store) {
    for number in 0..3 {
        job(&store, "alice", T + number).await;
    }
    claim(&store, "a", T + 5).await;
    let size = store.queue_size(T + 6).await.unwrap();
    assert_eq!(size.jobs, [(JobState::Queued, 2), (JobState::Running, 1)]);
    assert_eq!((size.oldest_queued_at, size.stalled), (Some(T + 1), 0));
    assert_eq!(store.queue_size(T + 1_005).await.unwrap().stalled, 1);
}
