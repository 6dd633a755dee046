//! A file whose largest weights are never all in memory: each is written when its turn comes.

use std::io::Write;

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::proto::{Graph, Model, Tensor};

/// Field of a model that holds its graph, of a graph that holds a constant, of a tensor that holds its bytes.
const GRAPH: u32 = 7;
const CONSTANT: u32 = 5;
const RAW_DATA: u32 = 9;

/// A constant whose values come later.
#[derive(Debug, Clone, PartialEq)]
pub struct Streamed {
    /// Name, shape and type; its values are not here.
    pub tensor: Tensor,
    /// Bytes of its values.
    pub bytes: u64,
}

/// Writes a model and, behind the constants of its graph, the streamed ones. `fill` writes the values of the one at a place
/// of `streamed`: exactly as many bytes as it says, in row order, little-endian.
///
/// # Errors
/// What `fill` says, and [`std::io::Error`] of the file, also when `fill` wrote another number of bytes.
pub fn write<W: Write, E: From<std::io::Error>>(
    model: &Model,
    streamed: &[Streamed],
    file: W,
    mut fill: impl FnMut(usize, &mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = Counted { file, bytes: 0 };
    let mut own = Model { graph: None, ..model.clone() }.encode_to_vec();
    let graph = model.graph.clone().unwrap_or_default();
    let behind = Graph { input: graph.input, output: graph.output, ..Graph::default() }.encode_to_vec();
    let before = Graph { input: Vec::new(), output: Vec::new(), ..graph }.encode_to_vec();
    let heads: Vec<Vec<u8>> = streamed.iter().map(head).collect();
    let constants = heads.iter().zip(streamed).map(|(head, constant)| head.len() as u64 + constant.bytes);
    let total = before.len() as u64 + constants.sum::<u64>() + behind.len() as u64;
    encode_key(GRAPH, WireType::LengthDelimited, &mut own);
    encode_varint(total, &mut own);
    file.write_all(&own)?;
    file.write_all(&before)?;
    for (place, (head, constant)) in heads.iter().zip(streamed).enumerate() {
        file.write_all(head)?;
        let end = file.bytes + constant.bytes;
        fill(place, &mut file)?;
        if file.bytes != end {
            let name = constant.tensor.name.as_deref().unwrap_or_default();
            return Err(std::io::Error::other(format!("`{name}` has another size than was said")).into());
        }
    }
    file.write_all(&behind)?;
    Ok(file.flush()?)
}

/// All of a constant's field that stands before its values.
fn head(constant: &Streamed) -> Vec<u8> {
    let mut tensor = constant.tensor.encode_to_vec();
    encode_key(RAW_DATA, WireType::LengthDelimited, &mut tensor);
    encode_varint(constant.bytes, &mut tensor);
    let mut head = Vec::with_capacity(tensor.len() + 8);
    encode_key(CONSTANT, WireType::LengthDelimited, &mut head);
    encode_varint(tensor.len() as u64 + constant.bytes, &mut head);
    head.extend_from_slice(&tensor);
    head
}

/// A writer that knows how far it is.
struct Counted<W> {
    file: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Node, ValueInfo, element};

    #[test]
    fn a_streamed_file_is_the_one_that_would_have_been_encoded_whole() {
        let node = Node { input: vec!["x".into(), "w".into()], output: vec!["y".into()], ..Node::default() };
        let graph = Graph {
            node: vec![node],
            initializer: vec![Tensor::integers("shape", &[2], [3, 4])],
            input: vec![ValueInfo::tensor("x", element::FLOAT, vec![])],
            output: vec![ValueInfo::tensor("y", element::FLOAT, vec![])],
            ..Graph::default()
        };
        let model = Model { ir_version: Some(9), graph: Some(graph), ..Model::default() };
        let values: Vec<f32> = (0..12).map(|value| value as f32 * 0.5).collect();
        let whole = Tensor::floats("w", &[3, 4], values.iter().copied());
        let streamed = Streamed { tensor: Tensor { raw_data: None, ..whole.clone() }, bytes: 48 };
        let mut file = Vec::new();
        let fill = |_: usize, into: &mut dyn Write| -> std::io::Result<()> {
            values.iter().try_for_each(|value| into.write_all(&value.to_le_bytes()))
        };
        write(&model, std::slice::from_ref(&streamed), &mut file, fill).unwrap();
        let mut expected = model.clone();
        expected.graph.as_mut().unwrap().initializer.push(whole);
        assert_eq!(Model::decode(file.as_slice()).unwrap(), expected);
        let short = |_: usize, into: &mut dyn Write| into.write_all(&[0; 44]);
        assert!(write(&model, &[streamed], Vec::new(), short).is_err());
    }
}
