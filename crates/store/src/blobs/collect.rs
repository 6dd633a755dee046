//! Removes blobs that no row names.

use std::collections::BTreeSet;

use headstart_types::ids::Sha256;

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
        self.remove_unnamed(sha256, written_by).await
    }

    /// The same for whoever has the right to remove blobs.
    pub(crate) async fn remove_unnamed(&self, sha256: &Sha256, written_by: i64) -> Result<bool, StoreError> {
        let named = !self.read(NAMED, bounds(sha256.as_str())).await?.is_empty();
        Ok(!named && self.blobs().remove(sha256, written_by).await?)
    }

    /// Removes blobs that no row names and that were written at least `age_ms` ago: a younger one may be about to
    /// get its row. One collection at a time; a backup in progress defers it.
    ///
    /// # Errors
    /// What the database or the file system said.
    pub async fn collect_blobs(&self, age_ms: i64, now: i64) -> Result<Collected, StoreError> {
        let Some(_right) = self.blobs().thaw().await? else {
            return Ok(Collected { deferred: true, ..Collected::default() });
        };
        let written_by = now.saturating_sub(age_ms.max(0));
        let mut collected = Collected::default();
        for first in 0..=u8::MAX {
            let old = self.blobs().list(first).await?;
            let old: Vec<_> = old.into_iter().filter(|blob| blob.written_at <= written_by).collect();
            if old.is_empty() {
                continue;
            }
            // Rows are read after the list: a blob that got its row in between is seen to have one.
            let named = decode(self.read(NAMED, bounds(&format!("{first:02x}"))).await?)?;
            for blob in old.into_iter().filter(|blob| !named.contains(&blob.sha256)) {
                if self.blobs().remove(&blob.sha256, written_by).await? {
                    collected.blobs += 1;
                    collected.bytes += blob.bytes;
                }
            }
        }
        Ok(collected)
    }
}
