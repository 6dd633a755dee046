//! The outbox: ends of jobs that somebody else is to be told of. A row comes in the transaction that ends its job and
//! goes in the one that notes its delivery, so that a crash costs at most a second telling of the same. Whoever tells
//! one holds it for a while; then others may.

use headstart_types::ids::JobId;
use headstart_types::job::{JobState, Level, NewEvent};
use headstart_types::webhook::Delivery;

use crate::backend::{Batch, Reader, Row, Value};
use crate::error::StoreError;
use crate::jobs::with_event;
use crate::store::{MAX_LEASE_MS, Store, check_duration};

/// Longest reason that is kept, in bytes.
const REASON_BYTES: usize = 1024;

/// The condition that an attempt holds; its values are [`held`]'s, `$1` and `$2`.
const HELD: &str = "job = $1 AND attempt = $2 AND given_up_at IS NULL";

/// What the outbox holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Ends that are still to be told.
    pub waiting: u64,
    /// When the oldest of them happened.
    pub oldest_ended_at: Option<i64>,
    /// Ends that were given up.
    pub given_up: u64,
}

/// What may be tried. No wait is longer than a lease may be: a longer one comes from a clock that was set back. `$1` is
/// now.
fn due() -> String {
    format!("given_up_at IS NULL AND (due_at <= $1 OR due_at > $1 + {MAX_LEASE_MS})")
}

fn held(delivery: &Delivery) -> Vec<Value> {
    vec![(&delivery.job).into(), delivery.attempt.into()]
}

fn decode(row: Row) -> Result<Delivery, StoreError> {
    let mut row = Reader::new("webhooks", row);
    Ok(Delivery {
        job: row.parsed()?,
        state: row.named(JobState::of)?,
        webhook: row.parsed()?,
        ended_at: row.integer()?,
        attempt: row.count()?,
        traceparent: row.optional_text()?,
    })
}

/// Puts the end of a job into the outbox, if it is to be told. The batch has written the end before.
pub(crate) fn with_webhook(batch: Batch, job: &JobId) -> Batch {
    batch.then(
        "INSERT INTO webhooks (job, state, webhook, ended_at, due_at) \
         SELECT id, state, webhook, finished_at, finished_at FROM jobs WHERE id = $1 AND webhook IS NOT NULL",
        vec![job.into()],
    )
}

impl Store {
    /// Takes an end to tell for `lease_ms`: one that was tried least, and of those the one that has waited longest, so
    /// that a receiver that is down does not hold up the others.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a lease of no or too long a duration; what the database said.
    pub async fn claim_webhook(&self, lease_ms: i64, now: i64) -> Result<Option<Delivery>, StoreError> {
        check_duration("lease_ms", lease_ms)?;
        let due = due();
        // Most looks find nothing: they need not wait for whoever writes.
        let sql = format!("SELECT 1 FROM webhooks WHERE {due} LIMIT 1");
        if self.read(sql, vec![now.into()]).await?.is_empty() {
            return Ok(None);
        }
        let sql = format!(
            "UPDATE webhooks SET attempt = attempt + 1, due_at = $1 + $2 \
             WHERE job = (SELECT job FROM webhooks WHERE {due} ORDER BY attempt, due_at, job LIMIT 1) AND {due} \
             RETURNING job, state, webhook, ended_at, attempt, \
             (SELECT traceparent FROM jobs WHERE id = webhooks.job)"
        );
        let written = self.write(Batch::quiet().must(sql, vec![now.into(), lease_ms.into()])).await?;
        let rows = written.unwrap_or_default().into_iter().next().unwrap_or_default();
        rows.into_iter().next().map(decode).transpose()
    }

    /// Notes a delivery among the job's events; `false` when another attempt has begun since.
    ///
    /// # Errors
    /// What the database said.
    pub async fn webhook_delivered(
        &self,
        delivery: &Delivery,
        message: &str,
        now: i64,
    ) -> Result<bool, StoreError> {
        let batch = Batch::new().must(format!("DELETE FROM webhooks WHERE {HELD}"), held(delivery));
        let batch = with_event(batch, &delivery.job, &NewEvent::info(message), now)?;
        Ok(self.write(batch).await?.is_ok())
    }

    /// Puts an end that could not be told off for `delay_ms`; `false` when another attempt has begun since.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a delay of no or too long a duration; what the database said.
    pub async fn webhook_put_off(
        &self,
        delivery: &Delivery,
        reason: &str,
        delay_ms: i64,
        now: i64,
    ) -> Result<bool, StoreError> {
        check_duration("delay_ms", delay_ms)?;
        let mut values = held(delivery);
        values.extend([kept(reason), now.saturating_add(delay_ms).into()]);
        let sql = format!("UPDATE webhooks SET reason = $3, due_at = $4 WHERE {HELD}");
        Ok(self.write(Batch::quiet().must(sql, values)).await?.is_ok())
    }

    /// Gives an end up: its row stays, and an event warns of it. `false` when another attempt has begun since.
    ///
    /// # Errors
    /// What the database said.
    pub async fn webhook_given_up(
        &self,
        delivery: &Delivery,
        reason: &str,
        message: &str,
        now: i64,
    ) -> Result<bool, StoreError> {
        let mut values = held(delivery);
        values.extend([kept(reason), now.into()]);
        let sql = format!("UPDATE webhooks SET reason = $3, given_up_at = $4 WHERE {HELD}");
        let event = NewEvent { level: Level::Warn, message: message.to_owned(), data: None };
        let batch = with_event(Batch::new().must(sql, values), &delivery.job, &event, now)?;
        Ok(self.write(batch).await?.is_ok())
    }

    /// What the outbox holds.
    ///
    /// # Errors
    /// What the database said.
    pub async fn outbox(&self) -> Result<Outbox, StoreError> {
        let sql = "SELECT COUNT(*) - COUNT(given_up_at), MIN(CASE WHEN given_up_at IS NULL THEN ended_at END), \
                   COUNT(given_up_at) FROM webhooks";
        let Some(row) = self.read(sql, Vec::new()).await?.into_iter().next() else {
            return Ok(Outbox::default());
        };
        let mut row = Reader::new("webhooks", row);
        Ok(Outbox { waiting: row.count()?, oldest_ended_at: row.optional_integer()?, given_up: row.count()? })
    }
}

fn kept(reason: &str) -> Value {
    reason.get(..reason.floor_char_boundary(REASON_BYTES)).unwrap_or_default().into()
}
