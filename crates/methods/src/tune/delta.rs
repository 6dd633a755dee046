//! What tuning changed of a backbone, as it is stored: differences in half precision, or factors of low rank.

use std::collections::BTreeMap;

use half::f16;
use headstart_onnx::proto::{Tensor, element};
use headstart_onnx_grad::{Graph, widen};
use headstart_types::runner::Trained;
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::choose::Role;
use super::graph::{Tunable, open, refused};
use super::low_rank;
use super::parted::{Common, Parted};
use super::requantise::{self, Quantised, Weight};
use crate::container::{Reader, Writer};
use crate::error::MethodError;

const WHAT: &str = "tuned weights";

/// What [`Delta::to_bytes`] writes and [`Delta::from_bytes`] reads. A change of meaning is a new number.
const FORMAT: u32 = 1;

/// What is to be added to a backbone's weights, by their names in its graph.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delta(BTreeMap<String, Change>);

#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// Tuned minus first values. Half precision keeps eleven bits of a difference that is small beside the weight itself.
    Difference { shape: Vec<usize>, values: Vec<f16> },
    /// `scale · down · up`, or that transposed.
    LowRank { down: Array2<f32>, up: Array2<f32>, scale: f32, transposed: bool },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    tuned: u32,
    weights: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Entry {
    Difference { name: String, shape: Vec<usize> },
    LowRank { name: String, scale: f32, transposed: bool },
}

impl Delta {
    /// What lies between the weights that a training began with and those it ended with.
    ///
    /// # Errors
    /// [`MethodError::Unsuitable`] for weights of another training; [`MethodError::Diverged`] for one that went farther than
    /// half precision reaches.
    pub fn between(from: &Tunable, to: &[Trained]) -> Result<Self, MethodError> {
        let other = || MethodError::Unsuitable("weights are not those of the run".into());
        let matrix = |weight: &Trained| {
            let [rows, columns] = weight.shape.as_slice() else { return Err(other()) };
            Array2::from_shape_vec((*rows, *columns), weight.values.clone()).map_err(|_| other())
        };
        let mut changes = BTreeMap::new();
        for (at, ((first, last), role)) in from.weights.iter().zip(to).zip(&from.roles).enumerate() {
            match role {
                Role::Head | Role::Up => {}
                Role::Backbone(_) => {
                    let pairs = first.values.iter().zip(&last.values);
                    let values: Vec<f16> = pairs.map(|(from, to)| f16::from_f32(to - from)).collect();
                    if !values.iter().all(|value| value.is_finite()) {
                        return Err(MethodError::Diverged);
                    }
                    changes.insert(
                        first.name.clone(),
                        Change::Difference { shape: first.shape.clone(), values },
                    );
                }
                Role::Down { of, scale, transposed } => {
                    let up = to.get(at + 1).ok_or_else(other)?;
                    let (down, up) = (matrix(last)?, matrix(up)?);
                    if !down.iter().chain(&up).all(|value| value.is_finite()) {
                        return Err(MethodError::Diverged);
                    }
                    let change = Change::LowRank { down, up, scale: *scale, transposed: *transposed };
                    changes.insert(of.clone(), change);
                }
            }
        }
        Ok(Self(changes))
    }

    /// A safetensors file, always the same for the same content.
    ///
    /// # Errors
    /// [`MethodError::Stored`] when the bytes cannot be built.
    pub fn to_bytes(&self) -> Result<Vec<u8>, MethodError> {
        let mut writer = Writer::default();
        let mut weights = Vec::with_capacity(self.0.len());
        for (at, (name, change)) in self.0.iter().enumerate() {
            let name = name.clone();
            weights.push(match change {
                Change::Difference { shape, values } => {
                    writer.halves(&format!("{at}"), values);
                    Entry::Difference { name, shape: shape.clone() }
                }
                Change::LowRank { down, up, scale, transposed } => {
                    writer.matrix(&format!("{at}.down"), down.view());
                    writer.matrix(&format!("{at}.up"), up.view());
                    Entry::LowRank { name, scale: *scale, transposed: *transposed }
                }
            });
        }
        writer.finish(WHAT, &Document { tuned: FORMAT, weights })
    }

    /// What [`Delta::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`MethodError::Stored`] naming what is off.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MethodError> {
        let reader = Reader::new(WHAT, bytes)?;
        let document: Document = reader.document()?;
        if document.tuned != FORMAT {
            return Err(reader.error(format!("format {} is not {FORMAT}", document.tuned)));
        }
        let mut changes = BTreeMap::new();
        for (at, entry) in document.weights.into_iter().enumerate() {
            let (name, change) = match entry {
                Entry::Difference { name, shape } => {
                    let values = reader.halves(&format!("{at}"))?;
                    let count = shape.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
                    if count != Some(values.len()) {
                        return Err(reader.error(format!("`{name}` has {} values", values.len())));
                    }
                    (name, Change::Difference { shape, values })
                }
                Entry::LowRank { name, scale, transposed } => {
                    let (down, up) =
                        (reader.matrix(&format!("{at}.down"))?, reader.matrix(&format!("{at}.up"))?);
                    if down.ncols() != up.nrows() {
                        return Err(reader.error(format!("the factors of `{name}` do not fit together")));
                    }
                    (name, Change::LowRank { down, up, scale, transposed })
                }
            };
            changes.insert(name, change);
        }
        Ok(Self(changes))
    }

    /// A backbone's graph with what tuning changed, giving `output` alone; what it left alone lies in the file `beside` it.
    /// Factors are added as they were trained, beside the matrices, which stay. The graph is another one also where nothing
    /// changed: its weights are of 32 bits, and folded as they were trained.
    ///
    /// # Errors
    /// [`MethodError::Graph`] for a file that is not the one that was tuned.
    pub fn graft(&self, backbone: &[u8], output: &str, beside: &str) -> Result<Parted, MethodError> {
        let mut graph = open(backbone, &[output])?;
        let own = Common::of(graph.constants().map(|(_, tensor)| tensor), beside);
        let mut factors = BTreeMap::new();
        for (name, change) in &self.0 {
            match change {
                Change::Difference { .. } => {
                    let Applied { shape, tuned, .. } = change.applied(name, &mut graph)?;
                    graph.replace_constant(Tensor::floats(name, &shape, tuned)).map_err(refused)?;
                }
                Change::LowRank { down, up, scale, .. } => {
                    factors.insert(name.clone(), (down.clone(), up * *scale));
                }
            }
        }
        low_rank::attach(&mut graph, output, factors)?;
        Ok(own.part(graph.into_model()))
    }

    /// A backbone of low precision with what tuning changed of its original, giving `output` alone: all weights that are not
    /// in the delta stay bit for bit, and lie in the file `beside` it. `features` is what the original calls its output.
    ///
    /// # Errors
    /// [`MethodError::Graph`] for an original that is not the one that was tuned; [`MethodError::Rounding`] for a weight that
    /// is not found in the backbone, see [`can_be_rounded`](super::can_be_rounded).
    pub fn requantise(
        &self,
        (original, features): (&[u8], &str),
        (backbone, output): (&[u8], &str),
        beside: &str,
    ) -> Result<Parted, MethodError> {
        let mut graph = open(original, &[features])?;
        let reads = requantise::reads(&graph);
        let mut quantised = Quantised::open(backbone, output)?;
        let own = Common::of(quantised.constants(), beside);
        for (name, change) in &self.0 {
            requantise::once(&reads, name)?;
            let Applied { shape, first, tuned } = change.applied(name, &mut graph)?;
            quantised.put(&Weight { name, shape: &shape, first: &first }, &tuned)?;
        }
        Ok(own.part(quantised.into_model()))
    }
}

/// A weight as it came and as tuning left it, in row order.
struct Applied {
    shape: Vec<usize>,
    first: Vec<f32>,
    tuned: Vec<f32>,
}

impl Change {
    /// What it makes of the weight of that name.
    fn applied(&self, name: &str, graph: &mut Graph) -> Result<Applied, MethodError> {
        let missing = || MethodError::Graph(format!("the graph has no weight `{name}` that was tuned"));
        let half = |tensor: &Tensor| matches!(tensor.elements(), element::HALF | element::BFLOAT16);
        if half(graph.constant(name).ok_or_else(missing)?) {
            widen(graph, name).map_err(refused)?;
        }
        let tensor = graph.constant(name).ok_or_else(missing)?;
        let read = |error: headstart_onnx::OnnxError| MethodError::Graph(error.to_string());
        let (shape, values) = (tensor.shape().map_err(read)?, tensor.to_numbers().map_err(read)?);
        let first: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        let added = self.values(&shape).ok_or_else(missing)?;
        let tuned = first.iter().zip(added).map(|(value, added)| value + added).collect();
        Ok(Applied { shape, first, tuned })
    }

    /// What is added to a weight of that shape, in row order; nothing where it has another shape.
    fn values(&self, of: &[usize]) -> Option<Vec<f32>> {
        match self {
            Self::Difference { shape, values } => {
                (shape == of).then(|| values.iter().map(|value| value.to_f32()).collect())
            }
            Self::LowRank { down, up, scale, transposed } => {
                let product = down.dot(up) * *scale;
                let product: ArrayView2<'_, f32> = if *transposed { product.t() } else { product.view() };
                (product.shape() == of).then(|| product.iter().copied().collect())
            }
        }
    }
}
