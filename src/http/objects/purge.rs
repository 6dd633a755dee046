//! Purges as clients read them.

use headstart_types::purge::{PurgeDetails, PurgeRow};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::objects::seconds;

/// Rows of a person, taken out of everything that is kept; or what taking them out would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PurgeObject {
    /// Its id; `null` where it was only asked what it would do.
    #[schema(required = true, example = "purge-0199b6a3c0a11f2e3d4c5b6a79880123")]
    id: Option<String>,
    /// Always `purge`.
    #[schema(example = "purge")]
    object: &'static str,
    /// `done`; `erasing` while the old bytes wait for a backup or a reader, which no request sees any more; `dry_run`.
    #[schema(example = "done")]
    status: &'static str,
    /// Name of the API key that asked for it; empty where no keys are set.
    requested_by: String,
    /// When the rows were taken out, seconds since the epoch.
    #[schema(required = true)]
    created_at: Option<i64>,
    /// When the old bytes were erased, seconds since the epoch.
    #[schema(required = true)]
    finished_at: Option<i64>,
    /// What was named, and what came of it.
    #[serde(flatten)]
    details: PurgeDetails,
}

impl PurgeObject {
    /// A purge that happened.
    pub(crate) fn new(row: PurgeRow) -> Self {
        Self {
            id: Some(row.id.into()),
            object: "purge",
            status: if row.finished_at.is_some() { "done" } else { "erasing" },
            requested_by: row.key,
            created_at: Some(seconds(row.created_at)),
            finished_at: row.finished_at.map(seconds),
            details: row.details,
        }
    }

    /// What a purge would do.
    pub(crate) fn told(key: &str, details: PurgeDetails) -> Self {
        Self {
            id: None,
            object: "purge",
            status: "dry_run",
            requested_by: key.to_owned(),
            created_at: None,
            finished_at: None,
            details,
        }
    }
}
