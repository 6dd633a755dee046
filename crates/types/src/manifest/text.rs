//! `[text]`: how texts become token ids.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ManifestError, refuse};

/// How texts become token ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    /// `tokenizer.json`, relative to the folder.
    pub tokenizer: String,
    /// The longest input in tokens, special tokens included.
    pub max_tokens: usize,
    /// Named prefixes that some models want before a text, such as `query` and `passage`.
    #[serde(default)]
    pub prompts: BTreeMap<String, String>,
    /// Whether it reads two texts at once, as cross-encoders do: query and document, or premise and hypothesis.
    #[serde(default)]
    pub pairs: bool,
    /// For models that know texts of one length only.
    pub padding: Option<PaddingSpec>,
}

/// What shorter texts are filled up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaddingSpec {
    /// Tokens of every text, special tokens included.
    pub length: usize,
    /// The token id that fills it up, behind the text.
    pub token: u32,
}

impl TextSpec {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if self.max_tokens < 2 {
            return refuse("text.max_tokens", "must be at least 2");
        }
        if self.padding.is_some_and(|padding| padding.length != self.max_tokens) {
            return refuse("text.padding.length", "must be `text.max_tokens`");
        }
        Ok(())
    }
}
