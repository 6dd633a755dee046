//! `[text_tower]`: the second graph of a backbone that puts pictures and texts into one space.

use serde::{Deserialize, Serialize};

use super::{FeaturesSpec, ManifestError, refuse};

/// The graph that reads texts, beside `[backbone]`'s, which reads pictures; `[text]` says how texts become its tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTowerSpec {
    /// The ONNX file, relative to the folder.
    pub file: String,
    /// SHA-256 of that file, lower-case hex.
    pub sha256: String,
    /// Its embedding, of as many values as the picture's.
    pub features: FeaturesSpec,
}

impl TextTowerSpec {
    pub(super) fn check(&self, pictures: &FeaturesSpec) -> Result<(), ManifestError> {
        if self.sha256.len() != 64 || !self.sha256.chars().all(|c| c.is_ascii_hexdigit()) {
            return refuse("text_tower.sha256", "must be 64 hexadecimal digits");
        }
        if self.features.dimension != pictures.dimension {
            return refuse("text_tower.features.dimension", "must be `output.features.dimension`");
        }
        Ok(())
    }
}
