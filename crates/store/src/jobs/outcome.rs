//! What owners and workers decide about a job. Its success is written with its version, in the registry.

use headstart_types::ids::JobId;
use headstart_types::job::{Job, JobError, JobState, Lease, Level, NewEvent};

use super::claim::{FENCE, fence};
use super::events::with_event;
use super::rows::Change;
use super::states::Trigger;
use crate::backend::{Batch, to_json};
use crate::error::StoreError;
use crate::page::Scope;
use crate::store::Store;
use crate::webhooks::with_webhook;

impl Store {
    /// Its files were found good: the job waits for a worker.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] from another state, [`StoreError::NotFound`].
    pub async fn validated(&self, id: &JobId, now: i64) -> Result<Job, StoreError> {
        let event = NewEvent::info("files validated, job queued");
        let queued = Change { set: ", queued_at = $2", ..Change::default() };
        self.move_job(Scope::All, id, Trigger::Validate, queued, &event, now).await
    }

    /// Its files were found bad, or it cannot be run at all: the job fails without a worker.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is paused or over, [`StoreError::NotFound`].
    pub async fn refuse_job(&self, id: &JobId, error: &JobError, now: i64) -> Result<Job, StoreError> {
        let event = NewEvent { level: Level::Error, message: error.message.clone(), data: None };
        let values = vec![to_json(error)?.into()];
        let change = Change { set: ", error = $8", values, queued_max: None };
        self.move_job(Scope::All, id, Trigger::Fail, change, &event, now).await
    }

    /// Ends a job. A worker that has it writes nothing more and learns of it by its next heartbeat.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is over, [`StoreError::NotFound`].
    pub async fn cancel(&self, scope: Scope<'_>, id: &JobId, now: i64) -> Result<Job, StoreError> {
        let event = NewEvent::info("job cancelled");
        self.move_job(scope, id, Trigger::Cancel, Change::default(), &event, now).await
    }

    /// Stops a job until it is resumed. A worker that has it may still write its step's output; nothing is counted
    /// as lost.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it neither waits nor runs, [`StoreError::NotFound`].
    pub async fn pause(&self, scope: Scope<'_>, id: &JobId, now: i64) -> Result<Job, StoreError> {
        let event = NewEvent::info("job paused");
        self.move_job(scope, id, Trigger::Pause, Change::default(), &event, now).await
    }

    /// Puts a paused job at the end of the queue. `queued_max` bounds the key's waiting jobs, as where jobs are made.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] at the bound, [`StoreError::Conflict`] when it is not paused, [`StoreError::NotFound`].
    pub async fn resume(
        &self,
        scope: Scope<'_>,
        id: &JobId,
        queued_max: u32,
        now: i64,
    ) -> Result<Job, StoreError> {
        let event = NewEvent::info("job resumed");
        let set = ", queued_at = $2, owner = NULL";
        let queued = Change { set, values: Vec::new(), queued_max: Some(queued_max) };
        self.move_job(scope, id, Trigger::Resume, queued, &event, now).await
    }

    /// Fails a job as the holder of its lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`].
    pub async fn fail(&self, lease: &Lease, error: &JobError, now: i64) -> Result<(), StoreError> {
        let sql = format!(
            "UPDATE jobs SET state = '{}', error = $4, finished_at = $5, updated_at = $5 \
             WHERE {FENCE} AND state = 'running'",
            JobState::Failed.as_str()
        );
        let mut values = fence(lease);
        values.extend([to_json(error)?.into(), now.into()]);
        let batch = with_webhook(Batch::new().must(sql, values), &lease.id);
        let event = NewEvent { level: Level::Error, message: error.message.clone(), data: None };
        let batch = with_event(batch, &lease.id, &event, now)?;
        self.held(lease, batch).await.map(|_| ())
    }
}
