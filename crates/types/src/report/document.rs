//! The document as a whole: what was run, how good it is, and what to know before trusting it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::gate::Comparison;

use super::data::{Duplicates, Groups, Suspicious};
use super::quality::{BinaryCurves, Calibration, Confusion, Coverage, Estimate, Metrics, ThresholdPoint};
use super::run::Run;
use super::transfer::Transfer;
use super::tuning::Tuning;

/// The report format this build writes.
pub const VERSION: u32 = 1;

/// What a fine-tuning job says about its classifier. Shares are 0 to 1, intervals cover 95 %.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Format version.
    #[schema(example = 1)]
    pub version: u32,
    /// One or two plain sentences: how good, against what, and whether transfer helped.
    pub verdict: String,
    /// What was run, enough to run it again.
    pub run: Run,
    /// Quality on the held-out items.
    pub metrics: Metrics,
    /// Accuracy of always naming the commonest class of the training items; single-label problems only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority_accuracy: Option<f64>,
    /// What is taken for what; single-label problems only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// ROC and precision–recall curves; two classes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<BinaryCurves>,
    /// Whether scores mean what they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Accuracy against the share of items answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// What one threshold for all labels does; multi-label problems only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<ThresholdPoint>,
    /// Transfer against no transfer, by the number of examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
    /// What training the backbone itself did; methods that do so only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Tuning>,
    /// Quality of the backbone's zero-shot labels by the names of the classes, on the same items or a drawn part of them:
    /// the learning curve's point of no examples, in its measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_shot: Option<Estimate>,
    /// Training items whose label looks wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspicious: Option<Suspicious>,
    /// Items that occur more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<Duplicates>,
    /// Quality by group, where the data names groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
    /// The version against the one in production, where the job was to promote it if it is not worse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Comparison>,
    /// Where the time went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// What to know before trusting the figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Note>,
    /// What a report of this kind has and this one lacks, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// One stage of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stage {
    /// Its name.
    #[schema(example = "features")]
    pub name: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Items it worked on.
    pub items: u64,
    /// Largest resident memory of the whole process while it ran, in bytes, looked at fifty times a second. Whatever else
    /// the process holds or does meanwhile is part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
}

/// A warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Note {
    /// A stable word for programs.
    #[schema(example = "few_examples")]
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// A part that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftOut {
    /// The part.
    #[schema(example = "learning curve at 64 examples a class")]
    pub part: String,
    /// Why it is missing.
    #[schema(example = "the time for the report was spent")]
    pub reason: String,
}
