//! What was run: backbone, method, data and versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What was run, enough to run it again and get the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// The backbone.
    pub backbone: BackboneUsed,
    /// The method that fitted the head.
    #[schema(example = "linear_probe")]
    pub method: String,
    /// Why this method, where the job left the choice to the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method_reason: Option<String>,
    /// Every hyperparameter as used, chosen ones included.
    pub hyperparameters: BTreeMap<String, Hyperparameter>,
    /// Seed of all chance.
    pub seed: u64,
    /// Version of the service.
    #[schema(example = "0.1.0")]
    pub software: String,
    /// The data.
    pub dataset: DatasetUsed,
}

/// The backbone of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackboneUsed {
    /// Its name.
    #[schema(example = "all-minilm-l6-v2")]
    pub id: String,
    /// SHA-256 of its graph, lower-case hex.
    pub sha256: String,
    /// What it was trained on, one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_task: Option<String>,
    /// Of one at lower precision, what it was made from. The head learned from the lower precision, and is served on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
}

/// The value of a hyperparameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Hyperparameter {
    /// A switch.
    Flag(bool),
    /// A count.
    Count(u64),
    /// A number.
    Number(f64),
    /// A word.
    Word(String),
}

/// The data of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatasetUsed {
    /// SHA-256 of the uploaded file, lower-case hex.
    pub sha256: String,
    /// Items of each split.
    pub splits: BTreeMap<String, usize>,
    /// The split that the figures are of.
    #[schema(example = "test")]
    pub held_out: String,
    /// Items of each class in each split, in the classifier's order of classes.
    pub classes: Vec<ClassCounts>,
}

/// How often a class occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassCounts {
    /// The class.
    pub label: String,
    /// Items by split.
    pub items: BTreeMap<String, usize>,
}
