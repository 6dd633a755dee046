//! What a gate finds: two versions of a classifier on the same held-out rows.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How two versions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateKind {
    /// McNemar's test on rows that one version has right and the other has not: one-sided, mid-p.
    Mcnemar,
}

impl GateKind {
    /// The kind of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        (name == "mcnemar").then_some(Self::Mcnemar)
    }
}

/// What a gate says of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// Rows enough, and none of the loss is beyond chance: it may be promoted.
    NotWorse,
    /// It loses more rows than chance explains: it is refused.
    Worse,
    /// Too few rows to see a loss that matters: it is refused, as nothing speaks for it.
    NotEnoughEvidence,
}

impl GateVerdict {
    /// The name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotWorse => "not_worse",
            Self::Worse => "worse",
            Self::NotEnoughEvidence => "not_enough_evidence",
        }
    }
}

/// Where what production says of the rows comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateBasis {
    /// Production was asked about the version's held-out rows as the version's job ended.
    Asked,
    /// Rows that both held out, by what each was noted to say as its own job ended.
    BothHeldOut,
}

/// Held-out rows of a version that do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotCompared {
    /// Production learned from the same content, or was tuned on it: its answer would flatter it.
    pub learned_by_production: u64,
    /// The version itself learned from the same content.
    pub learned_by_candidate: u64,
    /// It is not known what production says of them.
    pub not_known: u64,
    /// They have a label that production does not know.
    pub new_labels: u64,
    /// The same content again.
    pub repeated: u64,
}

/// Two versions on the same held-out rows. A row is right when the label is, with several labels when all are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// How they are compared.
    pub kind: GateKind,
    /// What came of it.
    pub verdict: GateVerdict,
    /// The same in words.
    #[schema(
        example = "version 2 is not worse than version 1: of 120 rows 4 are right with version 1 alone and 7 with version 2 alone (p = 0.806)"
    )]
    pub message: String,
    /// The version that would be production.
    pub candidate: u32,
    /// The version that is.
    pub production: u32,
    /// Below this p the version is worse.
    #[schema(example = 0.05)]
    pub alpha: f64,
    /// How likely a loss of at least this size is between versions that are equally good; 1 without any loss or gain.
    pub p: f64,
    /// Rows that are compared.
    pub rows: u64,
    /// Fewest rows on which a version can pass: so many that one which loses a tenth of them and wins none would be
    /// refused.
    #[schema(example = 40)]
    pub rows_needed: u64,
    /// Where production's answers come from.
    pub basis: GateBasis,
    /// Rows that both have right.
    pub both_right: u64,
    /// Rows that production alone has right.
    pub only_production_right: u64,
    /// Rows that the version alone has right.
    pub only_candidate_right: u64,
    /// Rows that neither has right.
    pub both_wrong: u64,
    /// Held-out rows that do not count, and why.
    pub not_compared: NotCompared,
    /// Of the rows with new labels, those the version has right.
    pub new_labels_right: u64,
    /// Labels that production does not know, at most twenty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels_added: Vec<String>,
    /// Labels that the version no longer knows, at most twenty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels_removed: Vec<String>,
}

impl Comparison {
    /// The level unless another is asked for.
    pub const ALPHA: f64 = 0.05;

    /// The highest level: there any loss is one too many.
    pub const MOST_ALPHA: f64 = 0.5;

    /// Whether the version may become production.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self.verdict {
            GateVerdict::NotWorse => true,
            GateVerdict::Worse | GateVerdict::NotEnoughEvidence => false,
        }
    }
}
