//! `[backbone]`: what it is and where it comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ManifestError, refuse};
use crate::payload::Modality;

/// Identity and provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneSpec {
    /// The name clients use; equals the folder's name.
    pub id: String,
    /// What it reads.
    pub modality: Modality,
    /// The ONNX file, or the index of a table of word vectors, relative to the folder.
    pub file: String,
    /// SHA-256 of that file, lower-case hex.
    pub sha256: String,
    /// SHA-256 of each file beside it that holds weights of the graph, by its path in the folder.
    #[serde(default)]
    pub external: BTreeMap<String, String>,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    /// What the weights were trained on, one sentence.
    pub source_task: String,
    /// The full-precision backbone a quantised one was made from.
    pub original: Option<String>,
    /// Whether what a job makes of the original is rounded again, so that it is served as fast as this backbone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requantise: bool,
}

impl BackboneSpec {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let id_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.id.is_empty() || !self.id.chars().all(id_ok) {
            return refuse("backbone.id", "may hold letters, digits, '-', '_' and '.' only");
        }
        let is_digest = |text: &str| text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
        if !is_digest(&self.sha256) {
            return refuse("backbone.sha256", "must be 64 hexadecimal digits");
        }
        if !self.external.values().all(|digest| is_digest(digest)) {
            return refuse("backbone.external", "must hold 64 hexadecimal digits for each file");
        }
        if self.requantise && self.original.is_none() {
            return refuse("backbone.requantise", "is for a backbone that has an `original`");
        }
        Ok(())
    }
}
