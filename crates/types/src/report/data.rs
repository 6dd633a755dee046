//! What the report says about the data: labels that look wrong, duplicates and groups.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::quality::Estimate;

/// Where an item stands in the upload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Row {
    /// Its split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Its line, from 1; of a file with lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Its path; of an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Training items whose label looks wrong, judged by models that did not see them (Northcutt et al. 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Suspicious {
    /// Items examined.
    pub examined: usize,
    /// Items found, those not listed included.
    pub found: usize,
    /// The most suspicious first.
    pub rows: Vec<SuspiciousRow>,
}

/// One item whose label looks wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SuspiciousRow {
    /// The item.
    pub row: Row,
    /// The label it has and perhaps should not have; absent where only one is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The label it lacks and perhaps should have; absent where one is only too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested: Option<String>,
    /// Score of the label it has.
    pub label_score: f64,
    /// Score of the other.
    pub suggested_score: f64,
}

/// Items that occur more than once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReportDuplicates)]
pub struct Duplicates {
    /// Items equal to an earlier one.
    pub exact: usize,
    /// Validation and held-out items almost equal to one of an earlier split: training comes first, then validation.
    pub near: usize,
    /// Validation and held-out items equal or almost equal to one of an earlier split.
    pub across_splits: usize,
    /// Contents that have different labels in different items.
    pub conflicting: usize,
    /// The first of them, those across splits before others. Each split is named by the use that was made of it.
    pub pairs: Vec<DuplicatePair>,
}

/// Two items that are one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DuplicatePair {
    /// The earlier.
    pub first: Row,
    /// The later.
    pub second: Row,
    /// How alike they are.
    pub twin: Twin,
}

/// How alike two items are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Twin {
    /// Equal.
    Exact,
    /// Almost equal.
    Near,
}

/// Quality by group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Groups {
    /// What is measured.
    #[schema(example = "accuracy")]
    pub measure: String,
    /// The groups with the most held-out items first.
    pub groups: Vec<GroupMetrics>,
    /// Groups not listed.
    pub unlisted: usize,
    /// The largest gap between two groups of enough items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupMetrics {
    /// The group.
    pub group: String,
    /// Its held-out items.
    pub items: usize,
    /// Quality on them.
    pub quality: Estimate,
}

/// The largest gap between two groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// The group served best.
    pub best: String,
    /// The group served worst.
    pub worst: String,
    /// Best minus worst. Two groups picked for being extreme differ by chance too: see `chance`.
    pub difference: Estimate,
    /// How often items dealt at random into groups of the same sizes show a gap at least as large, 0 to 1.
    pub chance: f64,
    /// The same in words.
    pub sentence: String,
}
