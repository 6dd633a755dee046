//! Whether transfer helped: the same number of examples with the backbone and without.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::quality::Estimate;

/// Transfer against no transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Transfer {
    /// What learns with transfer.
    #[schema(example = "linear_probe on all-minilm-l6-v2")]
    pub learner: String,
    /// What learns without.
    #[schema(example = "logistic regression on TF-IDF of words and word pairs")]
    pub baseline: String,
    /// What is measured on the held-out items.
    #[schema(example = "accuracy")]
    pub measure: String,
    /// The two learning curves, fewest examples first.
    pub points: Vec<LearningPoint>,
    /// With the fewest examples: the difference in quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Difference>,
    /// While examples are few: the difference of the gain for each doubling of the examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slope: Option<Difference>,
    /// With all examples: the difference in quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asymptote: Option<Difference>,
    /// Judged where the classifier itself stands: with the most examples measured.
    pub verdict: Verdict,
    /// The verdict in words, start, slope and asymptote included.
    pub sentence: String,
}

/// What transfer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval lies above zero.
    Helped,
    /// The interval holds zero.
    NoDifference,
    /// The whole interval lies below zero: negative transfer.
    Hurt,
}

/// Transfer minus no transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// How much more transfer reaches.
    pub estimate: Estimate,
    /// What that says.
    pub verdict: Verdict,
    /// The same in words.
    pub sentence: String,
}

/// Both learners at one number of examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LearningPoint {
    /// Examples a class, the mean over the classes: one with fewer gives all it has.
    pub examples_a_class: f64,
    /// Training items.
    pub items: usize,
    /// Whether these are all training items.
    pub all: bool,
    /// With transfer.
    pub transfer: Quality,
    /// Without.
    pub no_transfer: Quality,
}

/// Quality over the draws of one point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Quality {
    /// Draws of the examples.
    pub draws: usize,
    /// Mean quality.
    pub mean: f64,
    /// Standard deviation between draws; absent with one draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
}
