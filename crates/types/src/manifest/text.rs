//! `[text]`: how texts become token ids.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ManifestError, refuse};

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

impl TextSpec {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if self.max_tokens < 2 {
            return refuse("text.max_tokens", "must be at least 2");
        }
        Ok(())
    }
}
