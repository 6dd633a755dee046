//! `[words]`: how texts become words, and the vectors of words one vector.

use serde::{Deserialize, Serialize};

use super::{ManifestError, refuse};

/// How texts become words, and the vectors of words one vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordsSpec {
    /// The file with one vector after another, relative to the folder; `backbone.file` is its index.
    pub vectors: String,
    /// Where a text is cut into words.
    pub split: Split,
    /// What is done to a text's letters before words are looked up.
    pub case: Case,
    /// Most words that are looked up as one, joined by `_`; 1 when absent.
    #[serde(default = "one")]
    pub phrase_words: usize,
    /// Forms in which a word that the table does not have is looked up again, in this order.
    #[serde(default)]
    pub otherwise: Vec<WordForm>,
    /// The word whose vector stands for unknown ones, which are left out when it is absent.
    pub unknown: Option<String>,
    /// The longest input in words.
    #[serde(default = "max_words")]
    pub max_words: usize,
    /// Frequent words weigh less, and what all texts share is taken off; a plain mean when absent.
    pub sif: Option<SifSpec>,
}

/// Where a text is cut into words, beside white space. A piece that the table has is never cut further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// As in the Penn Treebank: marks are words, and so are endings such as `n't` and `'s`.
    Penn,
    /// Marks are words.
    Marks,
    /// Marks separate words and are none.
    Bare,
    /// Nowhere else.
    Space,
}

/// What is done to a text's letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// Nothing.
    Keep,
    /// All become small.
    Lower,
    /// All become capitals.
    Upper,
}

/// A form in which a word is looked up when the table does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WordForm {
    /// All letters small.
    Lower,
    /// The first letter a capital, the others small.
    Title,
    /// All letters capitals.
    Upper,
    /// Each digit of a number of two or more as `#`.
    Hashes,
}

/// Smooth inverse frequency (Arora, Liang and Ma 2017): a word of probability p weighs a / (a + p).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SifSpec {
    /// The constant a.
    pub smoothing: f64,
}

fn one() -> usize {
    1
}

fn max_words() -> usize {
    WordsSpec::MAX_WORDS
}

impl WordsSpec {
    /// The longest input in words where a manifest does not say.
    pub const MAX_WORDS: usize = 65_536;

    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if !(1..=16).contains(&self.phrase_words) {
            return refuse("words.phrase_words", "must be between 1 and 16");
        }
        if self.max_words == 0 {
            return refuse("words.max_words", "must be at least 1");
        }
        if self.sif.is_some_and(|sif| !sif.smoothing.is_finite() || sif.smoothing <= 0.0) {
            return refuse("words.sif.smoothing", "must be above 0");
        }
        Ok(())
    }
}
