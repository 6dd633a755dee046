//! `[output]`: what the graph gives.

use serde::{Deserialize, Serialize};

use super::{ManifestError, refuse};

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

impl OutputSpec {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if self.features.dimension == 0 {
            return refuse("output.features.dimension", "must be at least 1");
        }
        Ok(())
    }
}
