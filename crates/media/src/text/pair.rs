//! Two texts as one sequence, for backbones that read them together.

use tokenizers::Tokenizer;

use super::Truncate;
use super::encode::{Encoded, TextEncoder, failed, guarded};
use crate::MediaError;

/// The special tokens around and between two texts, as the tokeniser's post-processor puts them.
pub(super) struct PairFrame {
    /// Special tokens before, between and behind the texts, each with its segment.
    special: [Vec<(u32, u32)>; 3],
    /// Segments of the texts.
    segments: [u32; 2],
}

/// Which of two texts gives way where both together are too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shorter {
    /// The longer one, until both are equally long; from there on both.
    Longest,
    /// The first alone: the second is needed whole.
    First,
}

impl PairFrame {
    /// Found by encoding a pair of words, which holds for any post-processor.
    pub(super) fn of(tokenizer: &Tokenizer) -> Result<Self, MediaError> {
        let encoded = guarded(|| tokenizer.encode_fast(("a", "a"), true))?;
        let (mut special, mut segments) = ([Vec::new(), Vec::new(), Vec::new()], [None, None]);
        let mut place = 0;
        let tokens = encoded.get_ids().iter().zip(encoded.get_type_ids());
        for ((id, segment), sequence) in tokens.zip(encoded.get_sequence_ids()) {
            match sequence {
                None => special[place].push((*id, *segment)),
                Some(sequence @ (0 | 1)) if sequence + 1 >= place => {
                    place = sequence + 1;
                    segments[sequence] = Some(*segment);
                }
                Some(_) => return Err(failed("it does not put the first of two texts before the second")),
            }
        }
        match segments {
            [Some(first), Some(second)] => Ok(Self { special, segments: [first, second] }),
            _ => Err(failed("it has no form for two texts")),
        }
    }

    /// Number of special tokens.
    pub(super) fn special(&self) -> usize {
        self.special.iter().map(Vec::len).sum()
    }

    fn around(&self, first: &[u32], second: &[u32]) -> Encoded {
        let [before, between, after] = &self.special;
        let text = |ids: &[u32], segment: u32| ids.iter().map(|id| (*id, segment)).collect::<Vec<_>>();
        let (first, second) = (text(first, self.segments[0]), text(second, self.segments[1]));
        let (ids, types): (Vec<u32>, Vec<u32>) =
            [before, &first, between, &second, after].into_iter().flatten().copied().unzip();
        let zero = types.iter().all(|segment| *segment == 0);
        Encoded { ids, type_ids: (!zero).then_some(types), truncated_tokens: 0, padding: 0 }
    }
}

impl TextEncoder {
    /// Whether it encodes pairs: whether the manifest says that the backbone reads them.
    #[must_use]
    pub fn reads_pairs(&self) -> bool {
        self.pair.is_some()
    }

    /// The ids of a text alone, without special tokens, for [`TextEncoder::pair`]: a text that stands in many pairs is
    /// tokenised once.
    ///
    /// # Errors
    /// [`MediaError::TooManyBytes`] before tokenising; [`MediaError::Tokenizer`] if the tokeniser fails.
    pub fn content(&self, text: &str) -> Result<Vec<u32>, MediaError> {
        self.check_bytes(text.len())?;
        self.tokens(text)
    }

    /// Two texts' ids as one sequence with the special tokens of a pair, cut to the model's length as `tokenizers` does.
    ///
    /// # Errors
    /// [`MediaError::TooLong`] with `Truncate::None`; [`MediaError::NoRoom`] where the second alone fills the model and
    /// must not be cut; [`MediaError::Tokenizer`] for a backbone that reads no pairs.
    pub fn pair(
        &self,
        first: &[u32],
        second: &[u32],
        shorter: Shorter,
        truncate: Truncate,
    ) -> Result<Encoded, MediaError> {
        let frame = self.pair.as_ref().ok_or_else(|| failed("the backbone reads no pairs"))?;
        let (special, max) = (frame.special(), self.max_tokens);
        let tokens = first.len() + second.len() + special;
        if tokens <= max {
            return Ok(frame.around(first, second));
        }
        if truncate == Truncate::None {
            return Err(MediaError::TooLong { tokens, max });
        }
        let room = max.saturating_sub(special);
        let (one, other) = match shorter {
            Shorter::Longest => lengths(first.len(), second.len(), room),
            Shorter::First if second.len() >= room => {
                return Err(MediaError::NoRoom { tokens: second.len() + special, max });
            }
            Shorter::First => (room - second.len(), second.len()),
        };
        let kept = |ids: &[u32], count: usize| match truncate {
            Truncate::Start => ids[ids.len() - count..].to_vec(),
            Truncate::None | Truncate::End => ids[..count].to_vec(),
        };
        let mut encoded = frame.around(&kept(first, one), &kept(second, other));
        encoded.truncated_tokens = tokens - encoded.ids.len();
        Ok(encoded)
    }
}

/// How many tokens two texts of together more than `room` keep: the longer one is cut down to what the other leaves, and
/// where that makes it the shorter one, both get half, the odd token going to the longer.
fn lengths(first: usize, second: usize, room: usize) -> (usize, usize) {
    let short = first.min(second);
    let (short, long) =
        if short <= room / 2 { (short, room - short) } else { (room / 2, room / 2 + room % 2) };
    if first > second { (long, short) } else { (short, long) }
}

#[cfg(test)]
mod tests {
    use super::lengths;

    #[test]
    fn the_longer_text_is_cut_until_both_are_equally_long() {
        assert_eq!(lengths(3, 20, 13), (3, 10));
        assert_eq!(lengths(20, 3, 13), (10, 3));
        assert_eq!(lengths(20, 30, 13), (6, 7));
        assert_eq!(lengths(30, 20, 13), (7, 6));
        assert_eq!(lengths(6, 20, 13), (6, 7));
        assert_eq!(lengths(7, 20, 13), (6, 7));
        assert_eq!(lengths(0, 20, 13), (0, 13));
    }
}
