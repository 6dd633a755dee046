//! Blobs: bytes named by their SHA-256, written whole or not at all, never changed.

mod collect;
mod local;
mod staging;

use std::path::PathBuf;

use async_trait::async_trait;
use headstart_types::ids::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt as _};

pub use collect::Collected;
pub(crate) use collect::{NAMED, Removal, bounds, decode};
pub use local::LocalBlobs;
pub(crate) use local::{place, sync_folder};
pub(crate) use staging::Staging;

use crate::error::StoreError;

/// A blob that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name.
    pub sha256: Sha256,
    /// Its length.
    pub bytes: u64,
    /// When it was last written, milliseconds since the epoch by the clock of the disk.
    pub written_at: i64,
}

/// How far the clock of the disk may be ahead, in milliseconds.
const AHEAD_MS: i64 = 60_000;

/// Blobs of which nothing is known yet but that they were just written: a row may be about to name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Young {
    /// They were written later than this.
    pub after: i64,
    /// And no later than this: what comes from the future is from before the clock was set back.
    pub until: i64,
}

impl Young {
    /// Those written after one moment, and by another, or as much later as clocks differ.
    #[must_use]
    pub fn between(after: i64, now: i64) -> Self {
        Self { after, until: now.saturating_add(AHEAD_MS) }
    }

    /// Those written after a moment, whatever the clock says now.
    #[must_use]
    pub fn after(after: i64) -> Self {
        Self { after, until: i64::MAX }
    }

    /// Whether a blob is one of them.
    #[must_use]
    pub fn holds(self, written_at: i64) -> bool {
        self.after < written_at && written_at <= self.until
    }
}

/// A blob's bytes, from the first on.
pub type BlobReader = Box<dyn AsyncRead + Send + Unpin>;

/// Where blobs are. An object store fits: staging is a multipart upload, `finish` copies it to its name.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Begins a blob whose name is not known yet.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] or what the file system said.
    async fn begin(&self) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// A blob as a stream.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn open(&self, sha256: &Sha256) -> Result<BlobReader, StoreError>;

    /// A blob as a file on this machine, to be read only. It may go once no row names it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn path(&self, sha256: &Sha256) -> Result<PathBuf, StoreError>;

    /// What is known of a blob, if it exists.
    ///
    /// # Errors
    /// What the file system said.
    async fn info(&self, sha256: &Sha256) -> Result<Option<BlobInfo>, StoreError>;

    /// The blobs whose digest begins with this byte, in order of their names.
    ///
    /// # Errors
    /// What the file system said.
    async fn list(&self, first: u8) -> Result<Vec<BlobInfo>, StoreError>;

    /// Takes a blob's name away, unless it is one of `young`: `None` when it is. Also of one that is not there.
    ///
    /// # Errors
    /// What the file system said.
    async fn withdraw(&self, sha256: &Sha256, young: Young)
    -> Result<Option<Box<dyn Withdrawn>>, StoreError>;

    /// Removes what processes that are gone left half written or half removed.
    ///
    /// # Errors
    /// What the file system said.
    async fn tidy(&self) -> Result<(), StoreError>;

    /// Keeps other parties from removing blobs until the guard is dropped, waiting for those at it.
    ///
    /// # Errors
    /// What the file system said.
    async fn freeze(&self) -> Result<Box<dyn Send + Sync>, StoreError>;

    /// The right to remove blobs until the guard is dropped; `None` while they are frozen.
    ///
    /// # Errors
    /// What the file system said.
    async fn thaw(&self) -> Result<Option<Box<dyn Send + Sync>>, StoreError>;

    /// Writes a small blob at once.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] or what the file system said.
    async fn put(&self, bytes: &[u8]) -> Result<BlobInfo, StoreError> {
        let mut writer = self.begin().await?;
        writer.write(bytes).await?;
        writer.finish().await
    }

    /// Reads a whole blob of at most `limit` bytes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Invalid`] for a longer one.
    async fn read(&self, sha256: &Sha256, limit: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let mut reader = self.open(sha256).await?.take(limit.saturating_add(1));
        let read = reader.read_to_end(&mut bytes).await;
        let read = read.map_err(|error| StoreError::io(format!("read blob {sha256}"), error))?;
        if read as u64 > limit {
            let problem = format!("has more than {limit} bytes");
            return Err(StoreError::Invalid { field: "blob", problem });
        }
        Ok(bytes)
    }
}

/// A blob without its name. Dropped, it gets that back, and so it does where the process ends before it is removed.
#[async_trait]
pub trait Withdrawn: Send {
    /// Removes it.
    ///
    /// # Errors
    /// What the file system said.
    async fn remove(self: Box<Self>) -> Result<(), StoreError>;

    /// Gives it its name back, unless equal bytes have got it meanwhile.
    ///
    /// # Errors
    /// What the file system said.
    async fn put_back(self: Box<Self>) -> Result<(), StoreError>;
}

/// A blob being written. Dropping it leaves nothing.
#[async_trait]
pub trait BlobWriter: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] or what the file system said; the blob is lost then.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Ends the blob: on return it is durable under its name.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] or what the file system said; there is no blob then.
    async fn finish(self: Box<Self>) -> Result<BlobInfo, StoreError>;

    /// Gives the blob up.
    ///
    /// # Errors
    /// What the file system said.
    async fn abort(self: Box<Self>) -> Result<(), StoreError>;
}
