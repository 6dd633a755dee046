//! What a job has finished so far: blobs by step, so that it goes on at the first one missing.

use std::collections::BTreeMap;

use headstart_types::ids::{JobId, Sha256};
use headstart_types::job::Lease;

use super::claim::{FENCE, fence};
use super::states::FINAL;
use crate::backend::{Batch, Reader};
use crate::blobs::{Collected, Removal, Young};
use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Names the blob that a step gave. The blob must be durable before.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`].
    pub async fn put_step(
        &self,
        lease: &Lease,
        name: &str,
        output: &Sha256,
        now: i64,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO steps (job, name, sha256, created_at) SELECT id, $4, $5, $6 FROM jobs \
             WHERE {FENCE} AND state IN ('running', 'paused') \
             ON CONFLICT (job, name) DO UPDATE SET sha256 = excluded.sha256, created_at = excluded.created_at"
        );
        let mut values = fence(lease);
        values.extend([name.into(), output.into(), now.into()]);
        self.held(lease, Batch::quiet().must(sql, values)).await.map(|_| ())
    }

    /// Removes what the steps of jobs that are over gave: nobody goes on with them. Left to another time while a backup or a
    /// collection is at it.
    ///
    /// # Errors
    /// What the database or the file system said.
    pub async fn clear_steps(&self) -> Result<Collected, StoreError> {
        let Some(_right) = self.blobs().thaw().await? else {
            return Ok(Collected { deferred: true, ..Collected::default() });
        };
        let sql = format!(
            "DELETE FROM steps WHERE EXISTS (SELECT 1 FROM jobs WHERE jobs.id = steps.job AND state IN ({FINAL})) \
             RETURNING sha256, created_at"
        );
        let rows = self.write(Batch::quiet().then(sql, Vec::new())).await?.unwrap_or_default();
        let mut cleared = Collected::default();
        for row in rows.into_iter().flatten() {
            let mut row = Reader::new("steps", row);
            let (sha256, written_by): (Sha256, i64) = (row.parsed()?, row.integer()?);
            let Some(blob) = self.blobs().info(&sha256).await? else { continue };
            if self.remove_unnamed(&sha256, Young::after(written_by)).await? == Removal::Gone {
                cleared.blobs += 1;
                cleared.bytes += blob.bytes;
            }
        }
        Ok(cleared)
    }

    /// What a job's steps gave, by name. Empty once the job is over.
    ///
    /// # Errors
    /// What the database said.
    pub async fn steps(&self, job: &JobId) -> Result<BTreeMap<String, Sha256>, StoreError> {
        let sql = format!(
            "SELECT name, sha256 FROM steps WHERE job = $1 \
             AND EXISTS (SELECT 1 FROM jobs WHERE jobs.id = steps.job AND state NOT IN ({FINAL}))"
        );
        let rows = self.read(sql, vec![job.into()]).await?;
        let decode = |row| {
            let mut row = Reader::new("steps", row);
            Ok((row.text()?, row.parsed()?))
        };
        rows.into_iter().map(decode).collect()
    }
}
