//! Token ids of a text, within a backbone's length.

use headstart_types::manifest::TextSpec;
use tokenizers::{Encoding, Tokenizer};

use super::Truncate;
use super::pieces::Pieces;
use crate::MediaError;

/// Longest text in bytes unless told otherwise: a tokeniser's worst case takes about a second for it.
const MAX_BYTES: usize = 1 << 20;

/// A backbone's tokeniser.
pub struct TextEncoder {
    tokenizer: Tokenizer,
    pieces: Pieces,
    frame: Frame,
    max_tokens: usize,
    max_bytes: usize,
    vocabulary: usize,
}

/// Token ids for a backbone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The ids, special tokens included; what a client's usage counts.
    pub ids: Vec<u32>,
    /// The segment of each id; `None` where all are zero.
    pub type_ids: Option<Vec<u32>>,
    /// Tokens left out.
    pub truncated_tokens: usize,
}

/// The special tokens around a text, as the tokeniser's post-processor puts them.
struct Frame {
    before: Vec<u32>,
    after: Vec<u32>,
    /// Segments of what stands before, of the text, and of what stands after; `None` where all are zero.
    type_ids: Option<(Vec<u32>, u32, Vec<u32>)>,
}

impl TextEncoder {
    /// Loads a `tokenizer.json`. Padding and truncation that it configures are switched off: both are decided a request.
    ///
    /// # Errors
    /// [`MediaError::Tokenizer`] for a file that does not load, special tokens that do not frame the text, or a
    /// `max_tokens` that leaves no room between them.
    pub fn load(tokenizer_json: &[u8], spec: &TextSpec) -> Result<Self, MediaError> {
        let mut tokenizer = Tokenizer::from_bytes(tokenizer_json).map_err(failed)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(failed)?;
        let frame = Frame::of(&tokenizer)?;
        let special = frame.before.len() + frame.after.len();
        if spec.max_tokens <= special {
            let max = spec.max_tokens;
            return Err(failed(format_args!(
                "`max_tokens` is {max}, and special tokens alone are {special}"
            )));
        }
        let vocabulary = tokenizer.get_vocab(true).values().max().map_or(0, |&largest| largest as usize + 1);
        let pieces = Pieces::of(&tokenizer);
        Ok(Self { tokenizer, pieces, frame, max_tokens: spec.max_tokens, max_bytes: MAX_BYTES, vocabulary })
    }

    /// States how many rows the backbone's embedding table has, which ids given by clients are then checked against.
    ///
    /// # Errors
    /// [`MediaError::Tokenizer`] if the tokeniser makes larger ids: it belongs to another backbone.
    pub fn with_vocabulary(mut self, rows: usize) -> Result<Self, MediaError> {
        if self.vocabulary > rows {
            return Err(failed(format_args!(
                "it makes ids up to {}, the backbone has {rows}",
                self.vocabulary
            )));
        }
        self.vocabulary = rows;
        Ok(self)
    }

    /// Sets the longest text, prompt included, in bytes; 1 MiB unless set.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// The ids of `prompt` and `text` in one, framed by the special tokens. A text without any token gives the special
    /// tokens alone. The prompt counts as text: `Truncate::Start` cuts it first.
    ///
    /// # Errors
    /// [`MediaError::TooManyBytes`] before tokenising; [`MediaError::TooLong`] with `Truncate::None`;
    /// [`MediaError::Tokenizer`] if the tokeniser fails.
    pub fn encode(
        &self,
        text: &str,
        prompt: Option<&str>,
        truncate: Truncate,
    ) -> Result<Encoded, MediaError> {
        let bytes = text.len() + prompt.map_or(0, str::len);
        if bytes > self.max_bytes {
            return Err(MediaError::TooManyBytes { what: "the text", bytes, max: self.max_bytes });
        }
        let joined;
        let text = match prompt {
            Some(prompt) if !prompt.is_empty() => {
                joined = [prompt, text].concat();
                &joined
            }
            Some(_) | None => text,
        };
        let mut content = Vec::new();
        for piece in self.pieces.split(text) {
            content.extend_from_slice(self.tokenizer.encode_fast(piece, false).map_err(failed)?.get_ids());
        }
        let special = self.frame.before.len() + self.frame.after.len();
        let (kept, truncated_tokens) = self.cut(&content, special, truncate)?;
        Ok(self.frame.around(kept, truncated_tokens))
    }

    /// Takes ids that the client made: checked, cut by the same rule, no special tokens added.
    ///
    /// # Errors
    /// [`MediaError::NoTokens`], [`MediaError::TokenId`] for the first id without a row, [`MediaError::TooLong`].
    pub fn from_ids(&self, mut ids: Vec<u32>, truncate: Truncate) -> Result<Encoded, MediaError> {
        if ids.is_empty() {
            return Err(MediaError::NoTokens);
        }
        let outside = ids.iter().enumerate().find(|&(_, &id)| id as usize >= self.vocabulary);
        if let Some((index, &id)) = outside {
            return Err(MediaError::TokenId { index, id, vocabulary: self.vocabulary });
        }
        let (kept, truncated_tokens) = self.cut(&ids, 0, truncate)?;
        if truncated_tokens > 0 {
            ids = kept.to_vec();
        }
        Ok(Encoded { ids, type_ids: None, truncated_tokens })
    }

    /// Number of token ids the backbone knows.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The ids that fit beside `special` others, and how many do not.
    fn cut<'a>(
        &self,
        ids: &'a [u32],
        special: usize,
        truncate: Truncate,
    ) -> Result<(&'a [u32], usize), MediaError> {
        let (tokens, max) = (ids.len() + special, self.max_tokens);
        let over = tokens.saturating_sub(max);
        match truncate {
            Truncate::None if over > 0 => Err(MediaError::TooLong { tokens, max }),
            Truncate::None | Truncate::End => Ok((&ids[..ids.len() - over], over)),
            Truncate::Start => Ok((&ids[over..], over)),
        }
    }
}

impl Frame {
    /// Found by comparing one word without and with special tokens, which holds for any post-processor.
    fn of(tokenizer: &Tokenizer) -> Result<Self, MediaError> {
        let encode = |special| tokenizer.encode_fast("a", special).map_err(failed);
        let (bare, framed): (Encoding, Encoding) = (encode(false)?, encode(true)?);
        let (word, ids, types) = (bare.get_ids(), framed.get_ids(), framed.get_type_ids());
        let start = ids.windows(word.len().max(1)).position(|window| window == word);
        let start = start.ok_or_else(|| failed("its special tokens do not stand around the text"))?;
        let end = start + word.len();
        let (before, within, after) = (&types[..start], types[start], &types[end..]);
        let zero = types.iter().all(|&segment| segment == 0);
        Ok(Self {
            before: ids[..start].to_vec(),
            after: ids[end..].to_vec(),
            type_ids: (!zero).then(|| (before.to_vec(), within, after.to_vec())),
        })
    }

    fn around(&self, content: &[u32], truncated_tokens: usize) -> Encoded {
        let ids = [&self.before, content, &self.after].concat();
        let type_ids = self
            .type_ids
            .as_ref()
            .map(|(before, within, after)| [&before[..], &vec![*within; content.len()], after].concat());
        Encoded { ids, type_ids, truncated_tokens }
    }
}

fn failed(reason: impl ToString) -> MediaError {
    MediaError::Tokenizer(reason.to_string())
}
