//! A backbone of low precision whose weights are to be those that tuning made of its full-precision original: found in its
//! graph, and rounded again. Activations keep their steps.
//!
//! Which constant of the one graph is which weight of the other is told by the values: the nearest one of the same shape,
//! within what rounding loses. Names differ between exporters, and say nothing of how a weight was stored.

use std::collections::{HashMap, HashSet};

use headstart_onnx::OnnxError;
use headstart_onnx::proto::{Model, Node, Tensor, ValueInfo, element};
use headstart_onnx_grad::Graph;
use prost::Message as _;

use super::choose::{self, Choice, Goal, What};
use super::graph::{open, refused};
use super::rounding::{self, Rounded};
use crate::error::MethodError;

/// The set of ONNX Runtime's own operators.
const RUNTIME_SET: &str = "com.microsoft";

/// How far a place may be from a weight, as a share of the weight's length: of bytes, whose columns may have a step in
/// common, and of floats, which the original may hold in half precision.
const FAR_BYTES: f64 = 0.2;
const FAR_FLOATS: f64 = 0.01;

/// A weight as tuning has it at hand.
pub(super) struct Weight<'a> {
    pub(super) name: &'a str,
    pub(super) shape: &'a [usize],
    /// As it came, in row order.
    pub(super) first: &'a [f32],
}

/// A graph of low precision.
pub(super) struct Quantised {
    graph: Graph,
    places: Vec<Place>,
    /// The constants that were found.
    taken: HashSet<String>,
}

/// Where a graph holds a weight: a constant that one node reads.
struct Place {
    constant: String,
    shape: Vec<usize>,
    held: Held,
}

/// In what form.
enum Held {
    /// As it is.
    Floats(Vec<f32>),
    /// In signed bytes `[inputs, outputs]` with a step a column. What a product reads was multiplied with `factors` before,
    /// one an input, and the weights hold what that takes away.
    Columns { bytes: Vec<i8>, steps: (String, Vec<f32>), factors: Option<Vec<f32>> },
    /// A table in signed bytes with a step a row.
    Rows { bytes: Vec<i8>, steps: (String, Vec<f32>) },
}

/// Whether all weights of a graph that may be trained have a place in one of low precision. Each graph comes with the name of
/// its features; tables of embeddings count where `embeddings` says so.
///
/// # Errors
/// [`MethodError::Rounding`] naming the first weight that has none, [`MethodError::Graph`] for files that cannot be read.
pub fn can_be_rounded(
    (original, features): (&[u8], &str),
    (quantised, output): (&[u8], &str),
    embeddings: bool,
) -> Result<(), MethodError> {
    let mut graph = open(original, &[features])?;
    let choice = Choice { what: What::All, prefix: false, embeddings, goal: Goal::Pairs };
    let found = choose::weights(&mut graph, features, &choice, &HashSet::new())?;
    let reads = reads(&graph);
    let mut quantised = Quantised::open(quantised, output)?;
    for weight in &found {
        let (name, shape, first) = (weight.name.as_str(), weight.shape.as_slice(), weight.values.as_slice());
        once(&reads, name)?;
        quantised.find(&Weight { name, shape, first })?;
    }
    Ok(())
}

/// Refuses a weight that several nodes read: it may be several in a graph of low precision.
pub(super) fn once(reads: &HashMap<String, usize>, name: &str) -> Result<(), MethodError> {
    match reads.get(name) {
        Some(1) => Ok(()),
        Some(_) | None => Err(unrounded(name, "not exactly one node reads it")),
    }
}

/// How many inputs of nodes each value is.
pub(super) fn reads(graph: &Graph) -> HashMap<String, usize> {
    let mut reads = HashMap::new();
    for name in graph.nodes().iter().flat_map(Node::reads_all) {
        *reads.entry(name.to_owned()).or_default() += 1;
    }
    reads
}

impl Quantised {
    /// A file, giving `output` alone.
    ///
    /// # Errors
    /// [`MethodError::Graph`] for a file that cannot be read.
    pub(super) fn open(file: &[u8], output: &str) -> Result<Self, MethodError> {
        let model = Model::decode(file).map_err(|error| MethodError::Graph(error.to_string()))?;
        let mut graph = Graph::new(model).map_err(refused)?;
        let stated = graph.outputs().iter().find(|given| given.name.as_deref() == Some(output)).cloned();
        let named = || ValueInfo { name: Some(output.to_owned()), ..ValueInfo::default() };
        graph.set_outputs(vec![stated.unwrap_or_else(named)]);
        graph.prune();
        let places = places(&graph).map_err(|error| MethodError::Graph(error.to_string()))?;
        Ok(Self { graph, places, taken: HashSet::new() })
    }

    /// Rounds what a weight became into its place.
    ///
    /// # Errors
    /// [`MethodError::Rounding`] for a weight that has none.
    pub(super) fn put(&mut self, weight: &Weight<'_>, tuned: &[f32]) -> Result<(), MethodError> {
        let at = self.find(weight)?;
        let Some(Place { constant, shape, held }) = self.places.get(at) else { return Ok(()) };
        let columns = shape.last().copied().unwrap_or_default();
        let (Rounded { bytes, steps: each }, steps, dims) = match held {
            Held::Floats(_) => {
                let tensor = Tensor::floats(constant, shape, tuned.iter().copied());
                return self.graph.replace_constant(tensor).map_err(refused);
            }
            Held::Columns { steps, factors: None, .. } => {
                (rounding::by_column(tuned, columns), steps, vec![columns])
            }
            Held::Columns { steps, factors: Some(factors), .. } => {
                let rows = tuned.chunks(columns.max(1)).zip(factors);
                let without: Vec<f32> =
                    rows.flat_map(|(row, factor)| row.iter().map(move |value| value / factor)).collect();
                (rounding::by_column(&without, columns), steps, vec![columns])
            }
            Held::Rows { steps, .. } => {
                let dims = self.graph.constant(&steps.0).map(Tensor::shape).transpose();
                let dims = dims.ok().flatten().unwrap_or_default();
                (rounding::by_row(tuned, columns), steps, dims)
            }
        };
        let bytes = Tensor::signed_bytes(constant, shape, bytes);
        let steps = Tensor::floats(&steps.0, &dims, each);
        self.graph.replace_constant(bytes).and_then(|()| self.graph.replace_constant(steps)).map_err(refused)
    }

    pub(super) fn constants(&self) -> impl Iterator<Item = &Tensor> {
        self.graph.constants().map(|(_, tensor)| tensor)
    }

    pub(super) fn into_model(self) -> Model {
        self.graph.into_model()
    }

    /// Where it holds a weight; no other weight is held there from now on.
    fn find(&mut self, weight: &Weight<'_>) -> Result<usize, MethodError> {
        let length: f64 = weight.first.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        let mut near = Vec::new();
        for (at, place) in self.places.iter().enumerate().filter(|(_, place)| place.shape == weight.shape) {
            if let Some(distance) = place.distance(weight.first, place.far() * place.far() * length) {
                near.push((distance, place.constant != weight.name, at, place.constant.as_str()));
            }
        }
        near.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let Some((distance, other_name, at, constant)) = near.first().copied() else {
            return Err(unrounded(weight.name, "the quantised graph has no weight like it"));
        };
        let as_near = near.iter().any(|also| also.0 == distance && also.3 != constant);
        if as_near && other_name {
            return Err(unrounded(weight.name, "several weights of the quantised graph are alike"));
        }
        match self.taken.insert(constant.to_owned()) {
            true => Ok(at),
            false => Err(unrounded(weight.name, "the quantised graph has it in one with another")),
        }
    }
}

impl Place {
    /// The squared distance to values of its shape, where that is at most `most`.
    fn distance(&self, values: &[f32], most: f64) -> Option<f64> {
        let columns = self.shape.last().copied().unwrap_or_default().max(1);
        let rows = values.chunks(columns).enumerate();
        let within = |sum: f64, apart: f64| Some(sum + apart).filter(|sum| *sum <= most);
        match &self.held {
            Held::Floats(held) => within(0.0, apart(held.iter().copied(), values)),
            Held::Columns { bytes, steps: (_, steps), factors } => {
                let factor =
                    |row: usize| factors.as_ref().and_then(|all| all.get(row)).copied().unwrap_or(1.0);
                rows.zip(bytes.chunks(columns)).try_fold(0.0, |sum, ((row, values), bytes)| {
                    let (factor, held) = (factor(row), bytes.iter().zip(steps));
                    within(sum, apart(held.map(|(byte, step)| f32::from(*byte) * step * factor), values))
                })
            }
            Held::Rows { bytes, steps: (_, steps) } => rows.zip(bytes.chunks(columns)).zip(steps).try_fold(
                0.0,
                |sum, (((_, values), bytes), step)| {
                    within(sum, apart(bytes.iter().map(|byte| f32::from(*byte) * step), values))
                },
            ),
        }
    }

    fn far(&self) -> f64 {
        match self.held {
            Held::Floats(_) => FAR_FLOATS,
            Held::Columns { .. } | Held::Rows { .. } => FAR_BYTES,
        }
    }
}

/// The sum of squared differences.
fn apart(held: impl Iterator<Item = f32>, values: &[f32]) -> f64 {
    f64::from(held.zip(values).map(|(held, value)| (held - value) * (held - value)).sum::<f32>())
}

/// A graph, by what makes and reads its values.
struct Seen<'a> {
    graph: &'a Graph,
    makers: HashMap<&'a str, &'a Node>,
    reads: HashMap<String, usize>,
}

/// All places of a graph that may hold weights.
fn places(graph: &Graph) -> Result<Vec<Place>, OnnxError> {
    let makers =
        graph.nodes().iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)));
    let seen = Seen { graph, makers: makers.collect(), reads: reads(graph) };
    let mut places = Vec::new();
    for node in graph.nodes() {
        places.extend(seen.product(node)?);
        places.extend(seen.table(node)?);
        for name in &node.input {
            let Some(tensor) = seen.sole(Some(name), element::FLOAT) else { continue };
            let (shape, held) = (tensor.shape()?, Held::Floats(numbers(tensor)?));
            places.push(Place { constant: name.clone(), shape, held });
        }
    }
    Ok(places)
}

impl<'a> Seen<'a> {
    /// A constant of such elements that one node reads.
    fn sole(&self, name: Option<&str>, elements: i32) -> Option<&'a Tensor> {
        let name = name.filter(|name| self.reads.get(*name) == Some(&1))?;
        self.graph.constant(name).filter(|tensor| tensor.elements() == elements)
    }

    /// The node that makes what a node reads at a place, where it is such an operator.
    fn behind(&self, node: &Node, at: usize, op: &str) -> Option<&'a Node> {
        self.makers.get(node.reads(at)?).copied().filter(|maker| maker.is(op))
    }

    /// The weight of a product of bytes: as it is and, where what it is multiplied with was multiplied by factors before it
    /// was rounded, with these.
    fn product(&self, node: &Node) -> Result<Vec<Place>, OnnxError> {
        let is_product = node.op() == "MatMulIntegerToFloat" && node.set() == RUNTIME_SET;
        // With a zero point of their own the bytes would be others.
        let symmetric = node.reads(5).is_none();
        let weight = self.sole(node.reads(1), element::INT8).zip(self.sole(node.reads(3), element::FLOAT));
        let Some((weight, step)) = weight.filter(|_| is_product && symmetric) else { return Ok(Vec::new()) };
        let (shape, mut steps) = (weight.shape()?, numbers(step)?);
        let [inputs, outputs] = *shape else { return Ok(Vec::new()) };
        if let [all] = *steps {
            steps = vec![all; outputs];
        }
        if steps.len() != outputs {
            return Ok(Vec::new());
        }
        let held = |factors| -> Result<Place, OnnxError> {
            let (bytes, steps) = (signed(weight)?, (named(step), steps.clone()));
            let held = Held::Columns { bytes, steps, factors };
            Ok(Place { constant: named(weight), shape: shape.clone(), held })
        };
        std::iter::once(None).chain(self.factors(node, inputs)?.map(Some)).map(held).collect()
    }

    /// What each of the inputs of a product was multiplied with before it was rounded.
    fn factors(&self, product: &Node, inputs: usize) -> Result<Option<Vec<f32>>, OnnxError> {
        let rounded = self.behind(product, 0, "QuantizeLinear");
        let Some(multiplied) = rounded.and_then(|node| self.behind(node, 0, "Mul")) else { return Ok(None) };
        for name in &multiplied.input {
            let tensor = self.graph.constant(name).filter(|tensor| tensor.elements() == element::FLOAT);
            let factors = tensor.map(numbers).transpose()?.filter(|factors| factors.len() == inputs);
            if let Some(factors) = factors.filter(|factors| factors.iter().all(|factor| *factor != 0.0)) {
                return Ok(Some(factors));
            }
        }
        Ok(None)
    }

    /// The table of which a node multiplies rows with their steps, both looked up by the same numbers.
    fn table(&self, node: &Node) -> Result<Option<Place>, OnnxError> {
        for (rows, steps) in [(0, 1), (1, 0)].into_iter().filter(|_| node.is("Mul")) {
            let rows = self.behind(node, rows, "Cast").and_then(|cast| self.behind(cast, 0, "Gather"));
            let Some((rows, steps)) = rows.zip(self.behind(node, steps, "Gather")) else { continue };
            let first_axis = |node: &Node| node.int("axis").unwrap_or_default() == 0;
            let table = self.sole(rows.reads(0), element::INT8);
            let Some((table, step)) = table.zip(self.sole(steps.reads(0), element::FLOAT)) else { continue };
            let (shape, each) = (table.shape()?, numbers(step)?);
            let fits = matches!(*shape, [count, _] if count == each.len());
            if fits && first_axis(rows) && first_axis(steps) && rows.reads(1) == steps.reads(1) {
                let held = Held::Rows { bytes: signed(table)?, steps: (named(step), each) };
                return Ok(Some(Place { constant: named(table), shape, held }));
            }
        }
        Ok(None)
    }
}

fn named(tensor: &Tensor) -> String {
    tensor.name.clone().unwrap_or_default()
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>, OnnxError> {
    Ok(tensor.to_numbers()?.into_iter().map(|value| value as f32).collect())
}

fn signed(tensor: &Tensor) -> Result<Vec<i8>, OnnxError> {
    Ok(tensor.to_integers()?.into_iter().map(|value| value as i8).collect())
}

fn unrounded(weight: &str, problem: &'static str) -> MethodError {
    MethodError::Rounding { weight: weight.to_owned(), problem }
}
