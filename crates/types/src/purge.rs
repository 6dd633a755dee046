//! Purges: rows of a person that were taken out of everything that is kept.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::PurgeId;

/// A purge's row. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PurgeRow {
    /// Its id.
    pub id: PurgeId,
    /// Name of the API key that asked for it.
    pub key: String,
    /// When rows were rewritten: from then on nothing reads the old ones.
    pub created_at: i64,
    /// When the old bytes were erased too; `None` until then.
    pub finished_at: Option<i64>,
    /// What was named, and what came of it.
    pub details: PurgeDetails,
}

/// How rows were named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedBy {
    /// By a file and their places in it.
    Rows,
    /// By their group.
    Group,
    /// By their text.
    Text,
}

/// What was named, without repeating it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgeNamed {
    /// How rows were named.
    pub by: NamedBy,
    /// The file that was named; with a group or a text, the only one that was looked into.
    #[schema(required = true)]
    pub file: Option<String>,
    /// How many places were named.
    #[schema(required = true)]
    pub rows: Option<u64>,
    /// SHA-256 of the group or the text: whoever has it can tell that it was the one.
    #[schema(required = true)]
    pub sha256: Option<String>,
}

/// Rows of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgedFile {
    /// The file.
    pub id: String,
    /// Its name at the client.
    pub filename: String,
    /// Rows taken out, and files of an archive that are no rows but were the group's.
    pub rows: u64,
    /// Rows that cannot be read, and so were compared by their bytes at most, and files of an archive that stay without
    /// having been looked into.
    pub unreadable: u64,
}

/// Examples of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgedVersion {
    /// The version.
    #[schema(example = "support@3")]
    pub version: String,
    /// Examples taken out; what they said is forgotten too.
    pub examples: u64,
}

/// What was named, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgeDetails {
    /// What was named.
    pub named: PurgeNamed,
    /// Rows taken out of files, together.
    pub rows: u64,
    /// Places that were named and where no row stands, or no more.
    pub not_found: u64,
    /// Files that held such rows, or rows that cannot be read.
    pub files: Vec<PurgedFile>,
    /// Versions made of single examples that held such ones.
    pub examples: Vec<PurgedVersion>,
    /// Jobs that took one of the files that held such rows. Their checkpoints and whatever they kept to go on with are
    /// gone; those that are not over begin anew on the file as it is now.
    pub jobs: Vec<String>,
    /// Versions that were trained or tuned on the rows and answer as before.
    #[schema(example = json!(["support@1"]))]
    pub trained_on: Vec<String>,
    /// Versions of which nobody can tell: their files are deleted, or they took examples in of which they keep only means.
    pub unknown: Vec<String>,
    /// What remains to be done, in sentences.
    pub remaining: Vec<String>,
}
