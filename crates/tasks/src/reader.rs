//! What turns a text into what its backbone computes on: token ids for a graph, rows for a table of word vectors.

use std::sync::Arc;

use headstart_media::{Encoded, MediaError, TextEncoder};
use headstart_types::payload::Truncate;
use headstart_vectors::{InputError, Table, Words};

use crate::error::TaskError;

/// A backbone's reader of texts.
pub(crate) enum Reader {
    Tokens(Box<TextEncoder>),
    Words(Arc<Table>),
}

/// A text as its backbone takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    /// Token ids, or rows of the table.
    pub(crate) ids: Vec<u32>,
    /// The segment of each id; `None` where all are zero.
    pub(crate) type_ids: Option<Vec<u32>>,
    /// Tokens or words used; what a client's usage counts.
    pub(crate) tokens: usize,
    /// Tokens or words left out.
    pub(crate) truncated_tokens: usize,
    /// Words used that the table does not have.
    pub(crate) unknown_words: usize,
}

impl Reader {
    /// Reads a text behind a prompt.
    ///
    /// # Errors
    /// [`MediaError`], as the backbone's length and `truncate` say.
    pub(crate) fn encode(
        &self,
        text: &str,
        prompt: Option<&str>,
        truncate: Truncate,
    ) -> Result<Read, MediaError> {
        self.encode_within((prompt.unwrap_or_default(), ""), text, truncate)
    }

    /// Reads a text with what stands before and after it in one.
    ///
    /// # Errors
    /// [`MediaError`], as the backbone's length and `truncate` say.
    pub(crate) fn encode_within(
        &self,
        around: (&str, &str),
        text: &str,
        truncate: Truncate,
    ) -> Result<Read, MediaError> {
        match self {
            Self::Tokens(encoder) => encoder.encode_within(around, text, truncate).map(Read::from),
            Self::Words(table) => {
                let words = match around {
                    ("", "") => table.read(text, truncate),
                    (before, after) => table.read(&[before, text, after].concat(), truncate),
                };
                words.map(Read::from).map_err(refused)
            }
        }
    }

    /// The tokenizer, where only graphs come.
    ///
    /// # Errors
    /// [`TaskError::Bug`] for a table of word vectors.
    pub(crate) fn tokens(&self) -> Result<&TextEncoder, TaskError> {
        match self {
            Self::Tokens(encoder) => Ok(encoder),
            Self::Words(_) => Err(TaskError::Bug("a table of word vectors was to be run as a graph")),
        }
    }

    /// Takes ids that the client made: the model's own, of tokens or of words.
    ///
    /// # Errors
    /// [`MediaError`] for none, for one that the model does not have, or for too many.
    pub(crate) fn take_ids(&self, ids: &[i64], truncate: Truncate) -> Result<Read, MediaError> {
        match self {
            Self::Tokens(encoder) => encoder.from_ids(ids, truncate).map(Read::from),
            Self::Words(table) => table.from_rows(ids, truncate).map(Read::from).map_err(refused),
        }
    }
}

impl From<Encoded> for Read {
    fn from(text: Encoded) -> Self {
        let Encoded { ids, type_ids, truncated_tokens, padding } = text;
        Self { tokens: ids.len() - padding, ids, type_ids, truncated_tokens, unknown_words: 0 }
    }
}

impl From<Words> for Read {
    fn from(words: Words) -> Self {
        let Words { rows, count, unknown, truncated } = words;
        Self { ids: rows, type_ids: None, tokens: count, truncated_tokens: truncated, unknown_words: unknown }
    }
}

/// The same refusals as of token ids: clients need not know what a backbone is made of.
fn refused(error: InputError) -> MediaError {
    match error {
        InputError::TooLong { words, max } => MediaError::TooLong { tokens: words, max },
        InputError::Row { index, id, rows } => MediaError::TokenId { index, id, vocabulary: rows },
        InputError::Empty => MediaError::NoTokens,
    }
}
