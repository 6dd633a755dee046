//! Requests that may be sent again: the first does the work, the others get its answer.

use crate::backend::{Batch, Reader, Value};
use crate::error::StoreError;
use crate::jobs::TRIES;
use crate::store::{Store, check_duration};

/// What names a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Name of the API key.
    pub key: String,
    /// Method and route.
    pub route: String,
    /// The client's token.
    pub token: String,
}

/// A request that asks for the right to be answered.
#[derive(Debug, Clone, Copy)]
pub struct NewRequest<'a> {
    /// What names it.
    pub key: &'a RequestKey,
    /// What stands for its body.
    pub fingerprint: &'a str,
    /// The id of the row to be made.
    pub resource: &'a str,
    /// Milliseconds after which whoever neither answers nor renews the right loses it.
    pub hold_ms: i64,
    /// Milliseconds after which the request is forgotten; no fewer than `hold_ms`.
    pub keep_ms: i64,
}

/// An answer as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// The right to answer a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    request: RequestKey,
    hold: i64,
    created_at: i64,
    /// The id that the request's row is to have. After a crash it is that of the first try, whose row may exist.
    pub resource: String,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Do it, then [`Store::complete`], [`Store::abandon`] or [`Store::let_go`].
    Fresh(Ticket),
    /// It is being done.
    InProgress,
    /// It was done.
    Answered(StoredAnswer),
}

/// A row that no longer counts, by a clock that may have been set back. `$4` is now.
const OVER: &str = "(created_at + keep_ms <= $4 OR created_at - keep_ms > $4)";

impl RequestKey {
    fn values(&self) -> Vec<Value> {
        vec![self.key.as_str().into(), self.route.as_str().into(), self.token.as_str().into()]
    }
}

impl Store {
    /// Asks for the right to answer.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for another body under the same key.
    pub async fn begin(&self, request: NewRequest<'_>, now: i64) -> Result<Begun, StoreError> {
        let NewRequest { key, fingerprint, resource, hold_ms, keep_ms } = request;
        check_duration("hold_ms", hold_ms)?;
        for _ in 0..TRIES {
            let mut over = key.values();
            over.push(now.into());
            let mut values = key.values();
            values.extend([now.into(), fingerprint.into(), resource.into()]);
            values.extend([hold_ms.into(), keep_ms.max(hold_ms).into()]);
            let batch = Batch::quiet()
                .then(
                    format!(
                        "DELETE FROM idempotency WHERE key = $1 AND route = $2 AND token = $3 AND {OVER}"
                    ),
                    over,
                )
                .must(
                    "INSERT INTO idempotency (key, route, token, created_at, held_at, fingerprint, resource, \
                     hold_ms, keep_ms, hold) VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, 1) \
                     ON CONFLICT (key, route, token) DO UPDATE SET hold = idempotency.hold + 1, \
                     held_at = excluded.held_at, hold_ms = excluded.hold_ms \
                     WHERE idempotency.status IS NULL AND idempotency.fingerprint = excluded.fingerprint \
                     AND (idempotency.held_at + idempotency.hold_ms <= $4 \
                     OR idempotency.held_at - idempotency.hold_ms > $4) \
                     RETURNING hold, created_at, resource",
                    values,
                );
            if let Ok(rows) = self.write(batch).await? {
                let row = rows.into_iter().nth(1).and_then(|rows| rows.into_iter().next());
                let row = row.ok_or(StoreError::Bug("a new request was not returned"))?;
                let mut row = Reader::new("idempotency", row);
                return Ok(Begun::Fresh(Ticket {
                    request: key.clone(),
                    hold: row.integer()?,
                    created_at: row.integer()?,
                    resource: row.text()?,
                }));
            }
            let sql = "SELECT fingerprint, status, body FROM idempotency \
                WHERE key = $1 AND route = $2 AND token = $3";
            let Some(row) = self.read(sql, key.values()).await?.into_iter().next() else { continue };
            let mut row = Reader::new("idempotency", row);
            if row.text()? != fingerprint {
                let message = "the idempotency key was used with another request body";
                return Err(StoreError::Conflict(message.into()));
            }
            return Ok(match row.optional_count()? {
                None => Begun::InProgress,
                Some(status) => Begun::Answered(StoredAnswer { status, body: row.text()? }),
            });
        }
        Err(StoreError::Conflict("the request is repeated too fast".into()))
    }

    /// Holds the right to answer for as long again; whether it was still there.
    ///
    /// # Errors
    /// What the database said.
    pub async fn renew(&self, ticket: &Ticket, now: i64) -> Result<bool, StoreError> {
        let mut values = ticket.values();
        values.push(now.into());
        let sql = format!("UPDATE idempotency SET held_at = $6 WHERE {HELD}");
        Ok(self.write(Batch::quiet().must(sql, values)).await?.is_ok())
    }

    /// Keeps an answer for those who ask again. It may be there already, where it was written with what was done.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the right to answer was lost.
    pub async fn complete(&self, ticket: &Ticket, answer: &StoredAnswer) -> Result<(), StoreError> {
        let is_so = "(status IS NULL OR (status = $6 AND body = $7))";
        let sql = format!("UPDATE idempotency SET status = $6, body = $7 WHERE {OWN} AND {is_so}");
        let batch = Batch::quiet().must(sql, ticket.answered(answer));
        self.write(batch).await?.map(|_| ()).map_err(|_| taken_over())
    }

    /// Gives the right to answer back: the request may be tried again at once.
    ///
    /// # Errors
    /// What the database said.
    pub async fn abandon(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let sql = format!("DELETE FROM idempotency WHERE {HELD}");
        self.write(Batch::quiet().then(sql, ticket.values())).await.map(|_| ())
    }

    /// Lets the same request be tried again at once, under the id that this try had: it may have made the row.
    ///
    /// # Errors
    /// What the database said.
    pub async fn let_go(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let sql = format!("UPDATE idempotency SET held_at = 0 WHERE {HELD}");
        self.write(Batch::quiet().then(sql, ticket.values())).await.map(|_| ())
    }

    /// Forgets requests whose time is over.
    ///
    /// # Errors
    /// What the database said.
    pub async fn forget_requests(&self, now: i64) -> Result<(), StoreError> {
        let sql = format!("DELETE FROM idempotency WHERE {}", OVER.replace("$4", "$1"));
        self.write(Batch::quiet().then(sql, vec![now.into()])).await.map(|_| ())
    }
}

/// The condition that a row is a ticket's; its values are [`Ticket::values`], `$1` to `$5`.
const OWN: &str = "key = $1 AND route = $2 AND token = $3 AND hold = $4 AND created_at = $5";

/// The condition that a ticket still counts, of the same values.
const HELD: &str =
    "key = $1 AND route = $2 AND token = $3 AND hold = $4 AND created_at = $5 AND status IS NULL";

/// Adds to a batch that must fail without the right to answer: an answer is kept with what it tells, or neither.
pub(crate) fn with_answer(batch: Batch, ticket: &Ticket, answer: &StoredAnswer) -> Batch {
    let sql = format!("UPDATE idempotency SET status = $6, body = $7 WHERE {HELD}");
    batch.must(sql, ticket.answered(answer))
}

pub(crate) fn taken_over() -> StoreError {
    StoreError::Conflict("another request with the same idempotency key took over".into())
}

impl Ticket {
    fn answered(&self, answer: &StoredAnswer) -> Vec<Value> {
        let mut values = self.values();
        values.extend([i64::from(answer.status).into(), answer.body.as_str().into()]);
        values
    }

    fn values(&self) -> Vec<Value> {
        let mut values = self.request.values();
        values.extend([self.hold.into(), self.created_at.into()]);
        values
    }
}
