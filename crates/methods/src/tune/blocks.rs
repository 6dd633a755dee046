//! A backbone as a row of blocks: between two blocks one value alone carries what the weights before have made.
//!
//! No name tells where a layer of an exported graph ends, but its structure does: where every path from the weights before to
//! the features goes through one value. In an encoder of BERT's family attention and the layers behind it are a block
//! each, in a network with residual connections every connection spans one.

use std::collections::{HashMap, HashSet};

use headstart_onnx::proto::element;
use headstart_onnx_grad::Graph;

use super::choose::behind;
use crate::error::MethodError;

/// Of all blocks the share that is trained where nobody says how many.
const SHARE: usize = 3;

/// The node with which the last `count` blocks begin, a third of all where `count` is 0.
///
/// # Errors
/// [`MethodError::Hyperparameter`] for more blocks than there are.
pub(super) fn first_node_of_last(graph: &Graph, features: &str, count: usize) -> Result<usize, MethodError> {
    let starts = starts(graph, features);
    let count = if count == 0 { (starts.len() / SHARE).max(1) } else { count };
    let from = starts.len().checked_sub(count).and_then(|at| starts.get(at).copied());
    from.ok_or_else(|| {
        let problem = format!("must be at most {}, which is how many blocks the backbone has", starts.len());
        crate::method::hyperparameter("blocks", problem)
    })
}

/// The value between the last `count` blocks and those before; nothing where all blocks are meant.
pub(super) fn cut(graph: &Graph, features: &str, count: usize) -> Result<Option<String>, MethodError> {
    let from = first_node_of_last(graph, features, count)?;
    Ok(candidates(graph, features).into_iter().rev().find(|(at, _)| *at < from).map(|(_, value)| value))
}

/// The node that each block begins with.
fn starts(graph: &Graph, features: &str) -> Vec<usize> {
    let candidates = candidates(graph, features);
    let head = behind(graph, features);
    let mut starts: Vec<usize> = Vec::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        let matrix = |name: &String| {
            graph.constant(name).is_some_and(|tensor| tensor.dims.len() > 1 && is_weight(tensor))
        };
        if head.contains(&at) || !node.input.iter().any(matrix) {
            continue;
        }
        let start =
            candidates.iter().rev().find(|(before, _)| *before < at).map_or(0, |(before, _)| before + 1);
        if starts.last() != Some(&start) {
            starts.push(start);
        }
    }
    starts
}

/// Nodes behind which one value alone carries what weights have made, and that value.
fn candidates(graph: &Graph, features: &str) -> Vec<(usize, String)> {
    let mut last_use: HashMap<&str, usize> = HashMap::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        last_use.extend(node.input.iter().map(|input| (input.as_str(), at)));
    }
    last_use.insert(features, usize::MAX);
    let mut made: HashSet<&str> = HashSet::new();
    let mut alive: HashSet<&str> = HashSet::new();
    let mut found = Vec::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        let reads =
            |name: &String| made.contains(name.as_str()) || graph.constant(name).is_some_and(is_weight);
        if node.input.iter().any(reads) {
            made.extend(node.output.iter().map(String::as_str));
            alive.extend(node.output.iter().map(String::as_str));
        }
        alive.retain(|value| last_use.get(value).is_some_and(|last| *last > at));
        let mut values = alive.iter();
        if let (Some(value), None) = (values.next(), values.next()) {
            found.push((at, (*value).to_owned()));
        }
        if alive.contains(features) {
            break;
        }
    }
    found
}

fn is_weight(tensor: &headstart_onnx::proto::Tensor) -> bool {
    let float = matches!(tensor.elements(), element::FLOAT | element::HALF | element::BFLOAT16);
    float && tensor.dims.iter().product::<i64>() > 1
}
