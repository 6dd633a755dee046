//! One labelled example, and where it stands in its file.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To tune and to stop by.
    Val,
    /// To score once, at the end.
    Test,
}

impl Split {
    /// The split of a name: `train`, `training`; `val`, `valid`, `validation`, `dev`; `test`, `testing`, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Val),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }

    /// The name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// Where something stands in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The line it begins in, from 1; of Parquet the row, from 1.
    Line(u64),
    /// The path inside an archive.
    Path(Box<str>),
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(formatter, "line {line}"),
            Self::Path(path) => write!(formatter, "`{path}`"),
        }
    }
}

/// What a model is to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A text as written, neither trimmed nor normalised.
    Text(String),
    /// The bytes of a picture's file.
    Image(Vec<u8>),
    /// The bytes of a sound's file.
    Audio(Vec<u8>),
}

/// One labelled example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Its number in the file, from 0.
    pub row: u64,
    /// Where it stands.
    pub place: Place,
    /// What it shows.
    pub content: Content,
    /// One label; of a file with label lists, none or more, in the order written. Trimmed, never empty.
    pub labels: Vec<String>,
    /// What it was taken from (a person, a domain, a film), where the file says so.
    pub group: Option<String>,
    /// What it is for, where the file says so.
    pub split: Option<Split>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_told_by_their_usual_names() {
        for (name, split) in
            [("Train", Split::Train), (" valid ", Split::Val), ("dev", Split::Val), ("TEST", Split::Test)]
        {
            assert_eq!(Split::parse(name), Some(split), "{name}");
        }
        assert_eq!(Split::parse("trian"), None);
        assert_eq!(Split::parse(""), None);
    }
}
