//! The `inputs` of Hugging Face's bodies: items, or one sentence with those that it is compared with.

use std::fmt;

use headstart_tasks::similarity::SimilarityParams;
use headstart_types::Payload;
use headstart_types::payload::Truncate;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use utoipa::ToSchema;

/// What a body asks about.
#[derive(Debug)]
pub(crate) enum Inputs {
    Items(Payload),
    Sentences(Sentences),
}

/// The same, for the document: a reader that tries one after the other would first keep all of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum HuggingFaceInputs {
    /// Items.
    Items(Payload),
    /// Sentences.
    Sentences(Sentences),
}

/// A sentence and those that it is compared with.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = HuggingFaceSentences)]
pub(crate) struct Sentences {
    /// The one.
    #[schema(required = true, nullable = false)]
    source_sentence: Option<Payload>,
    /// The others.
    #[schema(required = true, nullable = false)]
    sentences: Option<Payload>,
}

/// Our names of fields and those of [`Sentences`].
pub(crate) const SENTENCE_NAMES: [(&str, &str); 2] =
    [("input", "inputs.source_sentence"), ("candidates", "inputs.sentences")];

impl Sentences {
    pub(crate) fn compared(self, model: String, truncate: Truncate) -> SimilarityParams {
        SimilarityParams {
            model: Some(model),
            input: self.source_sentence,
            candidates: self.sentences,
            modality: None,
            truncate: Some(truncate),
        }
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputsVisitor)
    }
}

struct InputsVisitor;

impl<'de> Visitor<'de> for InputsVisitor {
    type Value = Inputs;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, an object, token ids, or a list of these")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Inputs, E> {
        Payload::deserialize(text.into_deserializer()).map(Inputs::Items)
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Inputs, E> {
        Payload::deserialize(text.into_deserializer()).map(Inputs::Items)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Inputs, A::Error> {
        Payload::deserialize(SeqAccessDeserializer::new(list)).map(Inputs::Items)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rest: A) -> Result<Inputs, A::Error> {
        let first: Option<String> = rest.next_key()?;
        let sentences = matches!(first.as_deref(), Some("source_sentence" | "sentences"));
        let whole = MapAccessDeserializer::new(Begun { first, rest });
        if sentences {
            Sentences::deserialize(whole).map(Inputs::Sentences)
        } else {
            Payload::deserialize(whole).map(Inputs::Items)
        }
    }
}

/// An object of which the first name has been read already.
struct Begun<A> {
    first: Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Begun<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.first.take() {
            Some(first) => seed.deserialize(first.into_deserializer()).map(Some),
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.rest.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_an_item_unless_it_begins_with_a_sentence() {
        let read = |json: &str| serde_json::from_str::<Inputs>(json);
        for item in [r#""a""#, r#"["a", "b"]"#, r#"[101, 102]"#, r#"{"text": "a"}"#, r#"[{"text": "a"}]"#] {
            let Inputs::Items(payload) = read(item).unwrap() else { panic!("{item}") };
            assert_eq!(payload, serde_json::from_str(item).unwrap());
        }
        for sentences in [
            r#"{"source_sentence": "a", "sentences": ["b", "c"]}"#,
            r#"{"sentences": ["b", "c"], "source_sentence": "a"}"#,
        ] {
            let Inputs::Sentences(found) = read(sentences).unwrap() else { panic!("{sentences}") };
            let params = found.compared("model".into(), Truncate::End);
            assert_eq!(params.input.map(|one| one.len()), Some(1));
            assert_eq!(params.candidates.map(|many| many.len()), Some(2));
        }
        assert!(read("{}").unwrap_err().to_string().contains("an object needs `text`"));
        assert!(read("1.5").is_err());
    }
}
