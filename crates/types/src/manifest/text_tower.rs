//! `[text_tower]`: the second graph of a backbone that puts pictures and texts into one space.

use std::collections::BTreeMap;

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
    /// SHA-256 of each file that holds weights of the graph, by its path in the folder.
    #[serde(default)]
    pub external: BTreeMap<String, String>,
    /// Its embedding, of as many values as the picture's.
    pub features: FeaturesSpec,
}

impl TextTowerSpec {
    pub(super) fn check(&self, pictures: Option<&FeaturesSpec>) -> Result<(), ManifestError> {
        let is_digest = |text: &str| text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
        if !is_digest(&self.sha256) || !self.external.values().all(|digest| is_digest(digest)) {
            return refuse("text_tower.sha256", "must be 64 hexadecimal digits, as those of `external`");
        }
        if pictures.is_some_and(|pictures| pictures.dimension != self.features.dimension) {
            return refuse("text_tower.features.dimension", "must be `output.features.dimension`");
        }
        Ok(())
    }
}
