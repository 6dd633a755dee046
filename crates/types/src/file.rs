//! Uploaded files: what is known of them beside their bytes.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::ids::{FileId, Sha256};

/// Whether a file can be trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// It can.
    Processed,
    /// It cannot; its problems say why.
    Error,
}

impl FileState {
    /// The name in answers and rows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Error => "error",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Processed, Self::Error].into_iter().find(|state| state.as_str() == name)
    }
}

/// A file's row. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileRow {
    /// Its id.
    pub id: FileId,
    /// Name of the API key that uploaded it.
    pub key: String,
    /// Its name at the client.
    pub filename: String,
    /// What it is for.
    pub purpose: String,
    /// Length in bytes.
    pub bytes: u64,
    /// The blob with its bytes.
    pub sha256: Sha256,
    /// When it was uploaded.
    pub created_at: i64,
    /// When it may be forgotten; `None` for never.
    pub expires_at: Option<i64>,
    /// Whether it can be trained on.
    pub state: FileState,
    /// One line on why not.
    pub status_details: Option<String>,
    /// All that is wrong with it.
    pub problems: Value,
    /// Classes, counts, splits and warnings.
    pub summary: Value,
}
