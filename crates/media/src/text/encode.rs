//! Token ids of a text, within a backbone's length.

use std::panic::{AssertUnwindSafe, catch_unwind};

use headstart_types::manifest::{PaddingSpec, TextSpec};
use tokenizers::{Encoding, Tokenizer};

use super::Truncate;
use super::pair::PairFrame;
use super::pieces::Pieces;
use crate::MediaError;

/// Longest text in bytes unless told otherwise: a tokeniser's worst case takes about a second for it.
const MAX_BYTES: usize = 1 << 20;

/// A backbone's tokeniser.
pub struct TextEncoder {
    tokenizer: Tokenizer,
    pieces: Pieces,
    frame: Frame,
    pub(super) pair: Option<PairFrame>,
    padding: Option<PaddingSpec>,
    pub(super) max_tokens: usize,
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
    /// Ids at the end that only fill it up.
    pub padding: usize,
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
    /// `max_tokens` that leaves no room between them or behind a prompt.
    pub fn load(tokenizer_json: &[u8], spec: &TextSpec) -> Result<Self, MediaError> {
        let mut tokenizer = guarded(|| Tokenizer::from_bytes(tokenizer_json))?;
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
        let max_tokens = spec.max_tokens;
        let pair = spec.pairs.then(|| PairFrame::of(&tokenizer)).transpose()?;
        if pair.as_ref().is_some_and(|pair| pair.special() + 2 > max_tokens) {
            return Err(failed(format_args!(
                "`max_tokens` is {max_tokens}, which leaves no room for two texts"
            )));
        }
        let padding = spec.padding;
        let max_bytes = MAX_BYTES;
        let encoder = Self { tokenizer, pieces, frame, pair, padding, max_tokens, max_bytes, vocabulary };
        for (name, prompt) in &spec.prompts {
            if encoder.tokens(prompt)?.len() + special >= max_tokens {
                return Err(failed(format_args!("the prompt `{name}` leaves no room for a text")));
            }
        }
        Ok(encoder)
    }

    /// Sets the longest text, prompt included, in bytes; 1 MiB unless set.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// The ids of `prompt` and `text` in one, framed by the special tokens. A text without any token gives the special
    /// tokens alone. Where the text is cut, the prompt stays.
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
        self.encode_within((prompt.unwrap_or_default(), ""), text, truncate)
    }

    /// The ids of a text with what stands before and after it in one, framed by the special tokens. Only the text itself
    /// is cut.
    ///
    /// # Errors
    /// Those of [`TextEncoder::encode`]; [`MediaError::NoRoom`] when what stands around the text fills the model.
    pub fn encode_within(
        &self,
        (before, after): (&str, &str),
        text: &str,
        truncate: Truncate,
    ) -> Result<Encoded, MediaError> {
        self.check_bytes(before.len() + text.len() + after.len())?;
        let joined;
        let whole = if before.is_empty() && after.is_empty() {
            text
        } else {
            joined = [before, text, after].concat();
            &joined
        };
        let content = self.tokens(whole)?;
        let special = self.frame.before.len() + self.frame.after.len();
        let fits = content.len() + special <= self.max_tokens;
        if fits || whole.len() == text.len() {
            let (kept, truncated_tokens) = self.cut(&content, special, truncate)?;
            return Ok(self.filled(self.frame.around(kept, truncated_tokens)));
        }
        // A word that begins in one and ends in the other belongs to the text: it is not among the shared tokens.
        let head = shared(self.tokens(before)?.iter().zip(&content));
        let rest = &content[head..];
        let tail = shared(self.tokens(after)?.iter().rev().zip(rest.iter().rev()));
        let (text, after) = rest.split_at(rest.len() - tail);
        let around = special + head + tail;
        if around >= self.max_tokens {
            return Err(MediaError::NoRoom { tokens: around, max: self.max_tokens });
        }
        let (kept, truncated_tokens) = self.cut(text, around, truncate)?;
        Ok(self.filled(self.frame.around(&[&content[..head], kept, after].concat(), truncated_tokens)))
    }

    pub(super) fn check_bytes(&self, bytes: usize) -> Result<(), MediaError> {
        if bytes > self.max_bytes {
            return Err(MediaError::TooManyBytes { what: "the text", bytes, max: self.max_bytes });
        }
        Ok(())
    }

    /// Fills ids up to the one length that the model knows, if it is such a model.
    fn filled(&self, mut encoded: Encoded) -> Encoded {
        let Some(PaddingSpec { length, token }) = self.padding else { return encoded };
        encoded.padding = length.saturating_sub(encoded.ids.len());
        encoded.ids.resize(encoded.ids.len() + encoded.padding, token);
        if let Some(types) = &mut encoded.type_ids {
            types.resize(encoded.ids.len(), 0);
        }
        encoded
    }

    pub(super) fn tokens(&self, text: &str) -> Result<Vec<u32>, MediaError> {
        let mut ids = Vec::new();
        for piece in self.pieces.split(text) {
            ids.extend_from_slice(guarded(|| self.tokenizer.encode_fast(piece, false))?.get_ids());
        }
        Ok(ids)
    }

    /// Takes ids that the client made: checked, cut by the same rule, no special tokens added.
    ///
    /// # Errors
    /// [`MediaError::NoTokens`], [`MediaError::TokenId`] for the first id without a row, [`MediaError::TooLong`].
    pub fn from_ids(&self, ids: &[i64], truncate: Truncate) -> Result<Encoded, MediaError> {
        if ids.is_empty() {
            return Err(MediaError::NoTokens);
        }
        let known = |(index, &id): (usize, &i64)| {
            let row = u32::try_from(id).ok().filter(|row| (*row as usize) < self.vocabulary);
            row.ok_or(MediaError::TokenId { index, id, vocabulary: self.vocabulary })
        };
        let mut ids: Vec<u32> = ids.iter().enumerate().map(known).collect::<Result<_, _>>()?;
        let (kept, truncated_tokens) = self.cut(&ids, 0, truncate)?;
        if truncated_tokens > 0 {
            ids = kept.to_vec();
        }
        Ok(self.filled(Encoded { ids, type_ids: None, truncated_tokens, padding: 0 }))
    }

    /// Number of token ids that the tokeniser makes, which those given by clients are checked against.
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
        let encode = |special| guarded(|| tokenizer.encode_fast("a", special));
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
        Encoded { ids, type_ids, truncated_tokens, padding: 0 }
    }
}

/// How many pairs are equal before the first that is not.
fn shared<'a>(pairs: impl Iterator<Item = (&'a u32, &'a u32)>) -> usize {
    pairs.take_while(|(left, right)| left == right).count()
}

/// Runs a tokeniser. Files can say what its library does not bear: should it panic, that is an error like its others.
pub(super) fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, MediaError> {
    let done = catch_unwind(AssertUnwindSafe(run));
    done.unwrap_or_else(|_| Err("the tokeniser failed on what its file says".into())).map_err(failed)
}

pub(super) fn failed(reason: impl ToString) -> MediaError {
    MediaError::Tokenizer(reason.to_string())
}
