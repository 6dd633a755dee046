//! Token ids of an input: as many are kept as any model could read, and the rest is counted.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, SeqAccess, Visitor};

/// Most token ids that are kept of an item, which is more than any model reads: one for every four bytes of the longest
/// text by default. Those beyond are counted. As numbers they take several times the bytes that they have in a body.
pub const MOST_IDS: usize = 1 << 18;

/// The same of all items together.
pub const MOST_IDS_IN_ALL: usize = 1 << 23;

/// Token ids, as far as they are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ids {
    kept: Vec<i64>,
    /// More than [`MOST_IDS`], or than [`MOST_IDS_IN_ALL`] with those of the items before.
    beyond: usize,
}

impl Ids {
    /// Keeps an id where `left`, the number that may still be kept, allows it.
    pub(super) fn push(&mut self, id: i64, left: &mut usize) {
        if self.kept.len() < MOST_IDS && *left > 0 {
            self.kept.push(id);
            *left -= 1;
        } else {
            self.beyond += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len() + self.beyond
    }

    /// All of them.
    pub(super) fn whole(self) -> Result<Vec<i64>, String> {
        match (self.len(), self.beyond) {
            (_, 0) => Ok(self.kept),
            (count, _) => Err(format!("has {count} token ids; at most {MOST_IDS} are taken")),
        }
    }
}

pub(super) fn read_ids<'de, A: SeqAccess<'de>>(mut list: A, left: &mut usize) -> Result<Ids, A::Error> {
    let mut ids = Ids::default();
    while let Some(Token(id)) = list.next_element()? {
        ids.push(id, left);
    }
    Ok(ids)
}

/// Reads token ids, or null, where so many may still be kept.
pub(super) struct IdsSeed<'a> {
    pub(super) left: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for IdsSeed<'_> {
    type Value = Option<Ids>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Ids>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for IdsSeed<'_> {
    type Value = Option<Ids>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of token ids")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<Ids>, E> {
        Ok(None)
    }

    fn visit_none<E: de::Error>(self) -> Result<Option<Ids>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Option<Ids>, A::Error> {
        read_ids(list, self.left).map(Some)
    }
}

/// A token id of any size: whether the model has it is known later, together with its vocabulary.
pub(super) struct Token(pub(super) i64);

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TokenVisitor)
    }
}

pub(super) struct TokenVisitor;

impl Visitor<'_> for TokenVisitor {
    type Value = Token;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a token id")
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Token, E> {
        Ok(Token(i64::try_from(id).unwrap_or(i64::MAX)))
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<Token, E> {
        Ok(Token(id))
    }

    /// Whole numbers beyond 64 bits are read as these.
    fn visit_f64<E: de::Error>(self, id: f64) -> Result<Token, E> {
        if id.abs() < i64::MAX as f64 {
            return Err(de::Error::invalid_value(de::Unexpected::Float(id), &self));
        }
        Ok(Token(if id < 0.0 { i64::MIN } else { i64::MAX }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_beyond_what_is_kept_of_an_item_or_of_all_are_only_counted() {
        let (mut one, mut left) = (Ids::default(), usize::MAX);
        (0..MOST_IDS + 5).for_each(|_| one.push(7, &mut left));
        assert_eq!((one.kept.len(), one.len()), (MOST_IDS, MOST_IDS + 5));
        let (mut other, mut left) = (Ids::default(), 2);
        (0..5).for_each(|id| other.push(id, &mut left));
        assert_eq!((other.kept.as_slice(), other.len(), left), (&[0, 1][..], 5, 0));
        assert!(other.whole().is_err());
    }
}
