//! Joins what [`Kernels`](super::Kernels) wrote, where that saves a pass over memory: bounds go into the convolution whose windows they
//! bound, and a bias's gradient is summed where the gradient that it sums is made.

use std::collections::{HashMap, HashSet};

use headstart_onnx::proto::{Attribute, Node};

use super::KERNELS;
use crate::graph::Graph;

/// Joins nodes of a whole graph, whose outputs are stated.
pub(super) fn fuse(graph: &mut Graph) {
    bound(graph);
    sum(graph);
}

fn is(node: &Node, op: &str) -> bool {
    node.set() == KERNELS && node.op() == op
}

/// Where each first output of an operator is made.
fn makers(graph: &Graph, op: &str) -> HashMap<String, usize> {
    let made = graph.nodes.iter().enumerate().filter(|(_, node)| is(node, op));
    made.filter_map(|(at, node)| Some((node.makes(0)?.to_owned(), at))).collect()
}

/// `Relu` and `Clip` of windows that nothing else reads.
fn bound(graph: &mut Graph) {
    let makers = makers(graph, "Conv");
    let mut readers: HashMap<String, usize> = HashMap::new();
    let outputs = graph.outputs().iter().filter_map(|output| output.name.as_deref());
    let read = graph.nodes.iter().flat_map(Node::reads_all);
    read.chain(outputs).for_each(|name| *readers.entry(name.to_owned()).or_default() += 1);
    let mut gone = HashSet::new();
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let Some([low, high]) = bounds(node, graph) else { continue };
        let Some(windows) = node.reads(0).filter(|name| readers.get(*name) == Some(&1)) else { continue };
        let (Some(&maker), Some(bounded)) = (makers.get(windows), node.makes(0).map(str::to_owned)) else {
            continue;
        };
        let convolution = &mut graph.nodes[maker];
        convolution.output = vec![bounded];
        convolution.attribute.extend([Attribute::number("low", low), Attribute::number("high", high)]);
        gone.insert(at);
    }
    let mut at = 0;
    graph.nodes.retain(|_| {
        at += 1;
        !gone.contains(&(at - 1))
    });
}

/// Between which constants a node keeps what it reads.
fn bounds(node: &Node, graph: &Graph) -> Option<[f32; 2]> {
    if node.is("Relu") {
        return Some([0.0, f32::INFINITY]);
    }
    let constant = |at: usize, without: f32| match node.reads(at) {
        Some(name) => graph.constant(name)?.to_numbers().ok()?.first().map(|bound| *bound as f32),
        None => Some(without),
    };
    let bounds = [constant(1, f32::NEG_INFINITY)?, constant(2, f32::INFINITY)?];
    (node.is("Clip") && bounds[0] <= bounds[1]).then_some(bounds)
}

/// The gradient of a bias is the sum of the windows' gradient, which is at hand where bounds cut it.
fn sum(graph: &mut Graph) {
    let mut makers = makers(graph, "ClipGradient");
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        if !is(node, "ConvWeightGradient") || node.output.len() < 2 {
            continue;
        }
        // Removed: it sums once.
        let Some(maker) = node.reads(0).and_then(|name| makers.remove(name)) else { continue };
        if let Some(bias) = graph.nodes[at].output.pop() {
            graph.nodes[maker].output.push(bias);
        }
    }
}
