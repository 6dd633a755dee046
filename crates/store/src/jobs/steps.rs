//! What a job has finished so far: blobs by step, so that it goes on at the first one missing.

use std::collections::BTreeMap;

use headstart_types::ids::{JobId, Sha256};
use headstart_types::job::Lease;

use super::claim::{FENCE, fence};
use crate::backend::{Batch, Reader};
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

    /// What a job's steps gave, by name. Empty once the job is over.
    ///
    /// # Errors
    /// What the database said.
    pub async fn steps(&self, job: &JobId) -> Result<BTreeMap<String, Sha256>, StoreError> {
        let rows = self.read("SELECT name, sha256 FROM steps WHERE job = $1", vec![job.into()]).await?;
        let decode = |row| {
            let mut row = Reader::new("steps", row);
            Ok((row.text()?, row.parsed()?))
        };
        rows.into_iter().map(decode).collect()
    }
}
