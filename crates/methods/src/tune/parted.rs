//! A tuned backbone's graph beside the weights that it has in common with all that was tuned of the same backbone.

use std::collections::HashMap;

use headstart_onnx::proto::{Model, Tensor};
use headstart_onnx::{Place, inline};
use prost::Message as _;

use super::graph::refused_file;
use crate::error::MethodError;

/// Smaller ones stay in the graph.
const LEAST_BYTES: usize = 4096;

/// Where a weight begins is a multiple of this: whoever maps the file finds whole cache lines.
const ALIGNMENT: usize = 64;

/// A graph whose weights that tuning left alone lie in a file beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parted {
    /// The graph.
    pub graph: Vec<u8>,
    /// The file beside it: the same for all that was tuned of one backbone; empty where the graph has no need of it.
    pub weights: Vec<u8>,
}

impl Parted {
    /// All in one file.
    ///
    /// # Errors
    /// [`MethodError::Graph`] for parts that do not belong together.
    pub fn whole(&self) -> Result<Vec<u8>, MethodError> {
        let mut model = Model::decode(self.graph.as_slice()).map_err(refused_file)?;
        let read = |place: &Place| {
            let (from, length) = (place.offset as usize, place.length as usize);
            let bytes = from.checked_add(length).and_then(|until| self.weights.get(from..until));
            bytes.map(<[u8]>::to_vec).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
        };
        inline(&mut model, read).map_err(refused_file)?;
        Ok(model.encode_to_vec())
    }
}

/// A backbone's own weights, one behind the other.
pub(super) struct Common {
    tensors: HashMap<String, (Tensor, Place)>,
    weights: Vec<u8>,
}

impl Common {
    /// Lays out a graph's constants, as they come, in a file of that name.
    pub(super) fn of<'a>(constants: impl Iterator<Item = &'a Tensor>, file: &str) -> Self {
        let (mut tensors, mut weights) = (HashMap::new(), Vec::new());
        for tensor in constants {
            let (Some(name), Some(bytes)) = (&tensor.name, &tensor.raw_data) else { continue };
            if bytes.len() < LEAST_BYTES {
                continue;
            }
            weights.resize(weights.len().next_multiple_of(ALIGNMENT), 0);
            let place =
                Place { file: file.to_owned(), offset: weights.len() as u64, length: bytes.len() as u64 };
            weights.extend_from_slice(bytes);
            tensors.insert(name.clone(), (tensor.clone(), place));
        }
        Self { tensors, weights }
    }

    /// Takes out of a graph what it has in common with the one that the weights are of.
    pub(super) fn part(self, mut model: Model) -> Parted {
        let mut used = false;
        for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            let known = tensor.name.as_ref().and_then(|name| self.tensors.get(name));
            if let Some((_, place)) = known.filter(|(own, _)| own == tensor) {
                *tensor = tensor.moved(place);
                used = true;
            }
        }
        let weights = if used { self.weights } else { Vec::new() };
        Parted { graph: model.encode_to_vec(), weights }
    }
}

#[cfg(test)]
mod tests {
    use headstart_onnx::proto::Graph;

    use super::*;

    fn model(tensors: &[&Tensor]) -> Model {
        let initializer = tensors.iter().map(|tensor| (*tensor).clone()).collect();
        Model { graph: Some(Graph { initializer, ..Graph::default() }), ..Model::default() }
    }

    #[test]
    fn what_stayed_as_it_was_is_kept_once_and_the_parts_make_the_whole() {
        let named = |name: &str, value: f32| Tensor::floats(name, &[2000], vec![value; 2000]);
        let (kept, first, tuned) = (named("kept", 1.0), named("tuned", 2.0), named("tuned", 2.5));
        let bias = Tensor::floats("bias", &[3], vec![0.0; 3]);
        let own = [&kept, &first, &bias];
        let parted = Common::of(own.into_iter(), "weights.bin").part(model(&[&kept, &tuned, &bias]));
        let other = Common::of(own.into_iter(), "weights.bin").part(model(&[&kept, &first, &bias]));
        assert_eq!(parted.weights, other.weights, "one file for both");
        assert!(parted.graph.len() < 8100 + 300, "{}", parted.graph.len());
        assert_eq!(parted.whole().unwrap(), model(&[&kept, &tuned, &bias]).encode_to_vec());
        let new = Common::of(own.into_iter(), "weights.bin").part(model(&[&tuned, &bias]));
        assert!(new.weights.is_empty(), "nothing is in common");
    }
}
