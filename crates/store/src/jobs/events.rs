//! What happened to a job, in order: appended, capped, read in pages from either end.

use headstart_types::ids::{EventId, JobId};
use headstart_types::job::{JobEvent, Lease, Level, NewEvent};

use super::claim::{FENCE, fence};
use crate::backend::{Batch, Reader, Value, to_json};
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::store::Store;

/// Most events kept of a job; the oldest go first.
const EVENTS: i64 = 2_000;
/// Longest message and data, in bytes.
const MESSAGE_BYTES: usize = 4 * 1024;
const DATA_BYTES: usize = 64 * 1024;

impl Store {
    /// Appends an event as the holder of a lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]; [`StoreError::Invalid`] for data that is too long.
    pub async fn add_event(&self, lease: &Lease, event: &NewEvent, now: i64) -> Result<(), StoreError> {
        let sql = format!("UPDATE jobs SET updated_at = $4 WHERE {FENCE} AND state IN ('running', 'paused')");
        let mut values = fence(lease);
        values.push(now.into());
        let batch = with_event(Batch::new().must(sql, values), &lease.id, event, now)?;
        self.held(lease, batch).await.map(|_| ())
    }

    /// A job's events. The job must be known to be the caller's.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an `after` of another job.
    pub async fn events(
        &self,
        job: &JobId,
        page: &PageRequest<EventId>,
    ) -> Result<Page<JobEvent>, StoreError> {
        let after = match &page.after {
            None => Value::Null,
            Some(id) => {
                let number = id.number(job).and_then(|number| i64::try_from(number).ok());
                number.ok_or_else(|| StoreError::missing("event", id))?.into()
            }
        };
        let sql = format!(
            "SELECT number, created_at, level, message, data FROM events \
             WHERE job = $1 AND ($2 IS NULL OR number {} $2) ORDER BY number {} LIMIT $3",
            page.order.beyond(),
            page.order.sql()
        );
        let limit = i64::from(page.limit).saturating_add(1);
        let rows = self.read(sql, vec![job.into(), after, limit.into()]).await?;
        let decode = |row| -> Result<JobEvent, StoreError> {
            let mut row = Reader::new("events", row);
            Ok(JobEvent {
                id: EventId::of(job, row.count()?),
                created_at: row.integer()?,
                level: row.named(Level::of)?,
                message: row.text()?,
                data: row.optional_json()?,
            })
        };
        Ok(Page::of(rows.into_iter().map(decode).collect::<Result<_, _>>()?, page.limit))
    }
}

/// Adds an event to a batch that has already made sure of the job. Numbers come from the job's own row, so they have
/// no gaps that a reader could mistake for events still to come.
pub(crate) fn with_event(batch: Batch, job: &JobId, event: &NewEvent, now: i64) -> Result<Batch, StoreError> {
    let data = event.data.as_ref().map(to_json).transpose()?;
    if data.as_ref().is_some_and(|data| data.len() > DATA_BYTES) {
        let problem = format!("is longer than {DATA_BYTES} bytes");
        return Err(StoreError::Invalid { field: "data", problem });
    }
    let mut message = event.message.clone();
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
    Ok(batch
        .then("UPDATE jobs SET event_count = event_count + 1 WHERE id = $1", vec![job.into()])
        .then(
            "INSERT INTO events (job, number, created_at, level, message, data) \
             SELECT id, event_count, $2, $3, $4, $5 FROM jobs WHERE id = $1",
            vec![job.into(), now.into(), event.level.as_str().into(), message.into(), data.into()],
        )
        .then(
            "DELETE FROM events WHERE job = $1 AND number <= (SELECT event_count FROM jobs WHERE id = $1) - $2",
            vec![job.into(), EVENTS.into()],
        ))
}
