//! Job rows: made, read, listed, counted, forgotten.

use headstart_types::classifier::{ClassifierVersion, Reason};
use headstart_types::ids::{FileId, JobId, Sha256};
use headstart_types::job::{Job, JobParams, JobState, NewEvent, NewJob};
use headstart_types::webhook::Webhook;

use super::claim::EXPIRED;
use super::events::with_event;
use super::states::{FINAL, Trigger, next};
use crate::acts::{deletion, noted};
use crate::backend::{Batch, Reader, Row, Value, to_json};
use crate::error::StoreError;
use crate::page::{Page, PageRequest, Scope};
use crate::registry::check_name;
use crate::store::Store;
use crate::webhooks::with_webhook;

/// The columns of a [`Job`], in the order [`decode`] reads them.
pub(crate) const COLUMNS: &str = "id, key, state, model, method, classifier, suffix, training_file, \
    validation_file, seed, metadata, params_version, params, progress, error, fine_tuned_model, report, attempt, \
    lost, created_at, started_at, finished_at, updated_at, webhook";

/// How often a change is tried again when another came between reading and writing.
pub(crate) const TRIES: usize = 16;

/// States in which a job waits for a worker.
const WAITING: &str = "'validating_files', 'queued'";

/// What changes in a job's row as it moves, beside its state.
#[derive(Default)]
pub(crate) struct Change {
    /// Columns set, each behind a comma; `$2` is now, `$8` and on are `values`.
    pub(crate) set: &'static str,
    pub(crate) values: Vec<Value>,
    /// The key's waiting jobs must be fewer than this.
    pub(crate) queued_max: Option<u32>,
}

/// Most bytes of a job's parameters and of its metadata, as JSON.
const JSON_BYTES: usize = 64 * 1024;

pub(crate) fn decode(row: Row) -> Result<Job, StoreError> {
    let mut row = Reader::new("jobs", row);
    Ok(Job {
        id: row.parsed()?,
        key: row.text()?,
        state: row.named(JobState::of)?,
        model: row.text()?,
        method: row.text()?,
        classifier: row.text()?,
        suffix: row.optional_text()?,
        training_file: row.parsed()?,
        validation_file: row.optional_parsed()?,
        seed: row.integer()?,
        metadata: row.json()?,
        params: JobParams { version: row.count()?, value: row.json()? },
        progress: row.optional_json()?,
        error: row.optional_json()?,
        fine_tuned_model: row.optional_text()?,
        report: row.optional_parsed()?,
        attempt: row.count()?,
        lost: row.count()?,
        created_at: row.integer()?,
        started_at: row.optional_integer()?,
        finished_at: row.optional_integer()?,
        updated_at: row.integer()?,
        webhook: row.optional_parsed()?,
    })
}

/// Which jobs a list holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// Only those whose metadata holds these pairs.
    pub metadata: Vec<(String, String)>,
}

/// What waits and what runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueSize {
    /// Jobs in a state that is not final.
    pub jobs: Vec<(JobState, u64)>,
    /// Since when the oldest queued job waits.
    pub oldest_queued_at: Option<i64>,
    /// Running jobs whose lease is over.
    pub stalled: u64,
}

impl Store {
    /// Writes a job's row, which is its place in the queue. `queued_max` bounds the key's waiting jobs.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] at the bound, [`StoreError::NotFound`] for a file that is gone,
    /// [`StoreError::Conflict`] for a training file with problems or an id that exists. What a validation file must
    /// be depends on the training file, which the caller has looked at.
    pub async fn create_job(&self, new: &NewJob, queued_max: u32, now: i64) -> Result<Job, StoreError> {
        check_name("suffix", &new.classifier)?;
        let (metadata, params) = (to_json(&new.metadata)?, to_json(&new.params.value)?);
        for (field, text) in [("metadata", &metadata), ("params", &params)] {
            if text.len() > JSON_BYTES {
                let problem = format!("is longer than {JSON_BYTES} bytes");
                return Err(StoreError::Invalid { field, problem });
            }
        }
        let state = if new.validate_first { JobState::ValidatingFiles } else { JobState::Queued };
        let usable = "SELECT 1 FROM files WHERE state = 'processed' AND id =";
        let sql = format!(
            "INSERT INTO jobs (id, key, state, model, method, classifier, suffix, training_file, validation_file, \
             seed, metadata, params_version, params, created_at, updated_at, queued_at, webhook, traceparent) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $14, $16, $17 \
             WHERE (SELECT COUNT(*) FROM jobs WHERE key = $2 AND state IN ({WAITING})) < $15 \
             AND EXISTS ({usable} $8) AND ($9 IS NULL OR EXISTS (SELECT 1 FROM files WHERE id = $9)) \
             ON CONFLICT (id) DO NOTHING RETURNING {COLUMNS}"
        );
        let values = vec![
            (&new.id).into(),
            new.key.as_str().into(),
            state.as_str().into(),
            new.model.as_str().into(),
            new.method.as_str().into(),
            new.classifier.as_str().into(),
            new.suffix.clone().into(),
            (&new.training_file).into(),
            new.validation_file.as_ref().into(),
            new.seed.into(),
            metadata.into(),
            new.params.version.into(),
            params.into(),
            now.into(),
            queued_max.into(),
            new.webhook.as_ref().map(Webhook::as_str).into(),
            new.traceparent.clone().into(),
        ];
        let batch = Batch::new().must(sql, values);
        let batch = with_event(batch, &new.id, &NewEvent::info("job created"), now)?;
        match self.write(batch).await? {
            Ok(rows) => one(rows),
            Err(_) => Err(self.why_not_created(new, queued_max).await?),
        }
    }

    async fn why_not_created(&self, new: &NewJob, queued_max: u32) -> Result<StoreError, StoreError> {
        for file in std::iter::once(&new.training_file).chain(&new.validation_file) {
            // NotFound leaves by itself.
            let row = self.file(Scope::All, file).await?;
            if *file == new.training_file && row.state == headstart_types::file::FileState::Error {
                return Ok(StoreError::Conflict(format!(
                    "file `{file}` has problems and cannot be trained on"
                )));
            }
        }
        if self.job(Scope::All, &new.id).await.is_ok() {
            return Ok(StoreError::Conflict(format!("job `{}` exists", new.id)));
        }
        Ok(StoreError::TooMany { what: "queued jobs", limit: queued_max })
    }

    /// One job.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] also for another key's job.
    pub async fn job(&self, scope: Scope<'_>, id: &JobId) -> Result<Job, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = $1 AND ($2 IS NULL OR key = $2)");
        let rows = self.read(sql, vec![id.into(), scope.value()]).await?;
        rows.into_iter().next().map_or_else(|| Err(StoreError::missing("job", id)), decode)
    }

    /// Jobs in order of their ids, which is the order they were made in.
    ///
    /// # Errors
    /// What the database said.
    pub async fn jobs(
        &self,
        scope: Scope<'_>,
        filter: &JobFilter,
        page: &PageRequest<JobId>,
    ) -> Result<Page<Job>, StoreError> {
        let mut values: Vec<Value> = vec![
            scope.value(),
            filter.state.map(JobState::as_str).into(),
            page.after.as_ref().into(),
            i64::from(page.limit).saturating_add(1).into(),
        ];
        let mut sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE ($1 IS NULL OR key = $1) AND ($2 IS NULL OR state = $2) \
             AND ($3 IS NULL OR id {} $3)",
            page.order.beyond()
        );
        for (name, value) in &filter.metadata {
            values.extend([name.as_str().into(), value.as_str().into()]);
            let of_value = values.len();
            sql.push_str(&format!(
                " AND EXISTS (SELECT 1 FROM json_each(jobs.metadata) AS pair WHERE pair.key = ${} AND pair.value = ${of_value})",
                of_value - 1
            ));
        }
        sql.push_str(&format!(" ORDER BY id {} LIMIT $4", page.order.sql()));
        let rows = self.read(sql, values).await?;
        let jobs = rows.into_iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Page::of(jobs, page.limit))
    }

    /// Jobs that take a file, over or not, with their reports' blobs.
    ///
    /// # Errors
    /// What the database said.
    pub async fn jobs_on(&self, file: &FileId) -> Result<Vec<(JobId, Option<Sha256>)>, StoreError> {
        let sql = "SELECT id, report FROM jobs WHERE training_file = $1 OR validation_file = $1 ORDER BY id";
        let decode = |row| {
            let mut row = Reader::new("jobs", row);
            Ok((row.parsed()?, row.optional_parsed()?))
        };
        self.read(sql, vec![file.into()]).await?.into_iter().map(decode).collect()
    }

    /// What waits and what runs.
    ///
    /// # Errors
    /// What the database said.
    pub async fn queue_size(&self, now: i64) -> Result<QueueSize, StoreError> {
        let sql = format!(
            "SELECT state, COUNT(*), MIN(CASE WHEN state = 'queued' THEN queued_at END), \
             SUM(CASE WHEN state = 'running' AND {EXPIRED} THEN 1 ELSE 0 END) FROM jobs \
             WHERE state NOT IN ({FINAL}) GROUP BY state ORDER BY state"
        );
        let mut size = QueueSize::default();
        for row in self.read(sql, vec![now.into()]).await? {
            let mut row = Reader::new("jobs", row);
            size.jobs.push((row.named(JobState::of)?, row.count()?));
            size.oldest_queued_at = size.oldest_queued_at.or(row.optional_integer()?);
            size.stalled += row.count::<u64>()?;
        }
        Ok(size)
    }

    /// Forgets a job that is over, with its events and checkpoints; their blobs go with the next collection. Its versions
    /// stay, with their reports, and are named.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] while it is not over, [`StoreError::NotFound`].
    pub async fn delete_job(
        &self,
        scope: Scope<'_>,
        id: &JobId,
        reason: &Reason,
        now: i64,
    ) -> Result<Vec<ClassifierVersion>, StoreError> {
        let sql =
            format!("DELETE FROM jobs WHERE id = $1 AND ($2 IS NULL OR key = $2) AND state IN ({FINAL})");
        let batch = Batch::new().must(sql, vec![id.into(), scope.value()]);
        if self.write(noted(batch, &deletion("job.delete", id, reason), now)?).await?.is_ok() {
            return self.versions_where("job = $1", vec![id.into()]).await;
        }
        let job = self.job(scope, id).await?;
        Err(StoreError::Conflict(format!("job `{id}` is `{}`", job.state.as_str())))
    }

    /// Moves a job as its owner or the service wishes; the worker that has it learns of it by its heartbeat.
    pub(crate) async fn move_job(
        &self,
        scope: Scope<'_>,
        id: &JobId,
        trigger: Trigger,
        change: Change,
        event: &NewEvent,
        now: i64,
    ) -> Result<Job, StoreError> {
        for _ in 0..TRIES {
            let job = self.job(scope, id).await?;
            let state = next(job.state, trigger)?;
            let finished = if state.is_final() { Value::Integer(now) } else { Value::Null };
            let sql = format!(
                "UPDATE jobs SET state = $1, updated_at = $2, finished_at = $3{} \
                 WHERE id = $4 AND state = $5 AND attempt = $6 \
                 AND ($7 IS NULL OR (SELECT COUNT(*) FROM jobs AS others WHERE others.key = jobs.key \
                 AND others.state IN ({WAITING})) < $7) RETURNING {COLUMNS}",
                change.set
            );
            let mut values: Vec<Value> = vec![
                state.as_str().into(),
                now.into(),
                finished,
                id.into(),
                job.state.as_str().into(),
                job.attempt.into(),
                change.queued_max.into(),
            ];
            values.extend(change.values.iter().cloned());
            let mut batch = Batch::new().must(sql, values);
            if state.is_final() {
                batch = with_webhook(batch, id);
            }
            if let Ok(rows) = self.write(with_event(batch, id, event, now)?).await? {
                return one(rows);
            }
            if let Some(limit) = change.queued_max
                && self.waiting_of(&job.key).await? >= u64::from(limit)
            {
                return Err(StoreError::TooMany { what: "queued jobs", limit });
            }
        }
        Err(StoreError::Conflict(format!("job `{id}` changes too fast")))
    }

    /// How many jobs of a key wait for a worker.
    async fn waiting_of(&self, key: &str) -> Result<u64, StoreError> {
        let sql = format!("SELECT COUNT(*) FROM jobs WHERE key = $1 AND state IN ({WAITING})");
        let rows = self.read(sql, vec![key.into()]).await?;
        let row = rows.into_iter().next().ok_or(StoreError::Bug("a count has no row"))?;
        Reader::new("jobs", row).count()
    }
}

/// The job that a batch's first statement returned.
pub(crate) fn one(rows: Vec<Vec<Row>>) -> Result<Job, StoreError> {
    let row = rows.into_iter().next().and_then(|rows| rows.into_iter().next());
    decode(row.ok_or(StoreError::Bug("a statement that touched a row returned none"))?)
}
