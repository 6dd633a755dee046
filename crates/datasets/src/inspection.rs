//! What an inspection tells, as data.

use std::collections::BTreeMap;

use headstart_types::Modality;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Code, Format, Split};

/// Everything that is known of a file once it has been read whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Inspection {
    /// What the file is, `null` when it is nothing that is read; of several files the first one's.
    pub format: Option<Format>,
    /// What its examples are; `null` without any.
    pub modality: Option<Modality>,
    /// Whether examples have lists of labels.
    pub multi_label: bool,
    /// What is in it, of the rows that are right.
    pub summary: Summary,
    /// What makes it unusable, in the order met; the first of each kind, at most as many as the limits list.
    pub problems: Vec<Finding>,
    /// How often each kind of problem was met.
    pub problem_counts: BTreeMap<Code, u64>,
    /// What should be known, in the order met; capped like `problems`.
    pub warnings: Vec<Finding>,
    /// How often each kind of warning was met.
    pub warning_counts: BTreeMap<Code, u64>,
}

/// What is in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// Rows that are right.
    pub examples: u64,
    /// Its classes by name.
    pub classes: Vec<ClassCount>,
    /// Rows by what they are for.
    pub splits: SplitCounts,
    /// Different groups; 0 where the file has none.
    pub groups: u64,
    /// Bytes as stored.
    pub bytes: u64,
    /// What is there more than once.
    pub duplicates: Duplicates,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassCount {
    /// The label.
    pub label: String,
    /// Rows that have it.
    pub examples: u64,
    /// The same by what they are for.
    pub splits: SplitCounts,
}

/// Rows by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SplitCounts {
    /// Training rows.
    pub train: u64,
    /// Validation rows.
    pub val: u64,
    /// Test rows.
    pub test: u64,
    /// Rows that do not say.
    pub none: u64,
}

impl SplitCounts {
    pub(crate) fn add(&mut self, split: Option<Split>) {
        match split {
            Some(Split::Train) => self.train += 1,
            Some(Split::Val) => self.val += 1,
            Some(Split::Test) => self.test += 1,
            None => self.none += 1,
        }
    }

    /// All rows.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.train + self.val + self.test + self.none
    }

    /// Rows to learn from: those of `train`, and those that do not say.
    #[must_use]
    pub fn to_learn(&self) -> u64 {
        self.train + self.none
    }
}

/// What is there more than once. Texts are the same when they differ in case, white space and punctuation only,
/// pictures when all pixels are equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Duplicates {
    /// Rows that another row of the same split equals, the first not counted.
    pub within_splits: u64,
    /// Validation and test rows that a row of an earlier split equals: train, then validation, then test.
    pub across_splits: u64,
    /// Such rows that an earlier split's row nearly equals.
    pub near_across_splits: u64,
    /// Contents that have different labels in different rows.
    pub label_conflicts: u64,
}

/// One problem or warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Of several files, the one it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line it begins in, from 1; of Parquet the row. Absent where the whole file is meant, and in archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The path in the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What kind it is.
    pub code: Code,
    /// What was found.
    pub message: String,
    /// The other row, of a finding about two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<OtherRow>,
}

/// The row that another one equals, nearly equals or contradicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OtherRow {
    /// Of several files, the one it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line it begins in, from 1; of Parquet the row. Absent in archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The path in the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Inspection {
    /// Whether the file can be trained on.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.problem_counts.is_empty()
    }

    /// Whether its rows are right, each for itself: such a file can be tuned and stopped by, though it may be too small to
    /// learn from.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.summary.examples > 0 && self.problem_counts.keys().all(|code| code.concerns_learning())
    }

    /// All problems, listed or not.
    #[must_use]
    pub fn problem_total(&self) -> u64 {
        self.problem_counts.values().sum()
    }

    /// The problems in one line; `None` when there are none.
    #[must_use]
    pub fn status_details(&self) -> Option<String> {
        let first = self.problems.first()?;
        let counts: Vec<String> =
            self.problem_counts.iter().map(|(code, count)| format!("{count} × {code}")).collect();
        let place = match (first.line, &first.path) {
            (Some(line), _) => format!("line {line}: "),
            (None, Some(path)) => format!("`{path}`: "),
            (None, None) => String::new(),
        };
        Some(format!("{}; first: {place}{}", counts.join(", "), first.message))
    }
}
