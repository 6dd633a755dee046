//! Tensors in requests of the open inference protocol, their bytes behind the JSON, and in its answers.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::verify;

/// A tensor for each input of a graph, without the first dimension, which is one in a request and the number of rows in a
/// direct call.
pub(crate) struct Row {
    pub(crate) inputs: Vec<Input>,
}

/// One of a row's tensors.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values,
}

/// Elements in row order.
pub(crate) enum Values {
    Int64(Vec<i64>),
    Fp32(Vec<f32>),
}

impl Values {
    /// One behind the other; all of the type of the first.
    pub(crate) fn stack<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        let mut all: Option<Self> = None;
        for part in parts {
            match (&mut all, part) {
                (None, Self::Int64(values)) => all = Some(Self::Int64(values.clone())),
                (None, Self::Fp32(values)) => all = Some(Self::Fp32(values.clone())),
                (Some(Self::Int64(all)), Self::Int64(values)) => all.extend_from_slice(values),
                (Some(Self::Fp32(all)), Self::Fp32(values)) => all.extend_from_slice(values),
                (Some(Self::Int64(_)), Self::Fp32(_)) | (Some(Self::Fp32(_)), Self::Int64(_)) => {}
            }
        }
        all.unwrap_or(Self::Fp32(Vec::new()))
    }

    fn datatype(&self) -> &'static str {
        match self {
            Self::Int64(_) => "INT64",
            Self::Fp32(_) => "FP32",
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Int64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Fp32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

/// A request's body that asks for one output as bytes, and the length of its JSON.
pub(crate) fn asked(row: &Row, output: &str) -> (Vec<u8>, usize) {
    let mut binary = Vec::new();
    let inputs: Vec<Value> = row
        .inputs
        .iter()
        .map(|input| {
            let bytes = input.values.bytes();
            let shape: Vec<usize> = [&[1], input.shape.as_slice()].concat();
            binary.extend_from_slice(&bytes);
            json!({
                "name": input.name, "datatype": input.values.datatype(), "shape": shape,
                "parameters": {"binary_data_size": bytes.len()},
            })
        })
        .collect();
    let outputs = json!([{"name": output, "parameters": {"binary_data": true}}]);
    let mut body = json!({"inputs": inputs, "outputs": outputs}).to_string().into_bytes();
    let json_length = body.len();
    body.extend_from_slice(&binary);
    (body, json_length)
}

/// The numbers behind an answer's JSON, as one vector.
///
/// # Errors
/// When the body does not begin with JSON.
pub(crate) fn served(body: &[u8]) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    values.next().context("the answer is empty")??;
    Ok(vec![verify::floats(&body[values.byte_offset()..])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_behind_the_json_and_are_read_back() {
        let input = Input { name: "x".into(), shape: vec![2], values: Values::Fp32(vec![1.5, -2.0]) };
        let (body, json_length) = asked(&Row { inputs: vec![input] }, "y");
        let json: Value = serde_json::from_slice(&body[..json_length]).unwrap();
        assert_eq!(json["inputs"][0]["shape"], json!([1, 2]));
        assert_eq!(served(&body).unwrap(), [[1.5, -2.0]]);
    }

    #[test]
    fn values_are_stacked_in_order() {
        let parts = [Values::Int64(vec![1, 2]), Values::Int64(vec![3])];
        assert!(matches!(Values::stack(parts.iter()), Values::Int64(all) if all == [1, 2, 3]));
    }
}
