//! Files as clients read them: OpenAI's object, and what the inspection found.

use std::collections::BTreeMap;

use headstart_datasets::{ClassCount, Code, Duplicates, Finding, Format, Inspection, SplitCounts};
use headstart_store::DeletedFile;
use headstart_types::file::{FileRow, FileState};
use headstart_types::payload::Modality;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::objects::seconds;

/// A file. `bytes`, `created_at`, `expires_at`, `filename`, `id`, `object`, `purpose`, `status` and `status_details` are OpenAI's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileObject {
    /// Its id; `null` for one that was only looked at.
    #[schema(required = true, example = "file-0199b6a3c0a11f2e3d4c5b6a79880123")]
    id: Option<String>,
    /// Always `file`.
    #[schema(example = "file")]
    object: &'static str,
    /// Length in bytes.
    bytes: u64,
    /// When it was uploaded, seconds since the epoch.
    created_at: i64,
    /// When it may be forgotten, seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    /// Its name at the client.
    #[schema(example = "questions.jsonl")]
    filename: String,
    /// Always `fine-tune`.
    #[schema(example = "fine-tune")]
    purpose: String,
    /// Whether it can be trained on.
    status: FileState,
    /// The fields of a job that take it: one that is too small to be trained on can still be a `validation_file`.
    #[schema(example = json!(["training_file", "validation_file"]))]
    usable_as: Vec<&'static str>,
    /// One line on why not.
    #[schema(required = true)]
    status_details: Option<String>,
    /// What the file is; `null` when it is nothing that is read.
    #[schema(required = true)]
    format: Option<Format>,
    /// What its examples are.
    #[schema(required = true)]
    modality: Option<Modality>,
    /// Whether examples have lists of labels.
    multi_label: bool,
    /// Rows that are right.
    examples: u64,
    /// Rows by what they are for.
    splits: SplitCounts,
    /// Different groups; 0 where the file has none.
    groups: u64,
    /// What is there more than once.
    duplicates: Duplicates,
    /// How often each kind of problem was met.
    problem_counts: BTreeMap<Code, u64>,
    /// How often each kind of warning was met.
    warning_counts: BTreeMap<Code, u64>,
    /// Its classes by name; a list leaves them out, as it does what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<Vec<ClassCount>>,
    /// What makes it unusable, in the order met; the first of each kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<Finding>>,
    /// What should be known, in the order met; the first of each kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<Finding>>,
}

/// The inspection in a file's row.
pub(crate) fn inspection(row: &FileRow) -> Result<Inspection, ApiError> {
    serde_json::from_value(row.summary.clone()).map_err(|error| {
        tracing::error!(file = %row.id, %error, "a file's summary cannot be read");
        ApiError::internal()
    })
}

impl FileObject {
    /// A file with all that was found in it.
    pub(crate) fn new(row: FileRow) -> Result<Self, ApiError> {
        let inspection = inspection(&row)?;
        Ok(Self::of(row, inspection, true))
    }

    /// A file as an entry of a list.
    pub(crate) fn brief(row: FileRow) -> Result<Self, ApiError> {
        let inspection = inspection(&row)?;
        Ok(Self::of(row, inspection, false))
    }

    /// A file that was not kept.
    pub(crate) fn looked_at(row: FileRow) -> Result<Self, ApiError> {
        Ok(Self { id: None, ..Self::new(row)? })
    }

    fn of(row: FileRow, found: Inspection, detailed: bool) -> Self {
        let uses = [(found.is_usable(), "training_file"), (found.is_readable(), "validation_file")];
        Self {
            id: Some(row.id.into()),
            object: "file",
            bytes: row.bytes,
            created_at: seconds(row.created_at),
            expires_at: row.expires_at.map(seconds),
            filename: row.filename,
            purpose: row.purpose,
            status: row.state,
            usable_as: uses.into_iter().filter(|(fits, _)| *fits).map(|(_, field)| field).collect(),
            status_details: row.status_details,
            format: found.format,
            modality: found.modality,
            multi_label: found.multi_label,
            examples: found.summary.examples,
            splits: found.summary.splits,
            groups: found.summary.groups,
            duplicates: found.summary.duplicates,
            problem_counts: found.problem_counts,
            warning_counts: found.warning_counts,
            classes: detailed.then_some(found.summary.classes),
            problems: detailed.then_some(found.problems),
            warnings: detailed.then_some(found.warnings),
        }
    }
}

/// A file that is gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileDeleted {
    /// Its id.
    id: String,
    /// Always `file`.
    #[schema(example = "file")]
    object: &'static str,
    /// Always true.
    deleted: bool,
    /// Versions that were trained or tuned on it and still answer, then the checkpoints of jobs that were.
    #[schema(example = json!(["support@1"]))]
    trained_on: Vec<String>,
}

impl FileDeleted {
    pub(crate) fn new(deleted: DeletedFile) -> Self {
        let versions = deleted.versions.iter().map(|version| version.model_name());
        let checkpoints = deleted.checkpoints.iter();
        let checkpoints = checkpoints.map(|(id, checkpoint)| checkpoint.model_name(&id.name));
        let trained_on = versions.chain(checkpoints).collect();
        Self { id: deleted.file.id.into(), object: "file", deleted: true, trained_on }
    }
}
