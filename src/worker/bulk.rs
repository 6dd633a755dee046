//! Tasks asked for a job: behind whatever requests wait, and again while the queue is full.

use std::sync::Arc;
use std::time::Duration;

use headstart_engine::{Class, EngineError};
use headstart_methods::artifact::Artifact;
use headstart_tasks::features::features_given;
use headstart_tasks::{Caller, Task, TaskContext, TaskError, labels_given};
use headstart_types::Payload;

use crate::worker::control::{Halt, Stop};

/// Items that are asked for at a time, where requests may have as many.
const BATCH: usize = 128;

/// Nobody waits for what a job asks, and no key is charged.
const CALLER: Caller = Caller { deadline: None, class: Class::Bulk, key: "" };

/// A full queue is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Items to ask for at a time.
pub(super) fn batch(tasks: &TaskContext) -> usize {
    BATCH.min(tasks.limits.items).max(1)
}

/// The answer that a request would get.
///
/// # Errors
/// Outer error: the job's stop. Inner error: what the task itself refuses, which is an answer the job can live with.
pub(super) async fn ask<T: Task>(
    tasks: &TaskContext,
    halt: &Halt,
    params: impl Fn() -> T::Params,
) -> Result<Result<T::Answer, TaskError>, Stop> {
    let done = until_there_is_room(halt, || T::run(tasks, params(), CALLER)).await?;
    Ok(done.map(|done| done.answer))
}

/// The features that a backbone gives items, in their order.
///
/// # Errors
/// The job's stop, or what the task refuses.
pub(super) async fn features(
    tasks: &TaskContext,
    halt: &Halt,
    model: &str,
    input: &Payload,
) -> Result<Vec<Arc<[f32]>>, Stop> {
    let given = until_there_is_room(halt, || features_given(tasks, model, input.clone(), CALLER)).await?;
    Ok(given?)
}

/// The labels that a version gives items.
///
/// # Errors
/// Outer error: the job's stop. Inner error: what a request would be refused with.
pub(super) async fn labels(
    tasks: &TaskContext,
    halt: &Halt,
    version: &(String, Arc<Artifact>),
    input: &Payload,
) -> Result<Result<Vec<Vec<String>>, TaskError>, Stop> {
    until_there_is_room(halt, || labels_given(tasks, version.clone(), input.clone(), CALLER)).await
}

async fn until_there_is_room<A, F: Future<Output = Result<A, TaskError>>>(
    halt: &Halt,
    ask: impl Fn() -> F,
) -> Result<Result<A, TaskError>, Stop> {
    loop {
        halt.check()?;
        match ask().await {
            // What never fits is an answer; only what the job itself cannot do without ends it.
            Err(error @ TaskError::NoRoom { needed, limit, .. }) if needed <= limit => {
                return Err(error.into());
            }
            Err(TaskError::Engine(EngineError::QueueFull { .. })) => tokio::time::sleep(ASK_AGAIN).await,
            answer => return Ok(answer),
        }
    }
}
