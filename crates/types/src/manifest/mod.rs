//! `headstart.toml`: all that a backbone's numbers depend on and that its graph cannot tell. One file a section.

mod backbone;
mod engine;
mod image;
mod output;
mod text;
mod zero_shot;

use serde::{Deserialize, Serialize};

use crate::payload::Modality;

pub use backbone::BackboneSpec;
pub use engine::EngineSpec;
pub use image::{ChannelOrder, Filter, ImageSpec, Layout};
pub use output::{FeaturesSpec, Form, LogitsSpec, OutputSpec, Pooling};
pub use text::TextSpec;
pub use zero_shot::{CalibrationSpec, ConseSpec, LabelSpec, SimilaritySpec, ZeroShotSpec};

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
        if self.version != VERSION {
            return refuse("version", &format!("is {}; this build reads {VERSION}", self.version));
        }
        self.backbone.check()?;
        self.check_modality()?;
        self.text.as_ref().map_or(Ok(()), TextSpec::check)?;
        self.image.as_ref().map_or(Ok(()), ImageSpec::check)?;
        self.output.check()?;
        self.engine.check()?;
        self.zero_shot.as_ref().map_or(Ok(()), ZeroShotSpec::check)?;
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

    /// The section that says how its media become tensors is there, and no other modality's.
    fn check_modality(&self) -> Result<(), ManifestError> {
        let modality = self.backbone.modality;
        let sections =
            [(Modality::Text, "text", self.text.is_some()), (Modality::Image, "image", self.image.is_some())];
        for (of, section, present) in sections {
            if of == modality && !present {
                return refuse(
                    section,
                    &format!("is missing for a backbone of modality {}", modality.as_str()),
                );
            }
            if of != modality && present {
                let problem = format!("does not belong to a backbone of modality {}", modality.as_str());
                return refuse(section, &problem);
            }
        }
        Ok(())
    }

    /// Every file the manifest names, with the field that names it.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, &str)> {
        let mut files = vec![("backbone.file", self.backbone.file.as_str())];
        files.extend(self.backbone.external.keys().map(|file| ("backbone.external", file.as_str())));
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

/// A field's refusal.
fn refuse(field: &'static str, problem: &str) -> Result<(), ManifestError> {
    Err(ManifestError::Field { field, problem: problem.into() })
}
