//! Typed fields from a form or a query, where every value is text.
//!
//! A value becomes what its field is: a number, a word, a text as it stands. Only fields that can be more than one text
//! (inputs, labels, objects) are read as JSON where the value is a JSON list or object; one value for a list that begins like
//! either and is neither is refused, as nobody means it as the list's only element. An empty value is absent.

use std::fmt;

use headstart_types::wording::in_json;
use percent_encoding::percent_decode_str;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IgnoredAny, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use crate::http::error::ApiError;
use crate::http::extract::top_field;

/// The fields of a form, in the order in which their names came.
pub(crate) type Fields = Vec<(String, Vec<String>)>;

/// Most names in a form: more than any route has, few enough to be looked through for every value.
const NAMES: usize = 100;

/// Values by their field.
pub(crate) fn fields(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Fields, ApiError> {
    let mut fields = Fields::new();
    for (name, value) in pairs {
        if let Some((_, values)) = fields.iter_mut().find(|(known, _)| *known == name) {
            values.push(value);
        } else if fields.len() == NAMES {
            return Err(ApiError::invalid(&name, format!("there are more than {NAMES} fields")));
        } else {
            fields.push((name, vec![value]));
        }
    }
    Ok(fields)
}

/// The fields of a query.
pub(crate) fn query(text: &str) -> Result<Fields, ApiError> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).collect::<Vec<u8>>();
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = String::from_utf8_lossy(&decoded(name)).into_owned();
        match String::from_utf8(decoded(value)) {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ApiError::invalid(&name, format!("`{name}` is no text in UTF-8"))),
        }
    });
    fields(pairs.collect::<Result<Vec<_>, _>>()?)
}

/// Fields of their types; the message names the one that is wrong.
pub(crate) fn read<P: DeserializeOwned>(fields: Fields) -> Result<P, ApiError> {
    let fields = fields.into_iter().map(|(name, values)| (name, Values(values)));
    serde_path_to_error::deserialize(MapDeserializer::new(fields)).map_err(
        |error: serde_path_to_error::Error<Wrong>| {
            let path = error.path().to_string();
            ApiError::invalid(top_field(&path), format!("`{path}`: {}", in_json(&error.inner().to_string())))
        },
    )
}

/// What is wrong with a value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(String);

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl From<serde_json::Error> for Wrong {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// The values of one field.
struct Values(Vec<String>);

impl Values {
    fn one(self) -> Result<String, Wrong> {
        match <[String; 1]>::try_from(self.0) {
            Ok([value]) => Ok(value),
            Err(values) => Err(Wrong(format!("is given {} times; it takes one value", values.len()))),
        }
    }

    /// A value that is a JSON list or object.
    fn json(&self) -> Option<Value> {
        let [value] = self.0.as_slice() else { return None };
        json(value)
    }

    fn number<T: std::str::FromStr>(self, what: &str) -> Result<T, Wrong> {
        let value = self.one()?;
        value.trim().parse().map_err(|_| Wrong(format!("invalid value: `{value}`, expected {what}")))
    }
}

fn json(value: &str) -> Option<Value> {
    like_json(value).then(|| serde_json::from_str(value).ok())?
}

/// Whether a value begins as a JSON list or object does.
fn like_json(value: &str) -> bool {
    value.trim_start().starts_with(['[', '{'])
}

impl IntoDeserializer<'_, Wrong> for Values {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// One of the values of a field that came several times.
struct Single(String);

impl IntoDeserializer<'_, Wrong> for Single {
    type Deserializer = Values;

    fn into_deserializer(self) -> Values {
        Values(vec![self.0])
    }
}

const WHOLE: &str = "a whole number of at least 0";

impl<'de> Deserializer<'de> for Values {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.0.len() > 1 {
            return self.deserialize_seq(visitor);
        }
        match self.json() {
            Some(json) => Ok(json.deserialize_any(visitor)?),
            None => visitor.visit_string(self.one()?),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if let [value] = self.0.as_slice()
            && like_json(value)
            && let Err(error) = serde_json::from_str::<IgnoredAny>(value)
        {
            return Err(Wrong(format!("begins like JSON and is none: {error}")));
        }
        match self.json() {
            Some(json @ Value::Array(_)) => Ok(json.deserialize_seq(visitor)?),
            Some(_) | None => visitor.visit_seq(SeqDeserializer::new(self.0.into_iter().map(Single))),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.json() {
            Some(json @ Value::Object(_)) => Ok(json.deserialize_map(visitor)?),
            Some(_) | None => Err(Wrong("expected an object as JSON".into())),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.0.iter().all(String::is_empty) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_string(self.one()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.one()?.as_str() {
            // What a browser sends for a box that is ticked.
            "true" | "on" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            value => Err(Wrong(format!("invalid value: `{value}`, expected `true` or `false`"))),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_u64(self.number(WHOLE)?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_u32(self.number(WHOLE)?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_f32(self.number("a number")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_f64(self.number("a number")?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_enum(IntoDeserializer::<Wrong>::into_deserializer(self.one()?))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use headstart_types::Payload;
    use headstart_types::payload::{Datum, Modality, Truncate};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Form {
        count: Option<u32>,
        share: Option<f32>,
        names: Option<Vec<String>>,
        template: Option<String>,
        truncate: Option<Truncate>,
        input: Option<Payload>,
        more: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        flag: bool,
    }

    fn form(text: &str) -> Form {
        read(query(text).unwrap()).unwrap()
    }

    fn message(text: &str) -> String {
        format!("{:?}", read::<Form>(query(text).unwrap()).unwrap_err())
    }

    #[test]
    fn a_value_is_what_its_field_is() {
        let read = form("count=3&share=0.5&names=a&names=b&other=1&truncate=start&template={}");
        assert_eq!((read.count, read.share, read.truncate), (Some(3), Some(0.5), Some(Truncate::Start)));
        assert_eq!(
            (read.names.unwrap(), read.template.unwrap()),
            (vec!["a".to_owned(), "b".to_owned()], "{}".to_owned())
        );
        assert_eq!(form("names=[\"a\",\"b\"]").names.unwrap(), ["a", "b"]);
        assert_eq!(form("names=[a&names={b").names.unwrap(), ["[a", "{b"]);
        assert!(form("more={\"flag\":true}").more.unwrap().flag);
        let absent = form("count=&template=&input=");
        assert!(absent.count.is_none() && absent.template.is_none() && absent.input.is_none());
    }

    #[test]
    fn an_input_is_a_text_a_json_list_or_several_values() {
        let data =
            |text: &str| form(text).input.unwrap().into_data_of("input", &[Modality::Text], None).unwrap();
        let texts = [Datum::Text("a".into()), Datum::Text("b".into())];
        assert_eq!(data("input=[\"a\",\"b\"]"), texts);
        assert_eq!(data("input=a&input=b"), texts);
        assert_eq!(data("input=[101,102]"), [Datum::Tokens(vec![101, 102])]);
        assert_eq!(data("input={\"text\":\"a\"}"), texts[..1]);
        assert_eq!(data("input=[not json"), [Datum::Text("[not json".into())]);
    }

    #[test]
    fn one_value_for_a_list_that_begins_like_json_must_be_json() {
        for value in
            ["[cat, dog, car]", " [\"cat\", ]", "[a", "{cat}", "{\"label\": \"cat\"", "[\"cat\"] dog"]
        {
            let error =
                format!("{:?}", read::<Form>(vec![("names".into(), vec![value.into()])]).unwrap_err());
            assert!(
                error.contains("param: Some(\"names\")") && error.contains("is none"),
                "{value}: {error}"
            );
        }
    }

    #[test]
    fn a_query_is_text_in_utf8_or_refused_by_the_name_of_its_field() {
        assert_eq!(form("names=caf%C3%A9+au%20lait&x&&=").names.unwrap(), ["café au lait"]);
        let error = format!("{:?}", query("count=1&names=caf%e9").unwrap_err());
        assert!(error.contains("param: Some(\"names\")") && error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_in_words() {
        assert!(message("count=many").contains("`count`: invalid value: `many`, expected a whole number"));
        assert!(message("count=1&count=2").contains("`count`: is given 2 times; it takes one value"));
        assert!(message("template=a&template=b").contains("`template`: is given 2 times"));
        assert!(message("truncate=middle").contains("expected one of `none`, `start`, `end`"));
        assert!(message("more=x").contains("an object as JSON"));
    }
}
