//! One JSON object: words to their values, as a list or as the hexadecimal digits of little-endian 32-bit floats
//! (the npm package `word2vec-wordlist`).

use std::fmt;

use serde::Deserializer as _;
use serde::de::{Deserialize, DeserializeSeed, Error as _, MapAccess, Visitor};

use super::super::Kind;
use super::super::source::Source;
use super::{Take, import};

/// One JSON object.
pub(in super::super) const JSON: Kind = Kind {
    name: "json",
    what: "word vectors as one JSON object",
    recognise: |source| {
        let text = source.head().trim_ascii_start();
        let inside = text.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
        inside.is_some_and(|inside| inside.starts_with(b"\""))
    },
    import: |source, arguments, draft| {
        import(source, arguments, draft, "which words stand near each other", |take| read(source, take))
    },
};

fn read(source: &Source, take: Take<'_>) -> anyhow::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_reader(source.reader()?);
    deserializer.deserialize_map(Words(take))?;
    Ok(deserializer.end()?)
}

/// Takes entries one by one, in their order.
struct Words<'a>(Take<'a>);

impl<'de> Visitor<'de> for Words<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a vector for each word")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(word) = map.next_key::<String>()? {
            let vector = map.next_value_seed(Values)?;
            match (self.0)(&word, &vector) {
                Ok(true) => {}
                // The rest is passed over: a JSON reader wants to see its end.
                Ok(false) => {
                    while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                    return Ok(());
                }
                Err(error) => return Err(A::Error::custom(format!("{error:#}"))),
            }
        }
        Ok(())
    }
}

struct Values;

impl<'de> DeserializeSeed<'de> for Values {
    type Value = Vec<f32>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f32>, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Either {
            Hex(String),
            List(Vec<f32>),
        }
        match Either::deserialize(deserializer)? {
            Either::List(values) => Ok(values),
            Either::Hex(text) => {
                hex(&text).ok_or_else(|| D::Error::custom("a vector is not hexadecimal 32-bit floats"))
            }
        }
    }
}

fn hex(text: &str) -> Option<Vec<f32>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let (eights, rest) = text.as_bytes().as_chunks::<8>();
    let value = |eight: &[u8; 8]| {
        let mut bytes = [0; 4];
        for (byte, pair) in bytes.iter_mut().zip(eight.as_chunks::<2>().0) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(f32::from_le_bytes(bytes))
    };
    rest.is_empty().then(|| eights.iter().map(value).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_little_endian_floats() {
        assert_eq!(hex("0000803f000000c0"), Some(vec![1.0, -2.0]));
        assert_eq!((hex("0000803"), hex("0000803g"), hex("")), (None, None, Some(Vec::new())));
    }
}
