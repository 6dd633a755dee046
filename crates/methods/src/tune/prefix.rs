//! A graph in two: the part before the blocks that are trained, which gives every row the same in every pass, and the rest.

use std::collections::HashSet;

use headstart_onnx::proto::{Dimension, ValueInfo, element};
use headstart_onnx_grad::{Facts, Graph, Sizes};
use headstart_types::runner::Runners;
use prost::Message as _;

use super::blocks;
use super::graph::refused;
use super::probe::Asking;
use crate::error::MethodError;

/// What is not trained of a graph, and what the rest reads of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prefix {
    /// An ONNX file that takes the classifier's inputs.
    pub model: Vec<u8>,
    /// What it gives, and the rest takes in its place: 32-bit floats, the first axis the rows.
    pub value: String,
    /// The classifier's inputs that the rest takes as well.
    pub rest: Vec<String>,
}

/// Parts a graph before its last `count` blocks; the graph as it is where these are all blocks there are.
pub(super) fn split(
    graph: Graph,
    features: &str,
    count: usize,
    runners: &dyn Runners,
) -> Result<(Option<Prefix>, Graph), MethodError> {
    let Some(value) = blocks::cut(&graph, features, count)? else { return Ok((None, graph)) };
    let facts = Facts::learn(&graph, &Asking(runners), &Sizes::default()).map_err(refused)?;
    let fact = facts.of(&value).map_err(refused)?;
    if fact.elements != element::FLOAT || fact.size(0).is_some() {
        return Ok((None, graph));
    }
    let dimensions = fact.pairs().into_iter().map(|pair| dimension(&graph, &facts, pair)).collect();
    let mut front = graph.clone();
    front.set_outputs(vec![ValueInfo { name: Some(value.clone()), ..ValueInfo::default() }]);
    front.prune();
    let mut model = front.into_model();
    if let Some(graph) = &mut model.graph {
        let read: HashSet<&str> = graph.node.iter().flat_map(|node| node.reads_all()).collect();
        graph.input.retain(|input| input.name.as_deref().is_some_and(|name| read.contains(name)));
    }
    let front = model.encode_to_vec();
    let mut model = graph.into_model();
    let mut rest = Vec::new();
    if let Some(graph) = &mut model.graph {
        graph.node.retain(|node| !node.output.contains(&value));
        graph.input.push(ValueInfo::tensor(&value, element::FLOAT, dimensions));
    }
    let mut back = Graph::new(model).map_err(refused)?;
    back.prune();
    let mut model = back.into_model();
    if let Some(graph) = &mut model.graph {
        let read: HashSet<String> =
            graph.node.iter().flat_map(|node| node.reads_all()).map(str::to_owned).collect();
        graph.input.retain(|input| input.name.as_deref().is_some_and(|name| read.contains(name)));
        rest.extend(graph.input.iter().filter_map(|input| input.name.clone()).filter(|name| *name != value));
    }
    let back = Graph::new(model).map_err(refused)?;
    Ok((Some(Prefix { model: front, value, rest }), back))
}

/// A size as the file writes it: fixed, or by the name that an input's size has.
fn dimension(graph: &Graph, facts: &Facts, pair: [usize; 2]) -> Dimension {
    if pair[0] == pair[1] {
        return Dimension::of(pair[0]);
    }
    for input in graph.inputs() {
        let name = input.name.as_deref().unwrap_or_default();
        for (axis, dimension) in input.dimensions().unwrap_or_default().iter().enumerate() {
            let same = facts.of(name).ok().and_then(|fact| fact.pair(axis)) == Some(pair);
            if same && dimension.dim_param.is_some() {
                return dimension.clone();
            }
        }
    }
    Dimension::named(&format!("size_{}", pair[0]))
}
