//! `[zero_shot]`: how labels that nobody trained on are scored.

use serde::{Deserialize, Serialize};

use super::{ManifestError, refuse};

/// How labels that nobody trained on are scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ZeroShotSpec {
    /// Similarity of item and label embeddings.
    Similarity(SimilaritySpec),
    /// The source head's classes bridged to the labels by a text backbone.
    Conse(ConseSpec),
}

/// Zero-shot by similarity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimilaritySpec {
    /// How labels are read.
    pub labels: LabelSpec,
    /// How scores become probabilities.
    pub calibration: CalibrationSpec,
}

/// Zero-shot by the source head (ConSE).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConseSpec {
    /// The backbone that reads labels.
    pub text_backbone: String,
    /// `.npy` file with the text vectors `[source classes, dimension]` of the source head's classes, unit length.
    pub classes: String,
    /// Over how many source classes a label spreads, as a perplexity.
    pub perplexity: f64,
    /// Temperature of the source head's softmax.
    pub class_temperature: f64,
    /// How much of a label's breadth is taken off its score when labels compete; 0 when absent.
    #[serde(default)]
    pub breadth: f64,
    /// The same for labels that are scored on their own.
    #[serde(default)]
    pub independent_breadth: f64,
    /// How labels are read.
    pub labels: LabelSpec,
    /// How scores become probabilities.
    pub calibration: CalibrationSpec,
}

/// How labels are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSpec {
    /// Sentences with `{}` where the label goes; their vectors are averaged.
    pub templates: Vec<String>,
    /// Share of a label's description in its prototype, 0 to 1.
    pub description_weight: f32,
    /// How many examples weigh as much as the label's own words: n examples have the share n / (n + prior).
    pub example_prior: f32,
}

/// How scores become probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationSpec {
    /// Temperature of the softmax over labels.
    pub temperature: f64,
    /// Slope of the logistic curve for independent labels.
    pub slope: f64,
    /// Intercept of the logistic curve for independent labels.
    pub intercept: f64,
}

impl ZeroShotSpec {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let (labels, calibration) = match self {
            Self::Similarity(spec) => (&spec.labels, &spec.calibration),
            Self::Conse(spec) if spec.perplexity < 1.0 => {
                return refuse("zero_shot.perplexity", "must be at least 1");
            }
            Self::Conse(spec) if spec.class_temperature <= 0.0 => {
                return refuse("zero_shot.class_temperature", "must be above 0");
            }
            Self::Conse(spec) if spec.breadth < 0.0 || spec.independent_breadth < 0.0 => {
                return refuse("zero_shot.breadth", "must not be negative, nor `independent_breadth`");
            }
            Self::Conse(spec) => (&spec.labels, &spec.calibration),
        };
        if labels.templates.is_empty() || labels.templates.iter().any(|text| text.matches("{}").count() != 1)
        {
            return refuse(
                "zero_shot.labels.templates",
                "must hold at least one sentence, each with `{}` once",
            );
        }
        if !(0.0..=1.0).contains(&labels.description_weight) {
            return refuse("zero_shot.labels.description_weight", "must be between 0 and 1");
        }
        if labels.example_prior < 0.0 {
            return refuse("zero_shot.labels.example_prior", "must not be negative");
        }
        if calibration.temperature <= 0.0 {
            return refuse("zero_shot.calibration.temperature", "must be above 0");
        }
        Ok(())
    }
}
