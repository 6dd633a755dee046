//! Tasks asked for a job: behind whatever requests wait, and again while the queue is full.

use std::sync::Arc;
use std::time::Duration;

use headstart_engine::{Class, EngineError};
use headstart_methods::artifact::Artifact;
use headstart_tasks::features::{Features, FeaturesParams, FloatVector, Vector};
use headstart_tasks::{Caller, Task, TaskContext, TaskError, labels_given};
use headstart_types::Payload;

use crate::worker::control::{Halt, Stop};

/// Items that are asked for at a time, where requests may have as many.
const BATCH: usize = 128;

/// A full queue is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Items to ask for at a time.
pub(super) fn batch(tasks: &TaskContext) -> usize {
    BATCH.min(tasks.limits.items).max(1)
}

/// The answer that a request would get.
///
/// # Errors
/// The job's stop; within, what the task itself refuses.
pub(super) async fn ask<T: Task>(
    tasks: &TaskContext,
    halt: &Halt,
    params: impl Fn() -> T::Params,
) -> Result<Result<T::Answer, TaskError>, Stop> {
    let caller = Caller { deadline: None, class: Class::Bulk, key: "" };
    let done = until_there_is_room(halt, || T::run(tasks, params(), caller)).await?;
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
) -> Result<Vec<FloatVector>, Stop> {
    let params = || FeaturesParams {
        model: Some(model.to_owned()),
        input: Some(input.clone()),
        ..FeaturesParams::default()
    };
    let answer = ask::<Features>(tasks, halt, params).await?;
    let answer = answer?;
    let float = |vector| match vector {
        Vector::Float(vector) => Ok(vector),
        Vector::Base64(_) => Err(Stop::Broken("features came as base64".into())),
    };
    answer.data.into_iter().map(|datum| float(datum.embedding)).collect()
}

/// The labels that a version gives items.
///
/// # Errors
/// The job's stop; within, what a request would be refused with.
pub(super) async fn labels(
    tasks: &TaskContext,
    halt: &Halt,
    version: &(String, Arc<Artifact>),
    input: &Payload,
) -> Result<Result<Vec<Vec<String>>, TaskError>, Stop> {
    let caller = Caller { deadline: None, class: Class::Bulk, key: "" };
    until_there_is_room(halt, || labels_given(tasks, version.clone(), input.clone(), caller)).await
}

async fn until_there_is_room<A, F: Future<Output = Result<A, TaskError>>>(
    halt: &Halt,
    ask: impl Fn() -> F,
) -> Result<Result<A, TaskError>, Stop> {
    loop {
        halt.check()?;
        match ask().await {
            Err(error @ TaskError::NoRoom { .. }) => return Err(error.into()),
            Err(TaskError::Engine(EngineError::QueueFull { .. })) => tokio::time::sleep(ASK_AGAIN).await,
            answer => return Ok(answer),
        }
    }
}
