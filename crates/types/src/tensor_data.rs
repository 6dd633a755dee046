//! A tensor's elements as requests and answers write them: JSON lists, and bytes side by side.

use std::fmt;

use bytes::Bytes;
use half::f16;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::tensor::{DataType, Values, elements};

/// Reads elements written as JSON: one list in row order, or lists within lists as the shape has them.
///
/// # Errors
/// What is wrong, to stand behind the tensor's name: a value of another type or out of range, or another number of them
/// than the shape has.
pub fn read_json(json: &str, datatype: DataType, shape: &[usize]) -> Result<Values, String> {
    let expected = elements(shape).ok_or("has a shape of too many elements")?;
    // Each value takes a character and a comma; a shape may claim anything.
    let room = expected.min(json.len() / 2 + 1);
    let mut sink = Sink {
        datatype,
        shape,
        expected,
        bytes: Vec::with_capacity(room * datatype.size().unwrap_or(0)),
        strings: Vec::new(),
        count: 0,
        level: None,
        problem: None,
    };
    let mut reader = serde_json::Deserializer::from_str(json);
    let read = Level { sink: &mut sink, depth: 0 }.deserialize(&mut reader);
    if let Err(error) = read {
        return Err(sink.problem.unwrap_or_else(|| format!("cannot be read: {error}")));
    }
    if sink.count != expected {
        return Err(wrong_count(sink.count, shape, expected));
    }
    Ok(if datatype == DataType::Bytes {
        Values::Strings(sink.strings)
    } else {
        Values::Fixed { datatype, bytes: sink.bytes.into() }
    })
}

/// Reads elements that lie side by side, little endian; each string stands behind its length in four bytes.
///
/// # Errors
/// As [`read_json`].
pub fn read_binary(bytes: &Bytes, datatype: DataType, shape: &[usize]) -> Result<Values, String> {
    let expected = elements(shape).ok_or("has a shape of too many elements")?;
    let Some(size) = datatype.size() else { return read_strings(bytes, shape, expected) };
    if expected.checked_mul(size) != Some(bytes.len()) {
        return Err(format!(
            "has {} bytes where its shape {shape:?} of {datatype} takes {}",
            bytes.len(),
            expected.saturating_mul(size)
        ));
    }
    if datatype == DataType::Bool
        && let Some(byte) = bytes.iter().find(|byte| **byte > 1)
    {
        return Err(format!("holds the byte {byte}; a BOOL is 0 or 1"));
    }
    Ok(Values::Fixed { datatype, bytes: bytes.clone() })
}

fn read_strings(bytes: &[u8], shape: &[usize], expected: usize) -> Result<Values, String> {
    let mut strings = Vec::with_capacity(expected.min(bytes.len() / 4));
    let mut rest = bytes;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((text, behind)) = behind.split_at_checked(length) else {
            return Err(format!("ends within element {}", strings.len()));
        };
        strings.push(string(strings.len(), text)?);
        rest = behind;
    }
    if !rest.is_empty() {
        return Err(format!("ends within the length of element {}", strings.len()));
    }
    if strings.len() == expected {
        Ok(Values::Strings(strings))
    } else {
        Err(wrong_count(strings.len(), shape, expected))
    }
}

/// ONNX strings are UTF-8, and the runtime ends them with a zero byte.
fn string(place: usize, bytes: &[u8]) -> Result<String, String> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        Ok(_) => Err(format!("has a zero byte in element {place}, which strings of ONNX cannot hold")),
        Err(_) => Err(format!("is not UTF-8 in element {place}; strings of ONNX are")),
    }
}

/// Writes elements side by side, as [`read_binary`] reads them.
#[must_use]
pub fn write_binary(values: &Values) -> Bytes {
    match values {
        Values::Fixed { bytes, .. } => bytes.clone(),
        Values::Strings(strings) => {
            let mut all = Vec::with_capacity(strings.iter().map(|text| 4 + text.len()).sum());
            for text in strings {
                // Longer than a body may be; the cast cannot cut anything that was sent.
                all.extend_from_slice(&(text.len() as u32).to_le_bytes());
                all.extend_from_slice(text.as_bytes());
            }
            all.into()
        }
    }
}

fn wrong_count(count: usize, shape: &[usize], expected: usize) -> String {
    format!("has {count} values where its shape {shape:?} takes {expected}")
}

/// What is read so far.
struct Sink<'a> {
    datatype: DataType,
    shape: &'a [usize],
    expected: usize,
    bytes: Vec<u8>,
    strings: Vec<String>,
    count: usize,
    /// How deep the values lie; the first one decides.
    level: Option<usize>,
    problem: Option<String>,
}

impl Sink<'_> {
    /// Takes a value of a depth, or says why not.
    fn take(&mut self, depth: usize, value: Scalar<'_>) -> Result<(), String> {
        if depth != *self.level.get_or_insert(depth) || (depth != 1 && depth != self.shape.len()) {
            return Err(format!(
                "must be one list, or lists within lists as its shape {:?} has them",
                self.shape
            ));
        }
        if self.count == self.expected {
            return Err(format!("has more values than the {} of its shape {:?}", self.expected, self.shape));
        }
        let place = self.count;
        self.count += 1;
        if let (DataType::Bytes, Scalar::Text(text)) = (self.datatype, &value) {
            self.strings.push(string(place, text.as_bytes())?);
            return Ok(());
        }
        let written = write(self.datatype, &value, &mut self.bytes);
        written.ok_or_else(|| format!("has {value} at place {place}, which is no {}", self.datatype))
    }

    fn end(&self, depth: usize, count: usize) -> Result<(), String> {
        // One list of all is counted at the end.
        if self.level == Some(1) || self.shape.get(depth).is_none_or(|size| *size == count) {
            return Ok(());
        }
        Err(format!("has a list of {count} where its shape {:?} has {}", self.shape, self.shape[depth]))
    }
}

/// A value as JSON has it.
enum Scalar<'a> {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
    Null,
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(out),
            Self::Unsigned(value) => value.fmt(out),
            Self::Signed(value) => value.fmt(out),
            Self::Float(value) => value.fmt(out),
            Self::Text(value) => write!(out, "{value:?}"),
            Self::Null => out.write_str("null"),
        }
    }
}

/// Writes a value as a type, or `None` when it is none of that type.
fn write(datatype: DataType, value: &Scalar<'_>, out: &mut Vec<u8>) -> Option<()> {
    macro_rules! whole {
        ($type:ty) => {{
            let value = match *value {
                Scalar::Unsigned(value) => <$type>::try_from(value).ok()?,
                Scalar::Signed(value) => <$type>::try_from(value).ok()?,
                Scalar::Bool(_) | Scalar::Float(_) | Scalar::Text(_) | Scalar::Null => return None,
            };
            out.extend_from_slice(&value.to_le_bytes());
        }};
    }
    match datatype {
        DataType::Bool => match *value {
            Scalar::Bool(value) => out.push(u8::from(value)),
            Scalar::Unsigned(value @ (0 | 1)) => out.push(value as u8),
            Scalar::Unsigned(_) | Scalar::Signed(_) | Scalar::Float(_) | Scalar::Text(_) | Scalar::Null => {
                return None;
            }
        },
        DataType::Uint8 => whole!(u8),
        DataType::Uint16 => whole!(u16),
        DataType::Uint32 => whole!(u32),
        DataType::Uint64 => whole!(u64),
        DataType::Int8 => whole!(i8),
        DataType::Int16 => whole!(i16),
        DataType::Int32 => whole!(i32),
        DataType::Int64 => whole!(i64),
        DataType::Fp16 => {
            let value = float(value)?;
            let narrow = f16::from_f64(value);
            (narrow.is_finite() || !value.is_finite()).then_some(())?;
            out.extend_from_slice(&narrow.to_le_bytes());
        }
        DataType::Fp32 => {
            let value = float(value)?;
            let narrow = value as f32;
            (narrow.is_finite() || !value.is_finite()).then_some(())?;
            out.extend_from_slice(&narrow.to_le_bytes());
        }
        DataType::Fp64 => out.extend_from_slice(&float(value)?.to_le_bytes()),
        DataType::Bytes => return None,
    }
    Some(())
}

/// JSON has no word for what is not a number; answers write null, and so may requests.
fn float(value: &Scalar<'_>) -> Option<f64> {
    match *value {
        Scalar::Float(value) => Some(value),
        Scalar::Unsigned(value) => Some(value as f64),
        Scalar::Signed(value) => Some(value as f64),
        Scalar::Null => Some(f64::NAN),
        Scalar::Bool(_) | Scalar::Text(_) => None,
    }
}

/// A list, or a value in one.
struct Level<'a, 'b> {
    sink: &'a mut Sink<'b>,
    depth: usize,
}

impl Level<'_, '_> {
    fn check<E: Error>(&mut self, checked: Result<(), String>) -> Result<(), E> {
        checked.map_err(|problem| {
            self.sink.problem.get_or_insert(problem);
            E::custom("see the problem")
        })
    }

    fn take<E: Error>(mut self, value: Scalar<'_>) -> Result<(), E> {
        let taken = self.sink.take(self.depth, value);
        self.check(taken)
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("numbers, booleans or strings in lists")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let mut count = 0;
        while list.next_element_seed(Level { sink: &mut *self.sink, depth: self.depth + 1 })?.is_some() {
            count += 1;
        }
        let ended = self.sink.end(self.depth, count);
        self.check(ended)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.take(Scalar::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.take(Scalar::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.take(Scalar::Signed(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.take(Scalar::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.take(Scalar::Text(value))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.take(Scalar::Null)
    }
}

/// Elements as one JSON list, in row order. What is not a number or not finite is null: JSON has no word for it.
impl Serialize for Values {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        macro_rules! list {
            ($type:ty, $bytes:expr, $each:expr) => {{
                let chunks = $bytes.as_chunks::<{ size_of::<$type>() }>().0;
                let mut list = out.serialize_seq(Some(chunks.len()))?;
                for chunk in chunks {
                    list.serialize_element(&$each(<$type>::from_le_bytes(*chunk)))?;
                }
                list.end()
            }};
        }
        let (datatype, bytes) = match self {
            Self::Strings(strings) => return strings.serialize(out),
            Self::Fixed { datatype, bytes } => (*datatype, bytes),
        };
        match datatype {
            DataType::Bool => list!(u8, bytes, |value| value != 0),
            DataType::Uint8 | DataType::Bytes => list!(u8, bytes, |value| value),
            DataType::Uint16 => list!(u16, bytes, |value| value),
            DataType::Uint32 => list!(u32, bytes, |value| value),
            DataType::Uint64 => list!(u64, bytes, |value| value),
            DataType::Int8 => list!(i8, bytes, |value| value),
            DataType::Int16 => list!(i16, bytes, |value| value),
            DataType::Int32 => list!(i32, bytes, |value| value),
            DataType::Int64 => list!(i64, bytes, |value| value),
            DataType::Fp16 => list!(f16, bytes, f16::to_f32),
            DataType::Fp32 => list!(f32, bytes, |value| value),
            DataType::Fp64 => list!(f64, bytes, |value| value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str, datatype: DataType, shape: &[usize]) -> Result<String, String> {
        read_json(json, datatype, shape).map(|values| serde_json::to_string(&values).unwrap())
    }

    #[test]
    fn nested_and_flat_lists_are_the_same_tensor() {
        for (json, shape) in [
            ("[[1,2],[3,4]]", &[2, 2][..]),
            ("[1,2,3,4]", &[2, 2]),
            ("[[[1],[2]],[[3],[4]]]", &[2, 2, 1]),
            ("[1,2,3,4]", &[4]),
        ] {
            assert_eq!(written(json, DataType::Int64, shape).unwrap(), "[1,2,3,4]", "{json}");
        }
        assert_eq!(written("[7]", DataType::Int64, &[]).unwrap(), "[7]");
    }

    #[test]
    fn lists_of_another_form_are_refused() {
        for (json, shape) in [
            ("[[1,2],[3]]", &[2, 2][..]),
            ("[[1,2],3]", &[2, 2]),
            ("[[1],[2],[3],[4]]", &[2, 2]),
            ("[[1],[2]]", &[2]),
            ("[1,2,3]", &[2, 2]),
            ("[1,2,3,4,5]", &[2, 2]),
            ("[]", &[1]),
            ("7", &[1]),
            ("{}", &[1]),
        ] {
            assert!(written(json, DataType::Int64, shape).is_err(), "{json} as {shape:?}");
        }
        assert_eq!(
            written("[1,2,3]", DataType::Int64, &[2, 2]).unwrap_err(),
            "has 3 values where its shape [2, 2] takes 4"
        );
        assert!(written("[1]", DataType::Int64, &[usize::MAX, 2]).is_err());
    }

    #[test]
    fn values_out_of_their_types_range_are_refused_and_named() {
        for (json, datatype) in [
            ("[256]", DataType::Uint8),
            ("[-1]", DataType::Uint64),
            ("[1.5]", DataType::Int32),
            ("[1e39]", DataType::Fp32),
            ("[65520]", DataType::Fp16),
            ("[2]", DataType::Bool),
            ("[\"1\"]", DataType::Fp32),
            ("[1]", DataType::Bytes),
            ("[null]", DataType::Int8),
        ] {
            let error = written(json, datatype, &[1]).unwrap_err();
            assert!(error.contains("at place 0"), "{error}");
        }
        assert_eq!(written("[-128]", DataType::Int8, &[1]).unwrap(), "[-128]");
        assert_eq!(
            written("[18446744073709551615]", DataType::Uint64, &[1]).unwrap(),
            "[18446744073709551615]"
        );
        assert_eq!(written("[true,0]", DataType::Bool, &[2]).unwrap(), "[true,false]");
        assert_eq!(written("[null,1]", DataType::Fp32, &[2]).unwrap(), "[null,1.0]");
    }

    #[test]
    fn bytes_come_back_as_they_were_and_of_another_length_not_at_all() {
        let strings = Values::Strings(vec!["grüße".into(), String::new()]);
        let bytes = write_binary(&strings);
        assert_eq!(read_binary(&bytes, DataType::Bytes, &[2]).unwrap(), strings);
        assert!(read_binary(&bytes, DataType::Bytes, &[3]).is_err());
        assert!(read_binary(&bytes.slice(..bytes.len() - 1), DataType::Bytes, &[2]).is_err());
        assert!(read_binary(&Bytes::from_static(&[1, 0, 0, 0, 255]), DataType::Bytes, &[1]).is_err());
        let halves = Bytes::from_static(&[0, 60, 0, 188]);
        let values = read_binary(&halves, DataType::Fp16, &[2]).unwrap();
        assert_eq!(serde_json::to_string(&values).unwrap(), "[1.0,-1.0]");
        assert_eq!(write_binary(&values), halves);
        assert!(read_binary(&halves, DataType::Fp32, &[2]).is_err());
        assert!(read_binary(&Bytes::from_static(&[2]), DataType::Bool, &[1]).is_err());
    }
}
