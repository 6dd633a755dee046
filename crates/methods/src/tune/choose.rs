//! What of a graph is trained: all weights, those of the last blocks, or small factors beside them.

use std::collections::HashSet;

use headstart_onnx::proto::{Node, element};
use headstart_onnx_grad::{Graph, widen};

use super::blocks;
use super::graph::refused;
use super::initial::{Initial, Onward};
use super::low_rank::{self, LowRank};
use crate::error::MethodError;

/// Operators whose constants are weights.
const LEARNING: [&str; 11] = [
    "Add",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "Gather",
    "InstanceNormalization",
    "LayerNormalization",
    "MatMul",
    "Mul",
    "PRelu",
];

/// From this input on a batch normalisation reads statistics, which stay.
const STATISTICS_FROM: usize = 3;

/// A constant with a value as large as this shuts places out, as a mask that is added to scores does, and is no weight.
const SHUTS_OUT: f64 = 1e4;

/// Which weights of the backbone are trained; those of the head always are.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// All of them.
    All,
    /// Those of so many blocks before the head, see the module `blocks`; a third of all where 0 is said.
    LastBlocks(usize),
    /// None; factors of low rank are added to its matrices.
    LowRank(LowRank),
}

/// What is trained of a graph, and towards what.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Which weights.
    pub what: What,
    /// Whether what stands before the last blocks is parted from them.
    pub prefix: bool,
    /// Whether tables of embeddings are among them.
    pub embeddings: bool,
    /// Towards what.
    pub goal: Goal,
}

/// What a training makes better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The logits of each row's class, against those of the others.
    Classes {
        /// Share of a label's mass that goes to all classes alike.
        smoothing: f64,
    },
    /// The logits of each class of a row, one by one.
    Labels {
        /// Share of a label's mass that goes to yes and no alike.
        smoothing: f64,
    },
    /// The features: rows of one class become alike, others do not. The head has no part in it.
    Pairs,
}

/// What a trained weight is.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// One of the head's.
    Head,
    /// One of the backbone's. It stands at 0 where it is the first, at 1 where it is the last.
    Backbone(f32),
    /// The first factor beside the weight of that name, `[inputs, rank]`; the next weight is the second.
    Down {
        /// The weight that the product of both, times `scale`, is added to.
        of: String,
        /// What the product is multiplied with.
        scale: f32,
        /// Whether the weight is stored as `[outputs, inputs]`.
        transposed: bool,
    },
    /// The second factor, `[rank, outputs]`; it starts at zero.
    Up,
}

/// A constant that is to be trained.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
    pub(super) role: Role,
    pub(super) initial: Initial,
}

/// What is trained, in the order in which the graph uses it, but for constants that are read `before` the graph too. Makes of
/// it constants of 32-bit floats, and adds the factors that are to be added.
pub(super) fn weights(
    graph: &mut Graph,
    features: &str,
    choice: &Choice,
    before: &HashSet<String>,
) -> Result<Vec<Found>, MethodError> {
    let mut found = match &choice.what {
        What::All => constants(graph, features, choice, (0, before))?,
        What::LastBlocks(count) => {
            let from = blocks::first_node_of_last(graph, features, *count)?;
            constants(graph, features, choice, (from, before))?
        }
        What::LowRank(low_rank) => {
            let mut found = low_rank::add(graph, features, low_rank)?;
            found.extend(constants(graph, features, choice, (usize::MAX, before))?);
            found
        }
    };
    if found.iter().all(|weight| weight.role == Role::Head) {
        return Err(MethodError::Graph("the backbone has no weights to train".into()));
    }
    let last = found.iter().filter(|weight| matches!(weight.role, Role::Backbone(_))).count();
    let last = last.saturating_sub(1).max(1) as f32;
    let mut place = 0.0;
    for weight in &mut found {
        if let Role::Backbone(depth) = &mut weight.role {
            *depth = place / last;
            place += 1.0;
        }
    }
    Ok(found)
}

/// The weights of the head, and those of the backbone that nodes from `from` on use first, and nothing `before` them.
fn constants(
    graph: &mut Graph,
    features: &str,
    choice: &Choice,
    (from, before): (usize, &HashSet<String>),
) -> Result<Vec<Found>, MethodError> {
    let head = behind(graph, features);
    let mut seen = before.clone();
    let mut names = Vec::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        let in_head = head.contains(&at);
        for (place, name) in node.input.iter().enumerate().filter(|(place, _)| learns(node, *place, choice)) {
            if graph.constant(name).is_some() && seen.insert(name.clone()) && (in_head || at >= from) {
                names.push((name.clone(), in_head, (at, place)));
            }
        }
    }
    let layers = graph.nodes().iter().any(|node| node.is("LayerNormalization"));
    let mut found = Vec::with_capacity(names.len());
    for (name, in_head, (at, place)) in names {
        let gathered = graph.nodes().get(at).is_some_and(|node| node.is("Gather"));
        let elements = graph.constant(&name).map(headstart_onnx::proto::Tensor::elements);
        if gathered && matches!(elements, Some(element::HALF | element::BFLOAT16)) {
            widen(graph, &name).map_err(refused)?;
        }
        let Some(tensor) = graph.constant(&name) else { continue };
        let read = |error: headstart_onnx::OnnxError| MethodError::Graph(error.to_string());
        if tensor.elements() != element::FLOAT || tensor.len().map_err(read)? < 2 {
            continue;
        }
        let (shape, values) = (tensor.shape().map_err(read)?, tensor.to_numbers().map_err(read)?);
        let shuts_out = |value: &f64| !value.is_finite() || value.abs() >= SHUTS_OUT;
        if !in_head && values.iter().any(shuts_out) {
            continue;
        }
        let values = values.into_iter().map(|value| value as f32).collect();
        let role = if in_head { Role::Head } else { Role::Backbone(0.0) };
        let Some(node) = graph.nodes().get(at) else { continue };
        let initial = Initial::of(node, place, &shape, (layers, Onward::of(graph, at)));
        found.push(Found { name, shape, values, role, initial });
    }
    Ok(found)
}

/// The nodes that read `features`, or what comes of it.
pub(super) fn behind(graph: &Graph, features: &str) -> HashSet<usize> {
    let mut values: HashSet<&str> = HashSet::from([features]);
    let mut nodes = HashSet::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        if node.input.iter().any(|input| values.contains(input.as_str())) {
            values.extend(node.output.iter().map(String::as_str));
            nodes.insert(at);
        }
    }
    nodes
}

/// Whether what a node reads at a place may be a weight.
fn learns(node: &Node, place: usize, choice: &Choice) -> bool {
    let op = node.op_type.as_deref().unwrap_or_default();
    let statistics = op == "BatchNormalization" && place >= STATISTICS_FROM;
    LEARNING.contains(&op) && !statistics && (op != "Gather" || choice.embeddings)
}
