//! States of training that can be served, one a step.

use headstart_types::classifier::ClassifierId;
use headstart_types::ids::{CheckpointId, FileId, JobId, Sha256};
use headstart_types::job::{Checkpoint, Lease};
use serde_json::Value as Json;

use super::claim::{FENCE, fence};
use super::states::FINAL;
use crate::backend::{Batch, Reader, Value, to_json};
use crate::error::StoreError;
use crate::page::{Page, PageRequest, Scope};
use crate::store::Store;

/// Most checkpoints kept of a job; the oldest go first.
const CHECKPOINTS: i64 = 100;

impl Store {
    /// Writes the checkpoint after `step`; written again after a restart, it stays one. The artifact must be durable
    /// before.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`].
    pub async fn put_checkpoint(
        &self,
        lease: &Lease,
        step: u64,
        artifact: &Sha256,
        metrics: &Json,
        now: i64,
    ) -> Result<CheckpointId, StoreError> {
        let number = i64::try_from(step)
            .map_err(|_| StoreError::Invalid { field: "step", problem: "is out of range".into() })?;
        let sql = format!(
            "INSERT INTO checkpoints (job, step, artifact, metrics, created_at) SELECT id, $4, $5, $6, $7 FROM jobs \
             WHERE {FENCE} AND state IN ('running', 'paused') ON CONFLICT (job, step) DO UPDATE SET \
             artifact = excluded.artifact, metrics = excluded.metrics, created_at = excluded.created_at"
        );
        let mut values = fence(lease);
        values.extend([number.into(), artifact.into(), to_json(metrics)?.into(), now.into()]);
        let batch = Batch::new().must(sql, values).then(
            "DELETE FROM checkpoints WHERE job = $1 AND step <= \
             (SELECT step FROM checkpoints WHERE job = $1 ORDER BY step DESC LIMIT 1 OFFSET $2)",
            vec![(&lease.id).into(), CHECKPOINTS.into()],
        );
        self.held(lease, batch).await?;
        Ok(CheckpointId::of(&lease.id, step))
    }

    /// A job's checkpoints. The job must be known to be the caller's.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an `after` of another job.
    pub async fn checkpoints(
        &self,
        job: &JobId,
        page: &PageRequest<CheckpointId>,
    ) -> Result<Page<Checkpoint>, StoreError> {
        let after = match &page.after {
            None => Value::Null,
            Some(id) => {
                let step = id.step(job).and_then(|step| i64::try_from(step).ok());
                step.ok_or_else(|| StoreError::missing("checkpoint", id))?.into()
            }
        };
        let sql = format!(
            "SELECT step, artifact, metrics, created_at FROM checkpoints \
             WHERE job = $1 AND ($2 IS NULL OR step {} $2) ORDER BY step {} LIMIT $3",
            page.order.beyond(),
            page.order.sql()
        );
        let limit = i64::from(page.limit).saturating_add(1);
        let rows = self.read(sql, vec![job.into(), after, limit.into()]).await?;
        let rows = rows.into_iter().map(|row| decode(job, Reader::new("checkpoints", row)));
        Ok(Page::of(rows.collect::<Result<_, _>>()?, page.limit))
    }

    /// A job's checkpoint after `step`. The job must be known to be the caller's.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn checkpoint(&self, job: &JobId, step: u64) -> Result<Checkpoint, StoreError> {
        let missing = || StoreError::missing("checkpoint", CheckpointId::of(job, step));
        let number = i64::try_from(step).map_err(|_| missing())?;
        let sql = "SELECT step, artifact, metrics, created_at FROM checkpoints WHERE job = $1 AND step = $2";
        let rows = self.read(sql, vec![job.into(), number.into()]).await?;
        decode(job, Reader::new("checkpoints", rows.into_iter().next().ok_or_else(missing)?))
    }
}

/// The columns that [`Store::checkpoints_where`] reads.
const OF_JOBS: &str = "SELECT jobs.key, jobs.classifier, jobs.id, checkpoints.step, checkpoints.artifact, \
    checkpoints.metrics, checkpoints.created_at FROM jobs JOIN checkpoints ON checkpoints.job = jobs.id";

impl Store {
    /// Checkpoints of jobs that were trained or tuned on a file, with the names of their classifiers.
    ///
    /// # Errors
    /// What the database said.
    pub async fn checkpoints_on(&self, file: &FileId) -> Result<Vec<(ClassifierId, Checkpoint)>, StoreError> {
        let condition = "jobs.training_file = $1 OR jobs.validation_file = $1";
        self.checkpoints_where(condition, vec![file.into()]).await
    }

    /// Checkpoints of jobs that were trained or tuned on a file which is deleted.
    ///
    /// # Errors
    /// What the database said.
    pub async fn checkpoints_on_deleted(
        &self,
        scope: Scope<'_>,
    ) -> Result<Vec<(ClassifierId, Checkpoint)>, StoreError> {
        let condition = "($1 IS NULL OR jobs.key = $1) AND (jobs.training_file NOT IN (SELECT id FROM files) \
            OR (jobs.validation_file IS NOT NULL AND jobs.validation_file NOT IN (SELECT id FROM files)))";
        self.checkpoints_where(condition, vec![scope.value()]).await
    }

    async fn checkpoints_where(
        &self,
        condition: &str,
        values: Vec<Value>,
    ) -> Result<Vec<(ClassifierId, Checkpoint)>, StoreError> {
        let sql = format!("{OF_JOBS} WHERE {condition} ORDER BY jobs.id, checkpoints.step");
        let rows = self.read(sql, values).await?;
        let of_job = |row| {
            let mut row = Reader::new("checkpoints", row);
            let classifier = ClassifierId { key: row.text()?, name: row.text()? };
            let job: JobId = row.parsed()?;
            Ok((classifier, decode(&job, row)?))
        };
        rows.into_iter().map(of_job).collect()
    }
}

/// Takes the checkpoints of a classifier's jobs away that are over: what still runs makes a version of its own.
pub(crate) fn without_checkpoints(batch: Batch, id: &ClassifierId) -> Batch {
    let sql = format!(
        "DELETE FROM checkpoints WHERE job IN (SELECT id FROM jobs WHERE key = $1 AND classifier = $2 \
         AND state IN ({FINAL}))"
    );
    batch.then(sql, vec![id.key.as_str().into(), id.name.as_str().into()])
}

fn decode(job: &JobId, mut row: Reader) -> Result<Checkpoint, StoreError> {
    let step = row.count()?;
    Ok(Checkpoint {
        id: CheckpointId::of(job, step),
        job: job.clone(),
        step,
        artifact: row.parsed()?,
        metrics: row.json()?,
        created_at: row.integer()?,
    })
}
