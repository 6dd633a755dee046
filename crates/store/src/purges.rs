//! Purges: rows, artifacts and reports change to what they are without a person's examples, all at once; then the old
//! bytes are erased. A purge that was cut off between the two is finished by whoever sweeps next.

use headstart_types::classifier::{ClassifierId, Reason};
use headstart_types::file::FileRow;
use headstart_types::ids::{PurgeId, Sha256};
use headstart_types::purge::{PurgeDetails, PurgeRow};
use serde_json::Value as Json;

use crate::backend::{Batch, Reader, Row, Value, to_json};
use crate::blobs::{Removal, Young};
use crate::error::StoreError;
use crate::files::bytes_value;
use crate::page::{Page, PageRequest, Scope};
use crate::registry::named;
use crate::store::Store;

const COLUMNS: &str = "id, key, created_at, finished_at, details";

/// Fields of an upload's answer that may quote its rows, and may be left out.
const FINDINGS: [&str; 3] = ["classes", "problems", "warnings"];

/// Jobs on the file `$2`.
const ON_FILE: &str = "SELECT id FROM jobs WHERE training_file = $2 OR validation_file = $2";

/// A purge to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPurge {
    /// Its id.
    pub id: PurgeId,
    /// Who asks for it, and why versions change.
    pub reason: Reason,
    /// The key whose rows are meant; `None` for all keys'.
    pub key: Option<String>,
    /// What is kept of it.
    pub details: PurgeDetails,
    /// Files that are written again.
    pub files: Vec<FileChange>,
    /// Versions whose artifact changes.
    pub versions: Vec<VersionChange>,
    /// Reports' blobs, as they are and as they are to be.
    pub reports: Vec<(Sha256, Sha256)>,
    /// Versions' evidence likewise.
    pub evidence: Vec<(Sha256, Sha256)>,
}

/// A file, and what it is to be without some of its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct FileChange {
    /// Its blob.
    pub from: Sha256,
    /// The row it is to have.
    pub to: FileRow,
    /// How many versions were known that were trained or tuned on it. One more is a job's that ended meanwhile: it has to be
    /// named, and what is kept of it to be struck.
    pub versions: u64,
    /// How many jobs on it were known that have a report.
    pub reports: u64,
    /// What whoever sends its upload again is answered: the answer that was kept may quote rows.
    pub answer: String,
}

/// A version whose artifact holds examples, and what it is to be without some of them.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionChange {
    /// The classifier.
    pub classifier: ClassifierId,
    /// Its revision before its versions were read: one that was made meanwhile may have grown out of what is changed here.
    pub revision: u64,
    /// The version.
    pub number: u32,
    /// Its artifact.
    pub from: Sha256,
    /// The artifact it is to have.
    pub to: Sha256,
    /// The numbers that are to be listed.
    pub metrics: Json,
}

fn decode(row: Row) -> Result<PurgeRow, StoreError> {
    let mut row = Reader::new("purges", row);
    Ok(PurgeRow {
        id: row.parsed()?,
        key: row.text()?,
        created_at: row.integer()?,
        finished_at: row.optional_integer()?,
        details: row.json()?,
    })
}

impl Store {
    /// Makes every change of a purge, or none; the new blobs must be durable before. Jobs on its files lose what they have
    /// done so far and their checkpoints, all of which was made of the old rows. False when something changed since the
    /// purge was made up, or it was written already: then nothing happened, and it is to be made up anew.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] while a job that runs uses one of the files.
    pub async fn purge(&self, purge: &NewPurge, now: i64) -> Result<bool, StoreError> {
        let values: Vec<Value> = vec![
            (&purge.id).into(),
            purge.reason.who.as_str().into(),
            now.into(),
            to_json(&purge.details)?.into(),
        ];
        let mut batch = Batch::new()
            .must("INSERT INTO purges (id, key, created_at, details) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", values);
        for change in &purge.files {
            batch = rewrite_file(batch, &purge.id, change)?;
        }
        batch = self.without_findings(batch, purge.key.as_deref()).await?;
        for change in &purge.versions {
            batch = rewrite_version(batch, &purge.id, change)?;
        }
        for changes in purge.versions.chunk_by(|one, next| one.classifier == next.classifier) {
            batch = note_in_audit(batch, changes, &purge.reason, now);
        }
        for change in &purge.reports {
            batch = rename(batch, &purge.id, &[("jobs", "report"), ("versions", "report")], change);
        }
        for change in &purge.evidence {
            batch = rename(batch, &purge.id, &[("versions", "evidence")], change);
        }
        if self.write(batch).await?.is_ok() {
            return Ok(true);
        }
        for FileChange { to: file, .. } in &purge.files {
            let sql = "SELECT id FROM jobs WHERE state = 'running' AND (training_file = $1 OR validation_file = $1)";
            if let Some(row) = self.read(sql, vec![(&file.id).into()]).await?.into_iter().next() {
                let job = Reader::new("jobs", row).text()?;
                let message = format!("file `{}` is used by job `{job}`, which runs", file.id);
                return Err(StoreError::Conflict(message));
            }
        }
        Ok(false)
    }

    /// Takes what was found in files out of the answers kept for uploads that have no row any more, or never got one: it may
    /// quote rows. That they were answered stays, so that nothing is uploaded again.
    async fn without_findings(&self, mut batch: Batch, key: Option<&str>) -> Result<Batch, StoreError> {
        let sql = "SELECT key, route, token, body FROM idempotency WHERE ($1 IS NULL OR key = $1) \
            AND resource LIKE 'file-%' AND status IS NOT NULL AND resource NOT IN (SELECT id FROM files)";
        for row in self.read(sql, vec![key.into()]).await? {
            let mut row = Reader::new("idempotency", row);
            let mut values: Vec<Value> = vec![row.text()?.into(), row.text()?.into(), row.text()?.into()];
            let Ok(Json::Object(mut body)) = serde_json::from_str(&row.text()?) else { continue };
            body.retain(|field, _| !FINDINGS.contains(&field.as_str()));
            if let Some(details) = body.get_mut("status_details") {
                *details = Json::Null;
            }
            values.push(to_json(&body)?.into());
            batch = batch.then(
                "UPDATE idempotency SET body = $4 WHERE key = $1 AND route = $2 AND token = $3",
                values,
            );
        }
        Ok(batch)
    }

    /// Erases what a purge left without a name, in the folder of blobs and in the database's own log. False while that has
    /// to wait: for a backup or a reader, and for bytes that somebody sent again since, until a row names them or the sweep
    /// takes them. What another row names by the same digest goes with that row.
    ///
    /// # Errors
    /// What the database or the file system said.
    pub async fn finish_purge(&self, id: &PurgeId, now: i64) -> Result<bool, StoreError> {
        let Some(_right) = self.blobs().thaw().await? else { return Ok(false) };
        let purge = self.purge_row(Scope::All, id).await?;
        self.blobs().tidy().await?;
        let rows = self.read("SELECT sha256 FROM erasures WHERE purge = $1", vec![id.into()]).await?;
        let mut erased = true;
        for row in rows {
            let sha256: Sha256 = Reader::new("erasures", row).parsed()?;
            let young = Young::between(purge.created_at, now);
            erased &= self.remove_unnamed(&sha256, young).await? != Removal::Young;
        }
        if !self.backend().scrub().await? || !erased {
            return Ok(false);
        }
        let batch = Batch::new().then("DELETE FROM erasures WHERE purge = $1", vec![id.into()]).then(
            "UPDATE purges SET finished_at = $2 WHERE id = $1 AND finished_at IS NULL",
            vec![id.into(), now.into()],
        );
        self.write(batch).await.map(|_| true)
    }

    /// Purges whose old bytes are not all erased.
    ///
    /// # Errors
    /// What the database said.
    pub async fn unfinished_purges(&self) -> Result<Vec<PurgeId>, StoreError> {
        let rows =
            self.read("SELECT id FROM purges WHERE finished_at IS NULL ORDER BY id", Vec::new()).await?;
        rows.into_iter().map(|row| Reader::new("purges", row).parsed()).collect()
    }

    /// One purge.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] also for another key's purge.
    pub async fn purge_row(&self, scope: Scope<'_>, id: &PurgeId) -> Result<PurgeRow, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM purges WHERE id = $1 AND ($2 IS NULL OR key = $2)");
        let rows = self.read(sql, vec![id.into(), scope.value()]).await?;
        rows.into_iter().next().map_or_else(|| Err(StoreError::missing("purge", id)), decode)
    }

    /// Purges in order of their ids, which is the order they were asked for in.
    ///
    /// # Errors
    /// What the database said.
    pub async fn purges(
        &self,
        scope: Scope<'_>,
        page: &PageRequest<PurgeId>,
    ) -> Result<Page<PurgeRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM purges WHERE ($1 IS NULL OR key = $1) AND ($2 IS NULL OR id {} $2) \
             ORDER BY id {} LIMIT $3",
            page.order.beyond(),
            page.order.sql()
        );
        let limit = i64::from(page.limit).saturating_add(1);
        let rows = self.read(sql, vec![scope.value(), page.after.as_ref().into(), limit.into()]).await?;
        Ok(Page::of(rows.into_iter().map(decode).collect::<Result<_, _>>()?, page.limit))
    }
}

fn count(count: u64) -> Value {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

/// Notes the blobs that a query names as to be erased; `$1` is the purge.
fn erase(batch: Batch, query: String, values: Vec<Value>) -> Batch {
    let sql = format!("INSERT INTO erasures (purge, sha256) {query} ON CONFLICT DO NOTHING");
    batch.then(sql, values)
}

/// Names another blob wherever one is named. Where none is, another purge has changed what this one was made up from.
fn rename(batch: Batch, id: &PurgeId, places: &[(&str, &str)], (from, to): &(Sha256, Sha256)) -> Batch {
    let named: Vec<String> = places
        .iter()
        .map(|(table, column)| format!("EXISTS (SELECT 1 FROM {table} WHERE {column} = $2)"))
        .collect();
    let sql = format!(
        "INSERT INTO erasures (purge, sha256) SELECT $1, $2 WHERE {} \
         ON CONFLICT (purge, sha256) DO UPDATE SET sha256 = excluded.sha256",
        named.join(" OR ")
    );
    let batch = batch.must(sql, vec![id.into(), from.into()]);
    places.iter().fold(batch, |batch, (table, column)| {
        let sql = format!("UPDATE {table} SET {column} = $1 WHERE {column} = $2");
        batch.then(sql, vec![to.into(), from.into()])
    })
}

fn rewrite_file(batch: Batch, id: &PurgeId, change: &FileChange) -> Result<Batch, StoreError> {
    let FileChange { from, to, versions, reports, answer } = change;
    let of_file = || -> Vec<Value> { vec![id.into(), (&to.id).into()] };
    let values = vec![
        (&to.id).into(),
        from.into(),
        (&to.sha256).into(),
        bytes_value(to.bytes)?,
        to.state.as_str().into(),
        to.status_details.clone().into(),
        to_json(&to.problems)?.into(),
        to_json(&to.summary)?.into(),
        count(*versions),
        count(*reports),
    ];
    let batch = erase(batch, "SELECT $1, sha256 FROM files WHERE id = $2".into(), of_file()).must(
        "UPDATE files SET sha256 = $3, bytes = $4, state = $5, status_details = $6, problems = $7, summary = $8 \
         WHERE id = $1 AND sha256 = $2 AND NOT EXISTS (SELECT 1 FROM jobs WHERE state = 'running' \
         AND (training_file = files.id OR validation_file = files.id)) \
         AND (SELECT COUNT(*) FROM versions WHERE training_file = files.id OR validation_file = files.id) = $9 \
         AND (SELECT COUNT(*) FROM jobs WHERE report IS NOT NULL \
         AND (training_file = files.id OR validation_file = files.id)) = $10",
        values,
    );
    let steps = format!("SELECT DISTINCT $1, sha256 FROM steps WHERE job IN ({ON_FILE})");
    let checkpoints = format!("SELECT DISTINCT $1, artifact FROM checkpoints WHERE job IN ({ON_FILE})");
    let batch = erase(erase(batch, steps, of_file()), checkpoints, of_file());
    let on_file = ON_FILE.replace("$2", "$1");
    let file = || vec![Value::from(&to.id)];
    Ok(batch
        .then(
            "UPDATE idempotency SET body = $2 WHERE resource = $1 AND status IS NOT NULL",
            vec![(&to.id).into(), answer.as_str().into()],
        )
        .then(format!("DELETE FROM steps WHERE job IN ({on_file})"), file())
        .then(format!("DELETE FROM checkpoints WHERE job IN ({on_file})"), file())
        // The worker of a paused job may write until it notices: nothing of the old rows may come from it any more.
        .then(format!("UPDATE jobs SET owner = NULL WHERE state = 'paused' AND id IN ({on_file})"), file()))
}

fn rewrite_version(batch: Batch, id: &PurgeId, change: &VersionChange) -> Result<Batch, StoreError> {
    let mut values = named(&change.classifier);
    values.extend([change.number.into(), (&change.from).into(), (&change.to).into()]);
    values.push(to_json(&change.metrics)?.into());
    let batch = batch.then(
        "INSERT INTO erasures (purge, sha256) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        vec![id.into(), (&change.from).into()],
    );
    Ok(batch.must(
        "UPDATE versions SET artifact = $5, metrics = $6 \
         WHERE key = $1 AND name = $2 AND number = $3 AND artifact = $4",
        values,
    ))
}

/// Says in the audit of a classifier that versions of it changed, and has them loaded again.
fn note_in_audit(batch: Batch, changes: &[VersionChange], reason: &Reason, now: i64) -> Batch {
    let Some(VersionChange { classifier, revision, .. }) = changes.first() else { return batch };
    let (mut looked_at, mut audit) = (named(classifier), named(classifier));
    looked_at.push(count(*revision));
    audit.extend([now.into(), reason.who.as_str().into(), reason.reason.as_str().into()]);
    batch
        .must(
            "UPDATE classifiers SET revision = revision + 1, audit_count = audit_count + 1 \
             WHERE key = $1 AND name = $2 AND revision = $3",
            looked_at,
        )
        .then(
            "INSERT INTO audits (key, name, number, created_at, action, who, before, after, reason) \
             SELECT key, name, audit_count, $3, 'purge', $4, production, production, $5 FROM classifiers \
             WHERE key = $1 AND name = $2",
            audit,
        )
}
