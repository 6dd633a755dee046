//! Every state of a job against everything that may be asked of it, and what a lease that is not the job's may do: nothing.

use headstart_store::{Beat, Scope, Store, StoreError, Trigger, next};
use headstart_types::ids::JobId;
use headstart_types::job::{Job, JobError, JobState, Lease, NewEvent, Progress};
use serde_json::json;

use crate::support::{LIMITS, T, chance, claim, contract, digest, file, job_on, reason, version};

contract!(
    every_state_takes_the_actions_of_the_table_and_no_other,
    a_lease_counts_only_with_its_owner_and_its_attempt,
    another_key_moves_and_deletes_nothing,
);

/// What may be asked of a job: by the service, a worker, its owner.
#[derive(Debug, Clone, Copy)]
enum Action {
    Validated,
    Claim,
    Heartbeat,
    Progress,
    Event,
    Step,
    Checkpoint,
    Release,
    Retry,
    Fail,
    Finish,
    Pause,
    Resume,
    Cancel,
    Refuse,
    Delete,
}

impl Action {
    const ALL: [Self; 16] = [
        Self::Validated,
        Self::Claim,
        Self::Heartbeat,
        Self::Progress,
        Self::Event,
        Self::Step,
        Self::Checkpoint,
        Self::Release,
        Self::Retry,
        Self::Fail,
        Self::Finish,
        Self::Pause,
        Self::Resume,
        Self::Cancel,
        Self::Refuse,
        Self::Delete,
    ];

    /// The entry of the store's own table that it follows, where it changes the state.
    fn trigger(self) -> Option<Trigger> {
        match self {
            Self::Validated => Some(Trigger::Validate),
            Self::Claim => Some(Trigger::Claim),
            Self::Release | Self::Retry => Some(Trigger::Release),
            Self::Fail | Self::Refuse => Some(Trigger::Fail),
            Self::Finish => Some(Trigger::Finish),
            Self::Pause => Some(Trigger::Pause),
            Self::Resume => Some(Trigger::Resume),
            Self::Cancel => Some(Trigger::Cancel),
            Self::Heartbeat | Self::Progress | Self::Event | Self::Step | Self::Checkpoint | Self::Delete => {
                None
            }
        }
    }
}

/// One row a state, one column an action: the first letters of the state that follows, `=` where it stays, `-` where the
/// job is forgotten, `.` where nothing happens.
const TABLE: &str = "
                     Validated Claim Heartbeat Progress Event Step Checkpoint Release Retry Fail Finish Pause Resume Cancel Refuse Delete
    validating_files qu        .     .         .        .     .    .          .       .     .    .      .     .      ca     fa     .
    queued           .         ru    .         .        .     .    .          .       .     .    .      pa    .      ca     fa     .
    running          .         .     =         =        =     =    =          qu      qu    fa   su     pa    .      ca     fa     .
    paused           .         .     .         =        =     =    =          .       .     .    .      .     qu     ca     .      .
    succeeded        .         .     .         .        .     .    .          .       .     .    .      .     .      .      .      -
    failed           .         .     .         .        .     .    .          .       .     .    .      .     .      .      .      -
    cancelled        .         .     .         .        .     .    .          .       .     .    .      .     .      .      .      -
";

fn error() -> JobError {
    JobError { code: "code".into(), message: "message".into(), param: None }
}

/// A job in a state, with the lease of the worker that had it last, which in two states was never anybody's or is over.
async fn job_in(store: &Store, state: JobState) -> (Job, Lease) {
    let file = file(store, "alice", T).await;
    let new = headstart_types::job::NewJob {
        validate_first: state == JobState::ValidatingFiles,
        ..job_on(&file.id, "alice", T)
    };
    let made = store.create_job(&new, 1_000, T).await.unwrap();
    let mut lease = Lease { id: made.id.clone(), owner: "w".into(), attempt: made.attempt };
    if state != JobState::ValidatingFiles {
        lease = claim(store, "w", T).await.0;
        assert_eq!(lease.id, made.id, "the only one that waits");
    }
    match state {
        JobState::ValidatingFiles | JobState::Running => {}
        JobState::Queued => store.release(&lease, 0, T).await.unwrap(),
        JobState::Paused => drop(store.pause(Scope::All, &made.id, T).await.unwrap()),
        JobState::Succeeded => drop(store.finish(&lease, &version(), None, T).await.unwrap()),
        JobState::Failed => store.fail(&lease, &error(), T).await.unwrap(),
        JobState::Cancelled => drop(store.cancel(Scope::All, &made.id, T).await.unwrap()),
    }
    let job = store.job(Scope::All, &made.id).await.unwrap();
    assert_eq!(job.state, state);
    (job, lease)
}

/// Asks for an action; whether it was done.
async fn done(store: &Store, id: &JobId, lease: &Lease, action: Action) -> bool {
    let (now, all) = (T + 5, Scope::All);
    let progress = Progress { step: 1, total: 2, eta_seconds: None };
    let event = NewEvent::info("event");
    let done: Result<(), StoreError> = match action {
        Action::Validated => store.validated(id, now).await.map(drop),
        Action::Claim => {
            let claimed = store.claim("x", LIMITS, now).await.unwrap();
            return claimed.is_some_and(|(_, job)| job.id == *id);
        }
        Action::Heartbeat => return store.heartbeat(lease, 1_000, now).await.unwrap() == Beat::Held,
        Action::Progress => store.set_progress(lease, progress, now).await,
        Action::Event => store.add_event(lease, &event, now).await,
        Action::Step => store.put_step(lease, "fit", &digest("33"), now).await,
        Action::Checkpoint => store.put_checkpoint(lease, 1, &digest("44"), &json!({}), now).await.map(drop),
        Action::Release => store.release(lease, 0, now).await,
        Action::Retry => store.retry(lease, true, &event, 0, now).await,
        Action::Fail => store.fail(lease, &error(), now).await,
        Action::Finish => store.finish(lease, &version(), None, now).await.map(drop),
        Action::Pause => store.pause(all, id, now).await.map(drop),
        Action::Resume => store.resume(all, id, u32::MAX, now).await.map(drop),
        Action::Cancel => store.cancel(all, id, now).await.map(drop),
        Action::Refuse => store.refuse_job(id, &error(), now).await.map(drop),
        Action::Delete => store.delete_job(all, id, &reason(), T).await.map(drop),
    };
    match done {
        Ok(()) => true,
        Err(StoreError::Conflict(_) | StoreError::LeaseLost(_)) => false,
        Err(other) => panic!("{action:?}: {other}"),
    }
}

/// Everything that is kept of a job.
async fn all_of(store: &Store, id: &JobId) -> String {
    let page = headstart_store::PageRequest::newest(99);
    let events = store.events(id, &page).await.unwrap().data;
    let checkpoints = store.checkpoints(id, &headstart_store::PageRequest::newest(99)).await.unwrap().data;
    format!(
        "{:?}{events:?}{checkpoints:?}{:?}",
        store.job(Scope::All, id).await.unwrap(),
        store.steps(id).await.unwrap()
    )
}

async fn every_state_takes_the_actions_of_the_table_and_no_other(store: Store) {
    let mut lines = TABLE.lines().filter(|line| !line.trim().is_empty());
    let names: Vec<String> = Action::ALL.iter().map(|action| format!("{action:?}")).collect();
    assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), names);
    let mut seen = 0;
    for (line, state) in lines.zip(JobState::ALL) {
        let mut cells = line.split_whitespace();
        assert_eq!(cells.next(), Some(state.as_str()));
        for (cell, action) in cells.zip(Action::ALL) {
            let what = format!("{state:?} {action:?}");
            let (job, lease) = job_in(&store, state).await;
            let before = all_of(&store, &job.id).await;
            let done = done(&store, &job.id, &lease, action).await;
            assert_eq!(done, cell != ".", "{what}");
            seen += 1;
            if cell == "-" {
                assert!(store.job(Scope::All, &job.id).await.is_err(), "{what}");
                continue;
            }
            if cell == "." {
                assert_eq!(all_of(&store, &job.id).await, before, "{what} leaves no trace");
            }
            let after = store.job(Scope::All, &job.id).await.unwrap().state;
            if cell == "." || cell == "=" {
                assert_eq!(after, state, "{what}");
            } else {
                assert!(after.as_str().starts_with(cell), "{what} leads to {after:?}");
                assert_eq!(next(state, action.trigger().unwrap()).unwrap(), after, "{what}");
            }
            // Nothing is left in the queue for the next cell's claim.
            let _ = store.cancel(Scope::All, &job.id, T + 6).await;
        }
    }
    assert_eq!(seen, JobState::ALL.len() * Action::ALL.len());
}

async fn a_lease_counts_only_with_its_owner_and_its_attempt(store: Store) {
    let by_lease = [
        Action::Heartbeat,
        Action::Progress,
        Action::Event,
        Action::Step,
        Action::Checkpoint,
        Action::Release,
        Action::Retry,
        Action::Fail,
        Action::Finish,
    ];
    let (job, lease) = job_in(&store, JobState::Running).await;
    let before = all_of(&store, &job.id).await;
    for forged in [
        Lease { owner: "another".into(), ..lease.clone() },
        Lease { attempt: lease.attempt + 1, ..lease.clone() },
        Lease { attempt: lease.attempt - 1, ..lease.clone() },
    ] {
        for action in by_lease {
            assert!(!done(&store, &job.id, &forged, action).await, "{action:?} {forged:?}");
        }
    }
    assert_eq!(all_of(&store, &job.id).await, before);
    let nobodys = Lease { id: JobId::new(T, chance()), ..lease };
    assert_eq!(store.heartbeat(&nobodys, 1_000, T).await.unwrap(), Beat::Lost);
}

async fn another_key_moves_and_deletes_nothing(store: Store) {
    for state in JobState::ALL {
        let (job, _) = job_in(&store, state).await;
        let bob = Scope::Key("bob");
        let refused = [
            store.pause(bob, &job.id, T).await.map(drop),
            store.resume(bob, &job.id, u32::MAX, T).await.map(drop),
            store.cancel(bob, &job.id, T).await.map(drop),
            store.delete_job(bob, &job.id, &reason(), T).await.map(drop),
        ];
        for refused in refused {
            assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{state:?} {refused:?}");
        }
        let file = store.delete_file(bob, &job.training_file, &reason(), T).await;
        assert!(matches!(file, Err(StoreError::NotFound { .. })), "{file:?}");
        assert_eq!(store.job(Scope::All, &job.id).await.unwrap(), job);
        let _ = store.cancel(Scope::All, &job.id, T).await;
    }
}
