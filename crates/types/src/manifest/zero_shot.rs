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
    /// Whether the item entails a sentence about the label, by a cross-encoder.
    Entailment(EntailmentSpec),
    /// Similarity of a picture and the labels' texts in the shared space of two towers.
    Towers(TowersSpec),
}

/// Zero-shot by two towers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowersSpec {
    /// What cosines are multiplied with before they become probabilities, as the towers were trained: the exponential of
    /// CLIP's parameter of that name.
    pub logit_scale: f64,
    /// What is then added where labels stand on their own, as SigLIP was trained; CLIP has none.
    pub logit_bias: Option<f64>,
    /// How labels are read.
    pub labels: LabelSpec,
}

/// Zero-shot by entailment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntailmentSpec {
    /// Sentences with `{}` where the label goes; their logits are averaged.
    pub templates: Vec<String>,
    /// The class of `[output.logits]` that says the sentence follows from the item.
    #[serde(default = "entailment")]
    pub entailment: String,
    /// The class that says it contradicts the item.
    #[serde(default = "contradiction")]
    pub contradiction: String,
}

fn entailment() -> String {
    "entailment".into()
}

fn contradiction() -> String {
    "contradiction".into()
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
            Self::Towers(spec) if spec.logit_scale <= 0.0 => {
                return refuse("zero_shot.logit_scale", "must be above 0");
            }
            Self::Towers(spec) => return spec.labels.check(),
            Self::Entailment(spec) => return check_templates("zero_shot.templates", &spec.templates),
        };
        labels.check()?;
        if calibration.temperature <= 0.0 {
            return refuse("zero_shot.calibration.temperature", "must be above 0");
        }
        Ok(())
    }
}

impl LabelSpec {
    fn check(&self) -> Result<(), ManifestError> {
        check_templates("zero_shot.labels.templates", &self.templates)?;
        if !(0.0..=1.0).contains(&self.description_weight) {
            return refuse("zero_shot.labels.description_weight", "must be between 0 and 1");
        }
        if self.example_prior < 0.0 {
            return refuse("zero_shot.labels.example_prior", "must not be negative");
        }
        Ok(())
    }
}

fn check_templates(field: &'static str, templates: &[String]) -> Result<(), ManifestError> {
    if templates.is_empty() || templates.iter().any(|text| text.matches("{}").count() != 1) {
        return refuse(field, "must hold at least one sentence, each with `{}` once");
    }
    Ok(())
}
