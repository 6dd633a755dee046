//! Workers: each claims a job, keeps its lease alive, does it, and looks for the next.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use headstart_engine::step_back;
use headstart_store::{Beat, ClaimLimits, Store, StoreError};
use headstart_telemetry::JobEnd;
use headstart_types::job::{Job, JobError, Lease, Level, NewEvent};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::clock::now_ms;
use crate::worker::control::{Halt, Stop};
use crate::worker::fine_tune;

/// Jobs of other processes are looked for this often; those queued here are seen at once.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A job's state is looked at again this soon after any row changed.
const SETTLE: Duration = Duration::from_millis(100);

/// A worker looks this often for what other processes wrote: whether one of them paused or cancelled its job.
const LISTEN_EVERY: Duration = Duration::from_millis(500);

/// A job that has cost this many workers, or on which the service has failed as often, is given up.
const LOST_MAX: u32 = 5;

/// A job that failed for the service's own reasons waits this long, in milliseconds, before it is tried again; after each
/// further attempt twice as long, up to the second figure.
const RETRY_AFTER_MS: (i64, i64) = (2_000, 300_000);

/// A job's end that could not be written is written again after this long, and so is its lease.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// The workers of this process, on threads of their own.
pub struct Workers {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// `None` once it was told to end.
    runtime: Option<Runtime>,
}

impl Workers {
    /// Starts as many workers as the configuration asks for; call it on the runtime that keeps their leases alive.
    /// Where the app steps back, so do all threads that a job uses.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(app: &Arc<App>) -> std::io::Result<Self> {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("worker").enable_all();
        if app.steps_back() {
            builder.on_thread_start(step_back);
        }
        let runtime = builder.build()?;
        app.metrics.data.workers.set(app.config.workers as i64);
        for number in 0..app.config.workers {
            let owner = format!("{}-{number}", uuid::Uuid::now_v7().simple());
            let work = work(Arc::clone(app), owner, Handle::current(), stop.subscribe());
            tasks.spawn_on(work, runtime.handle());
        }
        Ok(Self { stop, tasks, runtime: Some(runtime) })
    }

    /// Stops after the step at hand; unfinished jobs go back to the queue with what they have.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping it would wait for its threads, which asynchronous code must not.
            runtime.shutdown_background();
        }
    }
}

async fn work(app: Arc<App>, owner: String, leases: Handle, mut stop: watch::Receiver<bool>) {
    let Some(store) = app.store().cloned() else { return };
    let mut changes = store.changes();
    while !*stop.borrow() {
        changes.mark_unchanged();
        match store.give_up(LOST_MAX, now_ms()).await {
            Ok(given_up) => (0..given_up).for_each(|_| app.metrics.end_job(JobEnd::GivenUp)),
            Err(error) => tracing::error!(%error, "no job could be given up"),
        }
        let limits = ClaimLimits {
            lease_ms: i64::from(app.config.lease_seconds) * 1000,
            lost_max: LOST_MAX,
            running_max: app.config.key_running_jobs,
        };
        match store.claim(&owner, limits, now_ms()).await {
            Ok(Some((lease, job))) => {
                one_job(&app, &store, &lease, job, &leases, stop.clone()).await;
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "no job could be claimed"),
        }
        tokio::select! {
            _ = stop.changed() => {}
            _ = tokio::time::timeout(LOOK_EVERY, changes.changed()) => {}
        }
    }
}

async fn one_job(
    app: &Arc<App>,
    store: &Store,
    lease: &Lease,
    job: Job,
    leases: &Handle,
    mut stop: watch::Receiver<bool>,
) {
    tracing::info!(job.id = %job.id, job.method = %job.method, attempt = lease.attempt, "job started");
    let halt = Arc::new(Halt::default());
    // Not on the job's own threads: on a busy machine a lease must not run out because they make way.
    let beating = Beating(leases.spawn(keep(
        store.clone(),
        lease.clone(),
        Arc::clone(&halt),
        app.config.lease_seconds,
        stop.clone(),
    )));
    let done = AssertUnwindSafe(fine_tune::run(app, store, lease, &job, &halt)).catch_unwind().await;
    let done = done.unwrap_or_else(|_| Err(Stop::Broken("the job panicked".into())));
    let ended = match done {
        Ok(()) => JobEnd::Succeeded,
        Err(why) => write_end(store, lease, &job, &why, &mut stop).await,
    };
    drop(beating);
    app.metrics.end_job(ended);
    if let Err(error) = store.clear_steps().await {
        tracing::warn!(job.id = %job.id, %error, "what jobs kept to go on with stays until the next sweep");
    }
}

/// Renews a lease for as long as it lives: one that nobody works under must run out.
struct Beating(JoinHandle<()>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes how a job ended, again and again while the store cannot: the lease is kept meanwhile, so that nobody begins
/// what could not be written either.
async fn write_end(
    store: &Store,
    lease: &Lease,
    job: &Job,
    why: &Stop,
    stop: &mut watch::Receiver<bool>,
) -> JobEnd {
    let mut told = false;
    loop {
        match end(store, lease, job, why).await {
            Ok(ended) => return ended,
            Err(StoreError::LeaseLost(_)) => return JobEnd::Lost,
            Err(error) if !told => {
                told = true;
                tracing::error!(job.id = %job.id, %error, "the job's end could not be written; it is tried again");
            }
            Err(_) => {}
        }
        if *stop.borrow() {
            // The lease runs out by itself; another worker goes on from the steps that are there.
            return JobEnd::Lost;
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = tokio::time::sleep(WRITE_AGAIN) => {}
        }
    }
}

/// Renews the lease whenever a third of it has passed, and after every change of the store checks whether the job was
/// paused, cancelled or lost. It tells the job through `halt`, also that the process stops. It then goes on renewing:
/// the job still needs the lease to write the output of the step at hand.
async fn keep(
    store: Store,
    lease: Lease,
    halt: Arc<Halt>,
    lease_seconds: u32,
    mut stop: watch::Receiver<bool>,
) {
    let every = Duration::from_secs(u64::from(lease_seconds)) / 3;
    let lease_ms = i64::from(lease_seconds) * 1000;
    let mut changes = store.changes();
    let mut stopping = false;
    // The claim was the first.
    let mut due = Instant::now() + every;
    loop {
        let revision = *changes.borrow_and_update();
        let is_due = due <= Instant::now();
        let beat = match is_due {
            true => store.heartbeat(&lease, lease_ms, now_ms()).await,
            false => store.standing(&lease).await,
        };
        if is_due {
            due = Instant::now() + if beat.is_ok() { every } else { every.min(WRITE_AGAIN) };
        }
        match beat {
            Ok(Beat::Held) => {}
            Ok(Beat::Paused) => return halt.set(Stop::Paused),
            Ok(Beat::Cancelled) => return halt.set(Stop::Cancelled),
            Ok(Beat::Lost) => return halt.set(Stop::Lost),
            Err(error) => tracing::warn!(job.id = %lease.id, %error, "a lease could not be kept"),
        }
        tokio::select! {
            _ = stop.changed(), if !stopping => {
                halt.set(Stop::Shutdown);
                stopping = true;
            }
            () = tokio::time::sleep_until(due.into()) => {}
            _ = changes.changed() => tokio::time::sleep(SETTLE).await,
            () = listen(&store, revision) => {}
        }
    }
}

/// Returns once another process changed a row.
async fn listen(store: &Store, revision: u64) {
    loop {
        tokio::time::sleep(LISTEN_EVERY).await;
        match store.changed_since(revision).await {
            Ok(None) => {}
            Ok(Some(_)) => return,
            Err(error) => tracing::warn!(%error, "the store could not be looked at"),
        }
    }
}

/// A write that was refused says only that the job is no longer this worker's, not whether its owner ended it.
async fn lost(store: &Store, lease: &Lease, now: i64) -> Result<JobEnd, StoreError> {
    Ok(match store.heartbeat(lease, 1, now).await? {
        Beat::Cancelled => JobEnd::Cancelled,
        Beat::Paused => JobEnd::Paused,
        Beat::Held | Beat::Lost => JobEnd::Lost,
    })
}

async fn end(store: &Store, lease: &Lease, job: &Job, stop: &Stop) -> Result<JobEnd, StoreError> {
    let now = now_ms();
    match stop {
        // Whoever paused or cancelled has written the state; whoever has the lease now writes the rest.
        Stop::Paused => return Ok(JobEnd::Paused),
        Stop::Cancelled => return Ok(JobEnd::Cancelled),
        Stop::Lost => return lost(store, lease, now).await,
        Stop::Shutdown => {
            store.release(lease, 0, now).await?;
            return Ok(JobEnd::Released);
        }
        Stop::Refused(error) => {
            tracing::info!(job.id = %job.id, code = %error.code, "job failed");
            store.fail(lease, error, now).await?;
        }
        Stop::NoRoom => {
            tracing::error!(job.id = %job.id, "the disk is full: the job waits");
            let event = warning("the disk is full: the job goes on once there is room");
            store.retry(lease, false, &event, retry_after(lease.attempt), now).await?;
            return Ok(JobEnd::NoRoom);
        }
        Stop::Waits(message) => {
            tracing::warn!(job.id = %job.id, %message, "what a job needs is not to be had: it waits");
            let event = warning(message);
            store.retry(lease, false, &event, retry_after(lease.attempt), now).await?;
            return Ok(JobEnd::Released);
        }
        Stop::Broken(message) if job.lost + 1 < LOST_MAX => {
            tracing::error!(job.id = %job.id, %message, "a job broke and is tried again");
            let event = warning("the service failed: the job is tried again");
            store.retry(lease, true, &event, retry_after(lease.attempt), now).await?;
            return Ok(JobEnd::Released);
        }
        Stop::Broken(message) => {
            tracing::error!(job.id = %job.id, %message, "a job broke");
            let error = JobError {
                code: "internal_error".into(),
                message: "the service could not do this job; its log says why".into(),
                param: None,
            };
            store.fail(lease, &error, now).await?;
            return Ok(JobEnd::Broken);
        }
    }
    Ok(JobEnd::Failed)
}

fn warning(message: &str) -> NewEvent {
    NewEvent { level: Level::Warn, message: message.into(), data: None }
}

/// How long a job waits after its nth attempt, in milliseconds.
fn retry_after(attempt: u32) -> i64 {
    let (first, most) = RETRY_AFTER_MS;
    (first << attempt.saturating_sub(1).min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use headstart_store::Scope;
    use headstart_types::file::{FileRow, FileState};
    use headstart_types::ids::{FileId, JobId};
    use headstart_types::job::{JobParams, NewJob};
    use serde_json::json;

    use super::*;

    async fn file(store: &Store, number: u8) -> FileId {
        let row = FileRow {
            id: FileId::new(1, [number; 10]),
            key: String::new(),
            filename: "rows.jsonl".into(),
            purpose: "fine-tune".into(),
            bytes: 1,
            sha256: headstart_types::ids::Sha256::from_bytes([number; 32]),
            created_at: 1,
            expires_at: None,
            state: FileState::Processed,
            status_details: None,
            problems: json!([]),
            summary: json!({}),
        };
        store.create_file(&row, u64::MAX).await.unwrap();
        row.id
    }

    /// A job that a worker took some time ago, and the task that keeps its lease.
    async fn kept(store: &Store, number: u8, at: i64, seconds: u32) -> (JobId, Arc<Halt>, JoinHandle<()>) {
        let new = NewJob {
            id: JobId::new(1, [number; 10]),
            key: String::new(),
            model: "m".into(),
            method: "auto".into(),
            classifier: "c".into(),
            suffix: None,
            training_file: file(store, number).await,
            validation_file: None,
            seed: 1,
            metadata: BTreeMap::new(),
            params: JobParams { version: 1, value: json!({}) },
            webhook: None,
            traceparent: None,
            validate_first: false,
        };
        store.create_job(&new, 9, at).await.unwrap();
        let limits = ClaimLimits { lease_ms: i64::from(seconds) * 1000, lost_max: LOST_MAX, running_max: 9 };
        let (lease, _) = store.claim("w", limits, at).await.unwrap().unwrap();
        let (halt, stop) = (Arc::new(Halt::default()), watch::Sender::new(false));
        let keeping = keep(store.clone(), lease, Arc::clone(&halt), seconds, stop.subscribe());
        let keeping = tokio::spawn(async move {
            let _stop = stop;
            keeping.await;
        });
        (new.id, halt, keeping)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lease_is_not_written_for_every_change_and_a_pause_is_seen_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let at = now_ms() - 10_000;
        let (id, halt, keeping) = kept(&store, 1, at, 60).await;
        for number in 2..5 {
            file(&store, number).await;
            tokio::time::sleep(SETTLE * 2).await;
        }
        let stalled = store.queue_size(at + 60_000).await.unwrap().stalled;
        assert_eq!(stalled, 1, "it was renewed long before a third of it had passed");
        store.pause(Scope::All, &id, now_ms()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(15), keeping).await.unwrap().unwrap();
        assert!(matches!(halt.check(), Err(Stop::Paused)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lease_is_renewed_in_time_and_an_end_by_another_process_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let at = now_ms();
        let (id, halt, keeping) = kept(&store, 1, at, 1).await;
        let renewed = async {
            while now_ms() < at + 1500 || store.queue_size(now_ms()).await.unwrap().stalled > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), renewed).await.unwrap();
        let other = Store::open(folder.path()).await.unwrap();
        other.cancel(Scope::All, &id, now_ms()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(15), keeping).await.unwrap().unwrap();
        assert!(matches!(halt.check(), Err(Stop::Cancelled)));
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        assert_eq!([1, 2, 3, 4].map(retry_after), [2_000, 4_000, 8_000, 16_000]);
        assert_eq!((retry_after(9), retry_after(u32::MAX)), (300_000, 300_000));
    }
}
