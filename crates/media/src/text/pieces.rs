//! Cutting long texts where a tokeniser cannot tell, so that its memory does not grow with the text.
//!
//! A tokeniser keeps an alignment of every byte and a record of every word: 400 bytes of memory for each byte of text
//! at worst. BERT's looks at one word at a time, and a word never reaches over white space, a punctuation mark or an
//! ideograph; so a text cut there gives the same ids piece by piece. Other tokenisers get the text whole.

use tokenizers::Tokenizer;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

/// Length that pieces aim at, in bytes. The fixed cost of a call is far below that of so many words.
const PIECE_BYTES: usize = 16 << 10;

/// Where a tokeniser's texts may be cut.
pub(super) enum Pieces {
    /// Nowhere.
    Whole,
    /// Between words, as BERT understands them.
    Words {
        /// Neighbouring punctuation marks inside of added tokens such as `[[CLS]]`, which must stay together.
        joined: Vec<(char, char)>,
        /// Whether ideographs are words of their own.
        ideographs: bool,
    },
}

impl Pieces {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let added = tokenizer.get_added_tokens_decoder();
        let spaced = added.values().any(|token| token.content.contains(char::is_whitespace));
        let bert = matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)));
        let normalizer = tokenizer.get_normalizer();
        let ideographs = if let Some(NormalizerWrapper::BertNormalizer(bert)) = normalizer {
            bert.handle_chinese_chars
        } else if normalizer.is_none() || matches!(normalizer, Some(NormalizerWrapper::Lowercase(_))) {
            false
        } else {
            return Self::Whole;
        };
        if spaced || !bert {
            return Self::Whole;
        }
        let neighbours = |text: &str| text.chars().zip(text.chars().skip(1)).collect::<Vec<_>>();
        Self::Words {
            joined: added.values().flat_map(|token| neighbours(&token.content)).collect(),
            ideographs,
        }
    }

    /// The pieces of a text, in order and without gaps.
    pub(super) fn split<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let (piece, after) = text.split_at(self.first_cut(text));
            rest = (!after.is_empty()).then_some(after);
            Some(piece)
        })
    }

    /// Length of the first piece: up to the last place in the first [`PIECE_BYTES`], else up to the first behind them.
    fn first_cut(&self, text: &str) -> usize {
        if text.len() <= PIECE_BYTES || matches!(self, Self::Whole) {
            return text.len();
        }
        let middle = text.floor_char_boundary(PIECE_BYTES);
        let fits = |&at: &usize| {
            let (before, after) = text.split_at(at);
            before
                .chars()
                .next_back()
                .zip(after.chars().next())
                .is_some_and(|(left, right)| self.between(left, right))
        };
        let place = |(at, _): (usize, char)| at;
        let backwards = text[..middle].char_indices().rev().map(place).find(fits);
        let forwards = || text[middle..].char_indices().map(place).map(|at| middle + at).find(fits);
        backwards.or_else(forwards).unwrap_or(text.len())
    }

    /// Whether a text may be cut between these two characters. Other white space will not do: BERT takes form feeds
    /// for control characters, and joins what they part.
    fn between(&self, left: char, right: char) -> bool {
        match self {
            Self::Whole => false,
            Self::Words { joined, ideographs } => {
                let marks = left.is_ascii_punctuation() && right.is_ascii_punctuation();
                matches!(right, ' ' | '\t' | '\n' | '\r')
                    || marks && !joined.contains(&(left, right))
                    || *ideographs && is_ideograph(left) && is_ideograph(right)
            }
        }
    }
}

/// The block of the common ideographs.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{4E00}'..='\u{9FFF}')
}
