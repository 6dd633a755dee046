//! Objects of a request's body. A derived reader takes a list too, for the fields in the order of their declaration: these
//! do not.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::MOST_ITEMS;

/// What a JSON object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A list of at most `MOST` objects; a longer one is refused before more of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects<T, const MOST: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Objects<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ObjectsVisitor(PhantomData))
    }
}

struct ObjectsVisitor<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for ObjectsVisitor<T, MOST> {
    type Value = Objects<T, MOST>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        while let Some(Object(object)) = list.next_element()? {
            if objects.len() == MOST {
                return Err(serde::de::Error::custom(format!(
                    "has more than {MOST}; at most {MOST} are taken"
                )));
            }
            objects.push(object);
        }
        Ok(Objects(objects))
    }
}

/// Reads a field that holds an object.
///
/// # Errors
/// What the object's own reader says; that it is none.
pub fn one<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(object)| object)
}

/// Reads a field that holds an object or null.
///
/// # Errors
/// What the object's own reader says; that it is none.
pub fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(object)| object))
}

/// Reads a field that holds a list of objects or null, at most [`MOST_ITEMS`].
///
/// # Errors
/// What an object's own reader says; that one is none, or that there are more.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let list = Option::<Objects<T, MOST_ITEMS>>::deserialize(deserializer)?;
    Ok(list.map(|Objects(objects)| objects))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Fields {
        a: u32,
        b: Option<u32>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "optional")]
        one: Option<Fields>,
        #[serde(default, deserialize_with = "list")]
        many: Option<Vec<Fields>>,
        few: Option<Objects<Fields, 2>>,
    }

    fn read(body: serde_json::Value) -> Result<Body, String> {
        serde_json::from_str(&body.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_are_read_and_lists_are_not_taken_for_their_fields() {
        let fields = |a, b| Fields { a, b };
        let body =
            read(json!({"one": {"a": 1, "b": 2}, "many": [{"a": 3}], "few": [{"a": 4}, {"a": 5}]})).unwrap();
        assert_eq!((body.one, body.many), (Some(fields(1, Some(2))), Some(vec![fields(3, None)])));
        assert_eq!(body.few, Some(Objects(vec![fields(4, None), fields(5, None)])));
        let none = Body { one: None, many: None, few: None };
        assert_eq!(
            (read(json!({})).unwrap(), read(json!({"one": null, "many": null})).unwrap()),
            (none, read(json!({})).unwrap())
        );
        for refused in [json!({"one": [1, 2]}), json!({"many": [[1, 2]]}), json!({"few": [[1, 2]]})] {
            let problem = read(refused).unwrap_err();
            assert!(problem.contains("invalid type: sequence, expected an object"), "{problem}");
        }
        let problem = read(json!({"few": [{"a": 1}, {"a": 2}, {"a": 3}]})).unwrap_err();
        assert!(problem.contains("at most 2 are taken"), "{problem}");
        assert!(read(json!({"one": {"b": 1}})).unwrap_err().contains("missing field `a`"));
    }
}
