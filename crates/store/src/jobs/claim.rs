//! The queue: a worker takes a job, keeps it by heartbeats, and loses it when they stop.

use headstart_types::ids::JobId;
use headstart_types::job::{Job, JobError, JobState, Lease, Level, NewEvent, Progress};

use super::events::with_event;
use super::rows::{COLUMNS, decode, one};
use crate::backend::{Batch, Reader, Value, to_json};
use crate::error::StoreError;
use crate::page::Scope;
use crate::store::{MAX_LEASE_MS, Store, check_duration};
use crate::webhooks::with_webhook;

/// What a claim keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimLimits {
    /// How long a worker keeps a job without a heartbeat, in milliseconds, up to [`MAX_LEASE_MS`].
    pub lease_ms: i64,
    /// How many workers may be lost over one job before it is given up.
    pub lost_max: u32,
    /// Most running jobs of a key.
    pub running_max: u32,
}

/// What a heartbeat tells a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Go on: the lease is renewed.
    Held,
    /// Stop; step outputs and checkpoints may still be written.
    Paused,
    /// Stop; the job is over.
    Cancelled,
    /// Stop; another worker has the job, or it was given up.
    Lost,
}

/// A lease is over when its time has passed, and when it claims to begin more than its own length from now: then the
/// clock was set back, and the worker, if it lives, renews it in time by the new clock. So no lease lasts more than
/// twice its length by any clock. `$1` is now.
pub(crate) const EXPIRED: &str = "(leased_at + lease_ms <= $1 OR leased_at - lease_ms > $1)";

/// What a worker may take. `$1` is now.
fn claimable() -> String {
    format!(
        "((state = 'queued' AND (not_before <= $1 OR not_before > $1 + {MAX_LEASE_MS})) \
         OR (state = 'running' AND {EXPIRED}))"
    )
}

/// SQL for the time at which the key of a row of `jobs` was last given a worker; 0 for never. `$1` is now.
/// - Queued jobs don't count, also those that were given back: their key keeps its earlier place.
/// - A job that is claimed again keeps its first start, so that a lost worker or a pause does not put its key behind others.
/// - Starts in the future don't count: the clock was set back since.
fn served() -> String {
    format!(
        "COALESCE((SELECT MAX(started_at) FROM jobs AS past WHERE past.key = jobs.key AND started_at <= $1 \
         AND state <> 'queued' AND NOT (state = 'running' AND {EXPIRED})), 0)"
    )
}

impl Store {
    /// Takes the next job for `owner`: of the key with the fewest running jobs, of those the one that was served longest
    /// ago, the job that has waited longest. Jobs of lost workers count as waiting; a job that has cost `lost_max` workers
    /// fails instead.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a lease of no or too long a duration; what the database said.
    pub async fn claim(
        &self,
        owner: &str,
        limits: ClaimLimits,
        now: i64,
    ) -> Result<Option<(Lease, Job)>, StoreError> {
        check_duration("lease_ms", limits.lease_ms)?;
        self.give_up(limits.lost_max, now).await?;
        let (claimable, served) = (claimable(), served());
        let busy = format!(
            "SELECT key AS busy_key, COUNT(*) AS busy FROM jobs WHERE state = 'running' AND NOT {EXPIRED} GROUP BY key"
        );
        let first = format!(
            "SELECT id FROM jobs LEFT JOIN ({busy}) AS others ON busy_key = key \
             WHERE {claimable} AND COALESCE(busy, 0) < $2 \
             ORDER BY COALESCE(busy, 0), {served}, queued_at, id LIMIT 1"
        );
        // Workers ask every few seconds: where there is nothing to take, nobody has to wait for a write.
        if self.read(first.clone(), vec![now.into(), limits.running_max.into()]).await?.is_empty() {
            return Ok(None);
        }
        // The condition stands twice: a database that evaluates the inner query on older rows must not take a job
        // that has been taken meanwhile.
        let sql = format!(
            "UPDATE jobs SET lost = lost + CASE WHEN state = 'running' THEN 1 ELSE 0 END, state = 'running', \
             attempt = attempt + 1, owner = $3, leased_at = $1, lease_ms = $4, \
             started_at = COALESCE(started_at, $1), updated_at = $1 \
             WHERE id = ({first}) AND {claimable} RETURNING {COLUMNS}"
        );
        let values = vec![now.into(), limits.running_max.into(), owner.into(), limits.lease_ms.into()];
        match self.write(Batch::new().must(sql, values)).await? {
            Err(_) => Ok(None),
            Ok(rows) => {
                let job = one(rows)?;
                let lease = Lease { id: job.id.clone(), owner: owner.to_owned(), attempt: job.attempt };
                Ok(Some((lease, job)))
            }
        }
    }

    /// Fails the jobs that have cost `lost_max` workers, and says how many. [`Store::claim`] does so too.
    ///
    /// # Errors
    /// What the database said.
    pub async fn give_up(&self, lost_max: u32, now: i64) -> Result<u64, StoreError> {
        let mut given_up = 0;
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE state = 'running' AND {EXPIRED} AND lost + 1 >= $2 ORDER BY id"
        );
        for row in self.read(sql, vec![now.into(), lost_max.into()]).await? {
            let job = decode(row)?;
            let message = format!("the worker was lost {} times while it had this job", job.lost + 1);
            let error = JobError { code: "worker_lost".into(), message: message.clone(), param: None };
            let sql = format!(
                "UPDATE jobs SET state = 'failed', error = $2, finished_at = $1, updated_at = $1, lost = lost + 1 \
                 WHERE id = $3 AND attempt = $4 AND state = 'running' AND {EXPIRED}"
            );
            let values = vec![now.into(), to_json(&error)?.into(), (&job.id).into(), job.attempt.into()];
            let batch = with_webhook(Batch::new().must(sql, values), &job.id);
            let event = NewEvent { level: Level::Error, message, data: None };
            // A miss means that another process was first.
            given_up += u64::from(self.write(with_event(batch, &job.id, &event, now)?).await?.is_ok());
        }
        Ok(given_up)
    }

    /// Renews a lease, also one that has expired while nobody else took the job.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a lease of no or too long a duration; what the database said.
    pub async fn heartbeat(&self, lease: &Lease, lease_ms: i64, now: i64) -> Result<Beat, StoreError> {
        check_duration("lease_ms", lease_ms)?;
        let mut values = fence(lease);
        values.extend([now.into(), lease_ms.into()]);
        let sql =
            format!("UPDATE jobs SET leased_at = $4, lease_ms = $5 WHERE {FENCE} AND state = 'running'");
        if self.write(Batch::quiet().must(sql, values)).await?.is_ok() {
            return Ok(Beat::Held);
        }
        Ok(match self.standing(lease).await? {
            // What runs again does so under another lease.
            Beat::Held => Beat::Lost,
            beat @ (Beat::Paused | Beat::Cancelled | Beat::Lost) => beat,
        })
    }

    /// What a heartbeat would tell, without renewing the lease: nothing is written.
    ///
    /// # Errors
    /// What the database said.
    pub async fn standing(&self, lease: &Lease) -> Result<Beat, StoreError> {
        let sql = format!("SELECT state FROM jobs WHERE {FENCE}");
        let Some(row) = self.read(sql, fence(lease)).await?.into_iter().next() else {
            return Ok(Beat::Lost);
        };
        Ok(match Reader::new("jobs", row).named(JobState::of)? {
            JobState::Running => Beat::Held,
            JobState::Paused => Beat::Paused,
            JobState::Cancelled => Beat::Cancelled,
            JobState::ValidatingFiles | JobState::Queued | JobState::Succeeded | JobState::Failed => {
                Beat::Lost
            }
        })
    }

    /// Reports how far a job is. Whoever reads the job sees it; nobody is woken for it, as it comes several times a second.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`].
    pub async fn set_progress(&self, lease: &Lease, progress: Progress, now: i64) -> Result<(), StoreError> {
        let mut values = fence(lease);
        values.extend([to_json(&progress)?.into(), now.into()]);
        let sql = format!(
            "UPDATE jobs SET progress = $4, updated_at = $5 WHERE {FENCE} AND state IN ('running', 'paused')"
        );
        self.held(lease, Batch::quiet().must(sql, values)).await.map(|_| ())
    }

    /// Gives a job back, at its old place in the queue: at shutdown, or to be tried again after `delay_ms`. It does
    /// not count as a lost worker.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]; [`StoreError::Invalid`] for a delay beyond [`MAX_LEASE_MS`].
    pub async fn release(&self, lease: &Lease, delay_ms: i64, now: i64) -> Result<(), StoreError> {
        self.put_back(lease, None, delay_ms, now).await
    }

    /// Gives a job back with an event that says why, to be tried again after `delay_ms`. With `lost` it counts as if its
    /// worker had been lost: such a job is given up some time.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]; [`StoreError::Invalid`] for a delay beyond [`MAX_LEASE_MS`].
    pub async fn retry(
        &self,
        lease: &Lease,
        lost: bool,
        event: &NewEvent,
        delay_ms: i64,
        now: i64,
    ) -> Result<(), StoreError> {
        self.put_back(lease, Some((lost, event)), delay_ms, now).await
    }

    async fn put_back(
        &self,
        lease: &Lease,
        why: Option<(bool, &NewEvent)>,
        delay_ms: i64,
        now: i64,
    ) -> Result<(), StoreError> {
        if delay_ms != 0 {
            check_duration("delay_ms", delay_ms)?;
        }
        let lost = why.is_some_and(|(lost, _)| lost);
        let mut values = fence(lease);
        values.extend([now.into(), now.saturating_add(delay_ms).into(), i64::from(lost).into()]);
        let sql = format!(
            "UPDATE jobs SET state = 'queued', owner = NULL, not_before = $5, updated_at = $4, lost = lost + $6 \
             WHERE {FENCE} AND state = 'running'"
        );
        let batch = Batch::new().must(sql, values);
        let batch = match why {
            Some((_, event)) => with_event(batch, &lease.id, event, now)?,
            None => batch,
        };
        self.held(lease, batch).await.map(|_| ())
    }

    /// A queued job's place, from 1: how many claims from now it is taken, if nothing ends before.
    ///
    /// # Errors
    /// What the database said.
    pub async fn position(&self, id: &JobId, now: i64) -> Result<Option<u64>, StoreError> {
        // The nth waiting job of a key is taken when n - 1 more of that key run. Where as many run of two keys, the one
        // whose turn is the lower was not served in this line yet; of equal turns, the order is that of the first.
        let served = served();
        let sql = format!(
            "SELECT place FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY COALESCE(busy, 0) + turn, turn, served, \
             first_at, first_id) AS place FROM (SELECT id, key, {served} AS served, ROW_NUMBER() OVER own AS turn, \
             FIRST_VALUE(queued_at) OVER own AS first_at, FIRST_VALUE(id) OVER own AS first_id \
             FROM jobs WHERE state = 'queued' WINDOW own AS (PARTITION BY key ORDER BY queued_at, id)) AS waiting \
             LEFT JOIN (SELECT key AS busy_key, COUNT(*) AS busy FROM jobs WHERE state = 'running' \
             AND NOT {EXPIRED} GROUP BY key) AS others ON busy_key = key) AS line WHERE id = $2"
        );
        let rows = self.read(sql, vec![now.into(), id.into()]).await?;
        rows.into_iter().next().map(|row| Reader::new("jobs", row).count()).transpose()
    }

    /// Writes what only the holder of a lease may write.
    pub(crate) async fn held(
        &self,
        lease: &Lease,
        batch: Batch,
    ) -> Result<Vec<Vec<crate::backend::Row>>, StoreError> {
        self.write(batch).await?.map_err(|_| StoreError::LeaseLost(lease.id.clone()))
    }

    /// The job of a lease that may still write.
    pub(crate) async fn leased_job(&self, lease: &Lease) -> Result<Job, StoreError> {
        let job = self.job(Scope::All, &lease.id).await?;
        if job.attempt == lease.attempt { Ok(job) } else { Err(StoreError::LeaseLost(lease.id.clone())) }
    }
}

/// The condition that a lease holds; its values are [`fence`]'s, `$1` to `$3`.
pub(crate) const FENCE: &str = "id = $1 AND owner = $2 AND attempt = $3";

pub(crate) fn fence(lease: &Lease) -> Vec<Value> {
    vec![(&lease.id).into(), lease.owner.as_str().into(), lease.attempt.into()]
}
