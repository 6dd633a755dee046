//! What was run: backbone, method, data and versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// What was run, enough to run it again and get the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// The job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "ftjob-01k3v6m2q8r4t5w7x9y0z1a2b3")]
    pub job: Option<String>,
    /// The classifier that it made a version of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "support")]
    pub classifier: Option<String>,
    /// The version that it made, by the name requests ask for it. The service says it with the report; one in a file or of a
    /// job that has not ended is without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "support@2")]
    pub fine_tuned_model: Option<String>,
    /// The backbone.
    pub backbone: BackboneUsed,
    /// The method that fitted the head.
    #[schema(example = "linear_probe")]
    pub method: String,
    /// Why this method, where the job left the choice to the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method_reason: Option<String>,
    /// Every hyperparameter of the method as a job takes it, defaults filled in; null where the choice was the method's.
    #[schema(value_type = Object)]
    pub hyperparameters: Map<String, Value>,
    /// What the method chose by held-out rows: for `linear_probe` `c`, for `prototype` `alpha` and `beta`, for `mlp` the
    /// `epoch` that was kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chosen: BTreeMap<String, f64>,
    /// Seed of all chance.
    pub seed: u64,
    /// Version of the service.
    #[schema(example = "0.1.0")]
    pub software: String,
    /// Version of ONNX Runtime, which computed the features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "1.31.1")]
    pub onnxruntime: Option<String>,
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

/// The data of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatasetUsed {
    /// SHA-256 of the uploaded file, lower-case hex.
    pub sha256: String,
    /// SHA-256 of the validation file, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_sha256: Option<String>,
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
