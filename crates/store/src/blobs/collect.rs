//! Removes blobs that no row names.

use std::collections::BTreeSet;

use headstart_types::ids::Sha256;

use super::Young;
use crate::backend::{Reader, Row, Value};
use crate::error::StoreError;
use crate::store::Store;

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether it was left to another time, because a backup or another collection is at it.
    pub deferred: bool,
}

/// What became of a blob that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is gone, or was not there.
    Gone,
    /// A row names it.
    Named,
    /// No row names it, but one may be about to.
    Young,
}

/// Every column that names a blob, those from `$1` to `$2`.
pub(crate) const NAMED: &str = "SELECT sha256 FROM files WHERE sha256 BETWEEN $1 AND $2 \
    UNION SELECT report FROM jobs WHERE report BETWEEN $1 AND $2 \
    UNION SELECT sha256 FROM steps WHERE sha256 BETWEEN $1 AND $2 \
    UNION SELECT artifact FROM checkpoints WHERE artifact BETWEEN $1 AND $2 \
    UNION SELECT artifact FROM versions WHERE artifact BETWEEN $1 AND $2 \
    UNION SELECT report FROM versions WHERE report BETWEEN $1 AND $2 \
    UNION SELECT evidence FROM versions WHERE evidence BETWEEN $1 AND $2 \
    ORDER BY 1";

/// The bounds of the names that begin with these digits.
pub(crate) fn bounds(digits: &str) -> Vec<Value> {
    vec![format!("{digits:0<64}").into(), format!("{digits:f<64}").into()]
}

pub(crate) fn decode(rows: Vec<Row>) -> Result<BTreeSet<Sha256>, StoreError> {
    rows.into_iter().map(|row| Reader::new("blobs", row).parsed()).collect()
}

impl Store {
    /// Removes a blob at once, unless a row names it or it was written after `written_by`: false when that is so, and when a
    /// backup or a collection is at it. What stays is left to the collection.
    ///
    /// # Errors
    /// What the database or the file system said.
    pub async fn discard(&self, sha256: &Sha256, written_by: i64) -> Result<bool, StoreError> {
        let Some(_right) = self.blobs().thaw().await? else { return Ok(false) };
        Ok(self.remove_unnamed(sha256, Young::after(written_by)).await? == Removal::Gone)
    }

    /// The same for whoever has the right to remove blobs.
    pub(crate) async fn remove_unnamed(&self, sha256: &Sha256, young: Young) -> Result<Removal, StoreError> {
        if self.is_named(sha256).await? {
            return Ok(Removal::Named);
        }
        let Some(withdrawn) = self.blobs().withdraw(sha256, young).await? else { return Ok(Removal::Young) };
        // A row that came since is to find its blob.
        if self.is_named(sha256).await? {
            withdrawn.put_back().await?;
            return Ok(Removal::Named);
        }
        withdrawn.remove().await.map(|()| Removal::Gone)
    }

    async fn is_named(&self, sha256: &Sha256) -> Result<bool, StoreError> {
        Ok(!self.read(NAMED, bounds(sha256.as_str())).await?.is_empty())
    }

    /// Removes blobs that no row names and that were written at least `age_ms` ago: a younger one may be about to get
    /// its row. A blob dated further into the future than clocks differ (`AHEAD_MS`) was written before the clock was
    /// set back, and counts as old. One collection runs at a time; while a backup or another collection runs nothing is
    /// removed, see [`Collected::deferred`].
    ///
    /// # Errors
    /// What the database or the file system said.
    pub async fn collect_blobs(&self, age_ms: i64, now: i64) -> Result<Collected, StoreError> {
        let Some(_right) = self.blobs().thaw().await? else {
            return Ok(Collected { deferred: true, ..Collected::default() });
        };
        let age_ms = age_ms.max(0);
        let young = Young::between(now.saturating_sub(age_ms), now.saturating_add(age_ms));
        let mut collected = Collected::default();
        for first in 0..=u8::MAX {
            let old = self.blobs().list(first).await?;
            let old: Vec<_> = old.into_iter().filter(|blob| !young.holds(blob.written_at)).collect();
            if old.is_empty() {
                continue;
            }
            // Most are named; only those that are not are asked for one by one.
            let named = decode(self.read(NAMED, bounds(&format!("{first:02x}"))).await?)?;
            for blob in old.into_iter().filter(|blob| !named.contains(&blob.sha256)) {
                if self.remove_unnamed(&blob.sha256, young).await? == Removal::Gone {
                    collected.blobs += 1;
                    collected.bytes += blob.bytes;
                }
            }
        }
        Ok(collected)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::{Arc, OnceLock};

    use async_trait::async_trait;
    use headstart_types::file::{FileRow, FileState};
    use headstart_types::ids::FileId;
    use serde_json::json;

    use super::*;
    use crate::backend::Sqlite;
    use crate::blobs::{BlobInfo, BlobReader, BlobStore, BlobWriter, LocalBlobs, Withdrawn};

    /// Blobs that get a row between being found to have none and being taken from their name.
    struct NamedLate {
        blobs: LocalBlobs,
        store: OnceLock<Store>,
    }

    #[async_trait]
    impl BlobStore for NamedLate {
        async fn begin(&self) -> Result<Box<dyn BlobWriter>, StoreError> {
            self.blobs.begin().await
        }

        async fn open(&self, sha256: &Sha256) -> Result<BlobReader, StoreError> {
            self.blobs.open(sha256).await
        }

        async fn path(&self, sha256: &Sha256) -> Result<PathBuf, StoreError> {
            self.blobs.path(sha256).await
        }

        async fn info(&self, sha256: &Sha256) -> Result<Option<BlobInfo>, StoreError> {
            self.blobs.info(sha256).await
        }

        async fn list(&self, first: u8) -> Result<Vec<BlobInfo>, StoreError> {
            self.blobs.list(first).await
        }

        async fn withdraw(
            &self,
            sha256: &Sha256,
            young: Young,
        ) -> Result<Option<Box<dyn Withdrawn>>, StoreError> {
            let row = FileRow {
                id: FileId::new(0, [0; 10]),
                key: "alice".into(),
                filename: "examples.jsonl".into(),
                purpose: "fine-tune".into(),
                bytes: 4,
                sha256: sha256.clone(),
                created_at: 0,
                expires_at: None,
                state: FileState::Processed,
                status_details: None,
                problems: json!([]),
                summary: json!({}),
            };
            self.store.get().unwrap().create_file(&row, u64::MAX).await?;
            self.blobs.withdraw(sha256, young).await
        }

        async fn tidy(&self) -> Result<(), StoreError> {
            self.blobs.tidy().await
        }

        async fn freeze(&self) -> Result<Box<dyn Send + Sync>, StoreError> {
            self.blobs.freeze().await
        }

        async fn thaw(&self) -> Result<Option<Box<dyn Send + Sync>>, StoreError> {
            self.blobs.thaw().await
        }
    }

    #[tokio::test]
    async fn a_blob_that_gets_its_row_while_it_is_removed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let late =
            Arc::new(NamedLate { blobs: LocalBlobs::open(folder.path()).unwrap(), store: OnceLock::new() });
        let backend = Box::new(Sqlite::in_memory().unwrap());
        let store = Store::new(backend, Arc::clone(&late) as Arc<dyn BlobStore>, None).await.unwrap();
        late.store.set(store.clone()).ok().unwrap();
        let blob = store.blobs().put(b"rows").await.unwrap();
        let collected = store.collect_blobs(0, i64::MAX).await.unwrap();
        assert_eq!(collected.blobs, 0);
        assert_eq!(store.blobs().read(&blob.sha256, 4).await.unwrap(), b"rows");
    }
}
