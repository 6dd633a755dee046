//! What a database must do for the store: read rows, and write several statements as one.
//!
//! A back end is one file here and its migrations. The statements above it use what SQLite and PostgreSQL share
//! (`$n`, `RETURNING`, `ON CONFLICT`, window functions). There are no interactive transactions: a batch is complete
//! when it is sent, so a caller that goes away can leave none open.

mod row;
mod sqlite;
mod turns;

use std::borrow::Cow;
use std::path::Path;

use async_trait::async_trait;

pub(crate) use row::{Reader, Row, Value, to_json};
pub(crate) use sqlite::{Sqlite, check_file, migrate_file, read_file};

use crate::error::StoreError;

/// A statement with the values of `$1`, `$2`, ….
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: Cow<'static, str>,
    pub(crate) values: Vec<Value>,
}

impl Statement {
    pub(crate) fn new(sql: impl Into<Cow<'static, str>>, values: Vec<Value>) -> Self {
        Self { sql: sql.into(), values }
    }
}

/// Statements that happen together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Each with whether it must touch a row; one that must and does not undoes the batch.
    pub(crate) steps: Vec<(Statement, bool)>,
    /// Whether nobody needs to hear of it, as with heartbeats.
    pub(crate) quiet: bool,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A batch that wakes nobody.
    pub(crate) fn quiet() -> Self {
        Self { quiet: true, ..Self::default() }
    }

    /// Adds a statement that must touch a row.
    #[must_use]
    pub(crate) fn must(mut self, sql: impl Into<Cow<'static, str>>, values: Vec<Value>) -> Self {
        self.steps.push((Statement::new(sql, values), true));
        self
    }

    /// Adds a statement that may touch none.
    #[must_use]
    pub(crate) fn then(mut self, sql: impl Into<Cow<'static, str>>, values: Vec<Value>) -> Self {
        self.steps.push((Statement::new(sql, values), false));
        self
    }
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Written {
    /// It happened: the rows each statement returned, and the database's revision when it grew.
    Done { rows: Vec<Vec<Row>>, revision: Option<u64> },
    /// The statement at this place touched no row though it had to: nothing happened.
    Missed(usize),
}

/// A database.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Runs one statement that only reads.
    async fn read(&self, statement: Statement) -> Result<Vec<Row>, StoreError>;

    /// Runs a batch as one serialisable transaction; adds one to the revision when it is not quiet and touched a row.
    async fn write(&self, batch: Batch) -> Result<Written, StoreError>;

    /// Makes what was deleted or replaced so far unreadable, also in logs of the database; false when a reader is in the way.
    async fn scrub(&self) -> Result<bool, StoreError>;

    /// Writes a consistent copy of the database to a new file, durable on return. Writers are not kept waiting.
    async fn copy_to(&self, file: &Path) -> Result<(), StoreError>;
}
