//! The store: a database, blobs, and who is told of changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use crate::backend::{Backend, Batch, Row, Sqlite, Statement, Value, Written};
use crate::blobs::{BlobStore, LocalBlobs};
use crate::error::StoreError;
use crate::private::make_private;

/// Longest lease, marker or delay, in milliseconds: what bounds them when a clock jumps.
pub const MAX_LEASE_MS: i64 = 3_600_000;

/// Name of the database in its folder.
pub(crate) const DATABASE: &str = "store.db";
/// Name of the folder of blobs.
pub(crate) const BLOBS: &str = "blobs";

/// What survives. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Box<dyn Backend>,
    blobs: Arc<dyn BlobStore>,
    revision: watch::Sender<u64>,
    /// The data folder, where both halves are local.
    folder: Option<PathBuf>,
}

impl Store {
    /// Opens or makes the store in a folder: `store.db` and `blobs/`. Several processes may have it open.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a folder that a newer build has written; what the file system or database said.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let at = folder.to_owned();
        let opened = move || -> Result<_, StoreError> {
            make_private(&at).map_err(|error| StoreError::io("make the data folder", error))?;
            let blobs = LocalBlobs::open(&at.join(BLOBS))?;
            Ok((Sqlite::open(&at.join(DATABASE))?, blobs))
        };
        let (backend, blobs) =
            tokio::task::spawn_blocking(opened).await.map_err(|_| StoreError::Closed)??;
        Self::new(Box::new(backend), Arc::new(blobs), Some(folder.to_owned())).await
    }

    /// Whether there is a store in a folder. Blocking.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        folder.join(DATABASE).is_file()
    }

    /// A store whose rows end with the process; blobs are in `blobs`.
    ///
    /// # Errors
    /// What the file system or database said.
    pub async fn in_memory(blobs: &Path) -> Result<Self, StoreError> {
        let blobs = LocalBlobs::open(blobs)?;
        Self::new(Box::new(Sqlite::in_memory()?), Arc::new(blobs), None).await
    }

    pub(crate) async fn new(
        backend: Box<dyn Backend>,
        blobs: Arc<dyn BlobStore>,
        folder: Option<PathBuf>,
    ) -> Result<Self, StoreError> {
        let store =
            Self { inner: Arc::new(Inner { backend, blobs, revision: watch::Sender::new(0), folder }) };
        store.changed_since(0).await?;
        Ok(store)
    }

    /// The blobs.
    #[must_use]
    pub fn blobs(&self) -> &Arc<dyn BlobStore> {
        &self.inner.blobs
    }

    /// The data folder, where the store has one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.inner.folder.as_deref()
    }

    /// Wakes whenever rows change; the value is the revision. Changes of other processes are seen once
    /// [`Store::changed_since`] has been asked.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.revision.subscribe()
    }

    /// The revision, when it is beyond `revision`. One row is read; whoever waits on [`Store::changes`] is woken too.
    ///
    /// # Errors
    /// What the database said.
    pub async fn changed_since(&self, revision: u64) -> Result<Option<u64>, StoreError> {
        let rows = self.read("SELECT value FROM meta WHERE name = 'revision'", Vec::new()).await?;
        let Some(Value::Integer(value)) = rows.first().and_then(|row| row.first()) else {
            return Err(StoreError::corrupt("`meta`", "the revision is missing"));
        };
        let found = value.cast_unsigned();
        self.announce(found);
        Ok((found > revision).then_some(found))
    }

    fn announce(&self, revision: u64) {
        self.inner.revision.send_if_modified(|known| {
            let grown = revision > *known;
            *known = revision.max(*known);
            grown
        });
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.inner.backend.as_ref()
    }

    pub(crate) async fn read(
        &self,
        sql: impl Into<std::borrow::Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        self.inner.backend.read(Statement::new(sql, values)).await
    }

    /// Writes a batch: the rows of each statement, or the place of the one that had to touch a row and did not.
    pub(crate) async fn write(&self, batch: Batch) -> Result<Result<Vec<Vec<Row>>, usize>, StoreError> {
        match self.inner.backend.write(batch).await? {
            Written::Missed(place) => Ok(Err(place)),
            Written::Done { rows, revision } => {
                if let Some(revision) = revision {
                    self.announce(revision);
                }
                Ok(Ok(rows))
            }
        }
    }
}

/// A duration that a lease, marker or delay may have.
pub(crate) fn check_duration(field: &'static str, ms: i64) -> Result<(), StoreError> {
    if (1..=MAX_LEASE_MS).contains(&ms) {
        Ok(())
    } else {
        Err(StoreError::Invalid {
            field,
            problem: format!("must be between 1 and {MAX_LEASE_MS} milliseconds"),
        })
    }
}
