//! `headstart.toml`: all that a backbone's numbers depend on and that its graph cannot tell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::payload::Modality;

/// The manifest format this build reads.
pub const VERSION: u32 = 1;

/// A backbone folder's `headstart.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format version; [`VERSION`].
    pub version: u32,
    /// What the backbone is and where it comes from.
    pub backbone: BackboneSpec,
    /// How texts become token ids; needed when the modality is text.
    pub text: Option<TextSpec>,
    /// How pictures become tensors; needed when the modality is image.
    pub image: Option<ImageSpec>,
    /// What the graph gives.
    pub output: OutputSpec,
    /// How labels that nobody trained on are scored.
    pub zero_shot: Option<ZeroShotSpec>,
    /// Overrides of what the engine chooses by itself.
    #[serde(default)]
    pub engine: EngineSpec,
}

/// Identity and provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneSpec {
    /// The name clients use; equals the folder's name.
    pub id: String,
    /// What it reads.
    pub modality: Modality,
    /// The ONNX file, relative to the folder.
    pub file: String,
    /// SHA-256 of that file, lower-case hex.
    pub sha256: String,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    /// What the weights were trained on, one sentence.
    pub source_task: String,
    /// The full-precision backbone a quantised one was made from.
    pub original: Option<String>,
}

/// How texts become token ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    /// `tokenizer.json`, relative to the folder.
    pub tokenizer: String,
    /// The longest input in tokens, special tokens included.
    pub max_tokens: usize,
    /// Named prefixes that some models want before a text, such as `query` and `passage`.
    #[serde(default)]
    pub prompts: BTreeMap<String, String>,
}

/// How pictures become tensors: shorter side to `resize`, centre crop of `size`, then `(pixel · scale − mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// Side of the square the graph takes, in pixels.
    pub size: u32,
    /// Length of the shorter side before the crop, in pixels.
    pub resize: u32,
    /// Resampling filter.
    pub filter: Filter,
    /// Factor on the 0…255 pixel values.
    pub scale: f32,
    /// Mean of each channel, after `scale`, in `channel_order`.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, after `scale`, in `channel_order`.
    pub std: [f32; 3],
    /// Order of the channels.
    pub channel_order: ChannelOrder,
    /// Order of the axes.
    pub layout: Layout,
}

/// Antialiased resampling filters, as Pillow defines them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear,
    /// Cubic convolution with a = −0.5, support 2.
    Bicubic,
    /// Windowed sinc, support 3.
    Lanczos,
}

/// Order of the colour channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
    /// Blue first, as Caffe's models want it.
    Bgr,
}

/// Order of a picture's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Planes: `[3, height, width]`.
    Nchw,
    /// Interleaved: `[height, width, 3]`.
    Nhwc,
}

/// What the graph gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The embedding.
    pub features: FeaturesSpec,
    /// The source task's own classifier, where it was kept.
    pub logits: Option<LogitsSpec>,
}

/// The embedding output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeaturesSpec {
    /// Name of the graph's output.
    pub tensor: String,
    /// How token vectors become one vector.
    pub pooling: Pooling,
    /// Whether vectors are scaled to unit length.
    pub normalise: bool,
    /// Length of the vector.
    pub dimension: usize,
}

/// The source head's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogitsSpec {
    /// Name of the graph's output.
    pub tensor: String,
    /// File with one class name a line, relative to the folder.
    pub labels: String,
}

/// How token vectors become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The first token's vector.
    Cls,
    /// Mean over the real tokens.
    Mean,
    /// Largest value of each dimension over the real tokens.
    Max,
    /// The last real token's vector.
    Last,
    /// The output already is one vector an item.
    None,
}

/// Overrides of what the engine chooses by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSpec {
    /// Threads inside one call; a call with more than one occupies that many lanes.
    pub threads: Option<usize>,
    /// Most calls of this backbone at the same time.
    pub lanes: Option<usize>,
    /// Most items in one call.
    pub max_batch_items: Option<usize>,
    /// Most padded tokens in one call.
    pub max_batch_tokens: Option<usize>,
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, an unknown key, or a value of the wrong type; the parser's message names the place.
    #[error("{0}")]
    Parse(#[from] Box<toml::de::Error>),
    /// A field whose value contradicts another or is out of range.
    #[error("`{field}` {problem}")]
    Field {
        /// Dotted path of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] naming the key or field.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(Box::new)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let refuse = |field, problem: &str| Err(ManifestError::Field { field, problem: problem.into() });
        if self.version != VERSION {
            return refuse("version", &format!("is {}; this build reads {VERSION}", self.version));
        }
        let id_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.backbone.id.is_empty() || !self.backbone.id.chars().all(id_ok) {
            return refuse("backbone.id", "may hold letters, digits, '-', '_' and '.' only");
        }
        if self.backbone.sha256.len() != 64 || !self.backbone.sha256.chars().all(|c| c.is_ascii_hexdigit()) {
            return refuse("backbone.sha256", "must be 64 hexadecimal digits");
        }
        match (self.backbone.modality, &self.text, &self.image) {
            (Modality::Text, None, _) => return refuse("text", "is missing for a text backbone"),
            (Modality::Text, _, Some(_)) => return refuse("image", "does not belong to a text backbone"),
            (Modality::Image, _, None) => return refuse("image", "is missing for an image backbone"),
            (Modality::Image, Some(_), _) => return refuse("text", "does not belong to an image backbone"),
            (Modality::Text, Some(text), None) if text.max_tokens < 2 => {
                return refuse("text.max_tokens", "must be at least 2");
            }
            (Modality::Image, None, Some(image)) => image.check()?,
            (Modality::Text, Some(_), None) => {}
        }
        if self.output.features.dimension == 0 {
            return refuse("output.features.dimension", "must be at least 1");
        }
        for (field, value) in [
            ("engine.threads", self.engine.threads),
            ("engine.lanes", self.engine.lanes),
            ("engine.max_batch_items", self.engine.max_batch_items),
            ("engine.max_batch_tokens", self.engine.max_batch_tokens),
        ] {
            if value == Some(0) {
                return refuse(field, "must be at least 1");
            }
        }
        if let Some(zero_shot) = &self.zero_shot {
            zero_shot.check()?;
        }
        for (field, file) in self.files() {
            // A manifest may come from anywhere; it must not reach outside its own folder.
            if std::path::Path::new(file)
                .components()
                .any(|part| !matches!(part, std::path::Component::Normal(_)))
            {
                return refuse(field, "must be a path inside the folder");
            }
        }
        Ok(())
    }

    /// Every file the manifest names, with the field that names it.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, &str)> {
        let mut files = vec![("backbone.file", self.backbone.file.as_str())];
        files.extend(self.text.as_ref().map(|text| ("text.tokenizer", text.tokenizer.as_str())));
        files.extend(
            self.output.logits.as_ref().map(|logits| ("output.logits.labels", logits.labels.as_str())),
        );
        match &self.zero_shot {
            Some(ZeroShotSpec::Conse(spec)) => files.push(("zero_shot.classes", spec.classes.as_str())),
            Some(ZeroShotSpec::Similarity(_)) | None => {}
        }
        files
    }
}

impl ImageSpec {
    fn check(&self) -> Result<(), ManifestError> {
        let refuse = |field, problem: &str| Err(ManifestError::Field { field, problem: problem.into() });
        if self.size == 0 || self.size > 4096 {
            return refuse("image.size", "must be between 1 and 4096");
        }
        if self.resize < self.size || self.resize > 8192 {
            return refuse("image.resize", "must be at least `image.size` and at most 8192");
        }
        if self.std.iter().any(|&std| std == 0.0 || !std.is_finite()) {
            return refuse("image.std", "must be finite and not zero");
        }
        Ok(())
    }
}

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
    fn check(&self) -> Result<(), ManifestError> {
        let refuse = |field, problem: &str| Err(ManifestError::Field { field, problem: problem.into() });
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
