//! Files: what is known of them, who may have how many bytes, what keeps them from going.

use headstart_types::classifier::{ClassifierId, ClassifierVersion, Reason};
use headstart_types::file::{FileRow, FileState};
use headstart_types::ids::FileId;
use headstart_types::job::Checkpoint;

use crate::acts::{deletion, noted};
use crate::backend::{Batch, Reader, Row, Value, to_json};
use crate::error::StoreError;
use crate::page::{Page, PageRequest, Scope};
use crate::store::Store;

/// The columns of a [`FileRow`] before what was found in the file, in the order [`decode`] reads them.
const FACTS: &str =
    "id, key, filename, purpose, bytes, sha256, created_at, expires_at, state, status_details";

/// What was found in a file: of one with thousands of classes it is megabytes.
const FOUND: &str = "problems, summary";

/// The same without classes and findings, of which the summary keeps the counts.
const FOUND_IN_BRIEF: &str = "'[]', \
    json_patch(summary, '{\"summary\":{\"classes\":[]},\"problems\":[],\"warnings\":[]}')";

/// In place of what was found.
const NOT_FOUND: &str = "'null', 'null'";

/// What a file takes of its key's bytes: its own, and what was found in it.
const TAKES: &str = "bytes + octet_length(problems) + octet_length(summary)";

/// A job that is not over and uses the file `$1`.
const IN_USE: &str = "SELECT 1 FROM jobs WHERE (training_file = files.id OR validation_file = files.id) \
    AND state NOT IN ('succeeded', 'failed', 'cancelled')";

/// Most rows that retention deletes in one go.
const EXPIRED: i64 = 1_000;

/// Which files a list holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileFilter {
    /// Only those for this purpose.
    pub purpose: Option<String>,
}

/// What a deleted file leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct DeletedFile {
    /// Its last row.
    pub file: FileRow,
    /// Versions that were trained or tuned on it and still exist.
    pub versions: Vec<ClassifierVersion>,
    /// Checkpoints of jobs on it that still exist, with the names of their classifiers.
    pub checkpoints: Vec<(ClassifierId, Checkpoint)>,
}

fn decode(row: Row) -> Result<FileRow, StoreError> {
    let mut row = Reader::new("files", row);
    Ok(FileRow {
        id: row.parsed()?,
        key: row.text()?,
        filename: row.text()?,
        purpose: row.text()?,
        bytes: row.count()?,
        sha256: row.parsed()?,
        created_at: row.integer()?,
        expires_at: row.optional_integer()?,
        state: row.named(FileState::of)?,
        status_details: row.optional_text()?,
        problems: row.json()?,
        summary: row.json()?,
    })
}

/// The condition of files whose time is over at `$1`, those first that should have gone first, at most `$2`.
fn over() -> String {
    format!(
        "expires_at IS NOT NULL AND expires_at <= $1 AND NOT EXISTS ({IN_USE}) \
         ORDER BY expires_at, id LIMIT $2"
    )
}

/// Takes classes and findings out of the answers kept for uploads of files that go: those count as their key's no more.
fn without_findings(files: &str) -> String {
    format!(
        "UPDATE idempotency \
         SET body = json_patch(body, '{{\"classes\":null,\"problems\":null,\"warnings\":null}}') \
         WHERE status IS NOT NULL AND (key, resource) IN (SELECT key, id FROM files WHERE {files})"
    )
}

pub(crate) fn bytes_value(bytes: u64) -> Result<Value, StoreError> {
    i64::try_from(bytes)
        .map(Value::Integer)
        .map_err(|_| StoreError::Invalid { field: "bytes", problem: "is out of range".into() })
}

impl Store {
    /// Writes a file's row; its blob must be durable before. `quota` bounds what the key's files take, see
    /// [`Store::bytes_used`].
    ///
    /// # Errors
    /// [`StoreError::Quota`]; [`StoreError::Conflict`] for an id that exists.
    pub async fn create_file(&self, file: &FileRow, quota: u64) -> Result<(), StoreError> {
        let (problems, summary) = (to_json(&file.problems)?, to_json(&file.summary)?);
        let needed = file.bytes.saturating_add((problems.len() + summary.len()) as u64);
        let sql = format!(
            "INSERT INTO files ({FACTS}, {FOUND}) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 \
             WHERE (SELECT COALESCE(SUM({TAKES}), 0) FROM files WHERE key = $2) + $14 <= $13 \
             ON CONFLICT (id) DO NOTHING"
        );
        let values = vec![
            (&file.id).into(),
            file.key.as_str().into(),
            file.filename.as_str().into(),
            file.purpose.as_str().into(),
            bytes_value(file.bytes)?,
            (&file.sha256).into(),
            file.created_at.into(),
            file.expires_at.into(),
            file.state.as_str().into(),
            file.status_details.clone().into(),
            problems.into(),
            summary.into(),
            i64::try_from(quota).unwrap_or(i64::MAX).into(),
            bytes_value(needed)?,
        ];
        if self.write(Batch::new().must(sql, values)).await?.is_ok() {
            return Ok(());
        }
        if self.file(Scope::All, &file.id).await.is_ok() {
            return Err(StoreError::Conflict(format!("file `{}` exists", file.id)));
        }
        let used = self.bytes_used(&file.key).await?;
        Err(StoreError::Quota { used, limit: quota, needed })
    }

    /// Bytes that a key's files take: their own, and those of what was found in them.
    ///
    /// # Errors
    /// What the database said.
    pub async fn bytes_used(&self, key: &str) -> Result<u64, StoreError> {
        let sql = format!("SELECT COALESCE(SUM({TAKES}), 0) FROM files WHERE key = $1");
        let rows = self.read(sql, vec![key.into()]).await?;
        rows.into_iter().next().map_or(Ok(0), |row| Reader::new("files", row).count())
    }

    /// One file.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] also for another key's file.
    pub async fn file(&self, scope: Scope<'_>, id: &FileId) -> Result<FileRow, StoreError> {
        let sql = format!("SELECT {FACTS}, {FOUND} FROM files WHERE id = $1 AND ($2 IS NULL OR key = $2)");
        let rows = self.read(sql, vec![id.into(), scope.value()]).await?;
        rows.into_iter().next().map_or_else(|| Err(StoreError::missing("file", id)), decode)
    }

    /// Files in order of their ids, which is the order they were made in. Their `problems`, and in their `summary` the
    /// classes, problems and warnings, are empty lists: [`Store::file`] has them.
    ///
    /// # Errors
    /// What the database said.
    pub async fn files(
        &self,
        scope: Scope<'_>,
        filter: &FileFilter,
        page: &PageRequest<FileId>,
    ) -> Result<Page<FileRow>, StoreError> {
        self.listed(FOUND_IN_BRIEF, scope, filter, page).await
    }

    /// The same of all files, with null for what was found in them.
    ///
    /// # Errors
    /// What the database said.
    pub async fn files_without_findings(
        &self,
        scope: Scope<'_>,
        page: &PageRequest<FileId>,
    ) -> Result<Page<FileRow>, StoreError> {
        self.listed(NOT_FOUND, scope, &FileFilter::default(), page).await
    }

    async fn listed(
        &self,
        found: &str,
        scope: Scope<'_>,
        filter: &FileFilter,
        page: &PageRequest<FileId>,
    ) -> Result<Page<FileRow>, StoreError> {
        let sql = format!(
            "SELECT {FACTS}, {found} FROM files WHERE ($1 IS NULL OR key = $1) \
             AND ($2 IS NULL OR purpose = $2) AND ($3 IS NULL OR id {} $3) ORDER BY id {} LIMIT $4",
            page.order.beyond(),
            page.order.sql()
        );
        let limit = i64::from(page.limit).saturating_add(1);
        let values =
            vec![scope.value(), filter.purpose.clone().into(), page.after.as_ref().into(), limit.into()];
        let rows = self.read(sql, values).await?;
        Ok(Page::of(rows.into_iter().map(decode).collect::<Result<_, _>>()?, page.limit))
    }

    /// Deletes a file's row; its blob goes with the next collection. Names the versions and checkpoints
    /// trained on it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] while a job that is not over uses it, [`StoreError::NotFound`].
    pub async fn delete_file(
        &self,
        scope: Scope<'_>,
        id: &FileId,
        reason: &Reason,
        now: i64,
    ) -> Result<DeletedFile, StoreError> {
        let sql = format!(
            "DELETE FROM files WHERE id = $1 AND ($2 IS NULL OR key = $2) AND NOT EXISTS ({IN_USE}) \
             RETURNING {FACTS}, {FOUND}"
        );
        let batch = Batch::new()
            .then(without_findings("id = $1"), vec![id.into()])
            .must(sql, vec![id.into(), scope.value()]);
        match self.write(noted(batch, &deletion("file.delete", id, reason), now)?).await? {
            Ok(rows) => {
                // The first statement strikes the kept answer, the second deletes.
                let row = rows.into_iter().nth(1).and_then(|rows| rows.into_iter().next());
                let file = decode(row.ok_or(StoreError::Bug("a deleted file was not returned"))?)?;
                let (versions, checkpoints) = (self.trained_on(id).await?, self.checkpoints_on(id).await?);
                Ok(DeletedFile { file, versions, checkpoints })
            }
            Err(_) => {
                self.file(scope, id).await?;
                Err(StoreError::Conflict(format!("file `{id}` is used by a job that is not over")))
            }
        }
    }

    /// Versions that were trained or tuned on a file.
    ///
    /// # Errors
    /// What the database said.
    pub async fn trained_on(&self, id: &FileId) -> Result<Vec<ClassifierVersion>, StoreError> {
        let condition = "training_file = $1 OR validation_file = $1";
        self.versions_where(condition, vec![id.into()]).await
    }

    /// Versions that were trained or tuned on a file which is deleted.
    ///
    /// # Errors
    /// What the database said.
    pub async fn trained_on_deleted(&self, scope: Scope<'_>) -> Result<Vec<ClassifierVersion>, StoreError> {
        let gone = |column: &str| {
            format!(
                "({column} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM files WHERE files.id = versions.{column}))"
            )
        };
        let condition = format!(
            "($1 IS NULL OR key = $1) AND ({} OR {})",
            gone("training_file"),
            gone("validation_file")
        );
        self.versions_where(&condition, vec![scope.value()]).await
    }

    /// Deletes files whose time is over and that no unfinished job uses, those first that should have gone first, at most
    /// a thousand: which they were. Their blobs go with the next collection.
    ///
    /// # Errors
    /// What the database said.
    pub async fn delete_expired_files(&self, now: i64) -> Result<Vec<FileId>, StoreError> {
        let over = over();
        let sql = format!("DELETE FROM files WHERE id IN (SELECT id FROM files WHERE {over}) RETURNING id");
        let values = || -> Vec<Value> { vec![now.into(), EXPIRED.into()] };
        let batch = Batch::new().then(without_findings(&over), values()).must(sql, values());
        match self.write(batch).await? {
            Ok(rows) => rows.into_iter().flatten().map(|row| Reader::new("files", row).parsed()).collect(),
            Err(_) => Ok(Vec::new()),
        }
    }
}
