//! Classifier, version and audit rows: read and listed.

use std::collections::BTreeSet;

use headstart_types::classifier::{AuditRow, Classifier, ClassifierId, ClassifierVersion, Origin};
use headstart_types::ids::JobId;

use crate::backend::{Reader, Row, Value};
use crate::error::StoreError;
use crate::page::{Order, Page, PageRequest, Scope};
use crate::store::Store;

const COLUMNS: &str =
    "key, name, created_at, last_version, production, history, traffic, shadow, aliases, revision";

/// The columns of a [`ClassifierVersion`], in the order [`decode_version`] reads them.
pub(crate) const VERSION_COLUMNS: &str = "key, name, number, origin, artifact, report, evidence, metrics, \
    backbone, backbone_sha256, job, training_file, validation_file, created_at";

/// Longest name of a classifier or alias, in bytes.
const NAME_BYTES: usize = 128;

/// A name that can stand before and after the `@` of a model's name.
pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), StoreError> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES {
        "is longer than 128 bytes"
    } else if name.contains(['@', '/', ',']) || name.contains(char::is_control) {
        "may not hold '@', '/', ',' or control characters"
    } else {
        return Ok(());
    };
    Err(StoreError::Invalid { field, problem: problem.into() })
}

fn decode(row: Row) -> Result<Classifier, StoreError> {
    let mut row = Reader::new("classifiers", row);
    Ok(Classifier {
        id: ClassifierId { key: row.text()?, name: row.text()? },
        created_at: row.integer()?,
        last_version: row.count()?,
        production: row.optional_count()?,
        history: row.json()?,
        traffic: row.json()?,
        shadow: row.optional_count()?,
        aliases: row.json()?,
        revision: row.count()?,
    })
}

pub(crate) fn decode_version(row: Row) -> Result<ClassifierVersion, StoreError> {
    let mut row = Reader::new("versions", row);
    Ok(ClassifierVersion {
        classifier: ClassifierId { key: row.text()?, name: row.text()? },
        number: row.count()?,
        origin: row.named(Origin::of)?,
        artifact: row.parsed()?,
        report: row.optional_parsed()?,
        evidence: row.optional_parsed()?,
        metrics: row.json()?,
        backbone: row.text()?,
        backbone_sha256: row.text()?,
        job: row.optional_parsed()?,
        training_file: row.optional_parsed()?,
        validation_file: row.optional_parsed()?,
        created_at: row.integer()?,
    })
}

fn decode_audit(row: Row) -> Result<AuditRow, StoreError> {
    let mut row = Reader::new("audits", row);
    Ok(AuditRow {
        number: row.count()?,
        created_at: row.integer()?,
        action: row.text()?,
        who: row.text()?,
        from: row.optional_count()?,
        to: row.optional_count()?,
        reason: row.text()?,
        gate: row.optional_json()?,
    })
}

/// The values of a condition `key = $1 AND name = $2`.
pub(crate) fn named(id: &ClassifierId) -> Vec<Value> {
    vec![id.key.as_str().into(), id.name.as_str().into()]
}

impl Store {
    /// One classifier.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], also once it is deleted.
    pub async fn classifier(&self, id: &ClassifierId) -> Result<Classifier, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM classifiers WHERE key = $1 AND name = $2 AND deleted_at IS NULL");
        let rows = self.read(sql, named(id)).await?;
        rows.into_iter().next().map_or_else(|| Err(StoreError::missing("classifier", &id.name)), decode)
    }

    /// Classifiers in order of key and name; the page's order is not heeded.
    ///
    /// # Errors
    /// What the database said.
    pub async fn classifiers(
        &self,
        scope: Scope<'_>,
        after: Option<&ClassifierId>,
        limit: u32,
    ) -> Result<Page<Classifier>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM classifiers WHERE deleted_at IS NULL AND ($1 IS NULL OR key = $1) \
             AND ($2 IS NULL OR (key, name) > ($2, $3)) ORDER BY key, name LIMIT $4"
        );
        let values = vec![
            scope.value(),
            after.map(|id| id.key.as_str()).into(),
            after.map(|id| id.name.as_str()).into(),
            i64::from(limit).saturating_add(1).into(),
        ];
        let rows = self.read(sql, values).await?;
        Ok(Page::of(rows.into_iter().map(decode).collect::<Result<_, _>>()?, limit))
    }

    /// One version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn version(&self, id: &ClassifierId, number: u32) -> Result<ClassifierVersion, StoreError> {
        let mut values = named(id);
        values.push(number.into());
        let found = self.versions_where("key = $1 AND name = $2 AND number = $3", values).await?;
        let name = || format!("{}@{number}", id.name);
        found.into_iter().next().ok_or_else(|| StoreError::missing("version", name()))
    }

    /// The versions of a classifier by number.
    ///
    /// # Errors
    /// What the database said.
    pub async fn versions(
        &self,
        id: &ClassifierId,
        page: &PageRequest<u32>,
    ) -> Result<Page<ClassifierVersion>, StoreError> {
        let mut values = named(id);
        values.extend([page.after.into(), i64::from(page.limit).saturating_add(1).into()]);
        let condition = format!(
            "key = $1 AND name = $2 AND ($3 IS NULL OR number {} $3) ORDER BY number {} LIMIT $4",
            page.order.beyond(),
            page.order.sql()
        );
        Ok(Page::of(self.versions_where(&condition, values).await?, page.limit))
    }

    /// The jobs of a classifier's versions that were not deleted.
    ///
    /// # Errors
    /// What the database said.
    pub async fn jobs_of(&self, id: &ClassifierId) -> Result<BTreeSet<JobId>, StoreError> {
        let sql = "SELECT jobs.id FROM versions JOIN jobs ON jobs.id = versions.job \
            WHERE versions.key = $1 AND versions.name = $2";
        let rows = self.read(sql, named(id)).await?;
        rows.into_iter().map(|row| Reader::new("jobs", row).parsed()).collect()
    }

    /// What was done to a classifier, its deletion included.
    ///
    /// # Errors
    /// What the database said.
    pub async fn audits(
        &self,
        id: &ClassifierId,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditRow>, StoreError> {
        let after = page.after.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let mut values = named(id);
        values.extend([after.into(), i64::from(page.limit).saturating_add(1).into()]);
        let sql = format!(
            "SELECT number, created_at, action, who, before, after, reason, gate FROM audits \
             WHERE key = $1 AND name = $2 AND ($3 IS NULL OR number {} $3) ORDER BY number {} LIMIT $4",
            page.order.beyond(),
            page.order.sql()
        );
        let rows = self.read(sql, values).await?;
        Ok(Page::of(rows.into_iter().map(decode_audit).collect::<Result<_, _>>()?, page.limit))
    }

    /// Which of these numbers exist, and every other of the classifier.
    pub(crate) async fn numbers(&self, id: &ClassifierId) -> Result<Vec<u32>, StoreError> {
        let sql = format!(
            "SELECT number FROM versions WHERE key = $1 AND name = $2 ORDER BY number {}",
            Order::Ascending.sql()
        );
        let rows = self.read(sql, named(id)).await?;
        rows.into_iter().map(|row| Reader::new("versions", row).count()).collect()
    }

    pub(crate) async fn versions_where(
        &self,
        condition: &str,
        values: Vec<Value>,
    ) -> Result<Vec<ClassifierVersion>, StoreError> {
        let rows =
            self.read(format!("SELECT {VERSION_COLUMNS} FROM versions WHERE {condition}"), values).await?;
        rows.into_iter().map(decode_version).collect()
    }
}
