//! Tasks asked for a job: behind whatever requests wait, and again while the queue is full.

use std::time::Duration;

use headstart_engine::{Class, EngineError};
use headstart_tasks::{Caller, Task, TaskContext, TaskError};

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
    loop {
        halt.check()?;
        match T::run(tasks, params(), caller).await {
            Ok(done) => return Ok(Ok(done.answer)),
            Err(TaskError::Engine(EngineError::QueueFull { .. })) => tokio::time::sleep(ASK_AGAIN).await,
            Err(error) => return Ok(Err(error)),
        }
    }
}
