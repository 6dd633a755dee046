//! Who makes and who reads each value, for finding groups of nodes.

use std::collections::{HashMap, HashSet};

use headstart_onnx::proto::{Node, Tensor};

use crate::graph::Graph;
use crate::probe::{Fact, Facts};

/// Nodes that are one operation.
pub(super) struct Group {
    /// Their places; the last computes the whole's value.
    pub(super) nodes: Vec<usize>,
    /// What takes the place of the last.
    pub(super) whole: Node,
}

/// Who makes and who reads each value of a graph.
pub(super) struct Matcher<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    kept: &'a HashSet<&'a str>,
    trained: &'a [&'a str],
    makers: HashMap<&'a str, usize>,
    readers: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        facts: &'a Facts,
        kept: &'a HashSet<&'a str>,
        trained: &'a [&'a str],
    ) -> Self {
        let made = |(at, node): (usize, &'a Node)| node.output.iter().map(move |name| (name.as_str(), at));
        let makers = graph.nodes().iter().enumerate().flat_map(made).collect();
        Self { graph, facts, kept, trained, makers, readers: graph.readers() }
    }

    /// The nodes of an operator of ONNX's own, with their places.
    pub(super) fn all(&self, op: &'static str) -> impl Iterator<Item = (usize, &'a Node)> {
        self.graph.nodes().iter().enumerate().filter(move |(_, node)| node.is(op))
    }

    /// The node of one of these operators that makes a value.
    pub(super) fn maker(&self, value: &str, ops: &[&str]) -> Option<(usize, &'a Node)> {
        let at = *self.makers.get(value)?;
        let node = &self.graph.nodes()[at];
        ops.iter().any(|op| node.is(op)).then_some((at, node))
    }

    /// The nodes that read a value, where nobody outside does.
    pub(super) fn readers(&self, value: &str) -> Option<Vec<(usize, &'a Node)>> {
        if self.kept.contains(value) || self.graph.gives(value) {
            return None;
        }
        let readers = self.readers.get(value)?;
        Some(readers.iter().map(|&at| (at, &self.graph.nodes()[at])).collect())
    }

    /// The one node that reads a value, where it is of this operator and nobody else does.
    pub(super) fn reader(&self, value: &str, op: &str) -> Option<(usize, &'a Node)> {
        match self.readers(value)?.as_slice() {
            [(at, node)] if node.is(op) => Some((*at, node)),
            _ => None,
        }
    }

    /// What a node of two inputs reads beside a value.
    pub(super) fn other(&self, node: &'a Node, value: &str) -> Option<&'a str> {
        match node.input.as_slice() {
            [left, right] if left == value => Some(right),
            [left, right] if right == value => Some(left),
            _ => None,
        }
    }

    /// The number that a constant of one element holds, and goes on to hold.
    pub(super) fn number(&self, value: &str) -> Option<f64> {
        let tensor = self.graph.constant(value).filter(|_| !self.trained.contains(&value))?;
        let small = tensor.len().is_ok_and(|len| len == 1);
        Some(tensor).filter(|_| small).and_then(|tensor| Tensor::to_numbers(tensor).ok())?.first().copied()
    }

    /// Whether a constant of one element is this number, to the rounding of 32 bits.
    pub(super) fn is_number(&self, value: &str, wanted: f64) -> bool {
        self.number(value).is_some_and(|number| (number - wanted).abs() <= 1e-6 * wanted.abs())
    }

    /// What is known of a value.
    pub(super) fn fact(&self, value: &str) -> Option<&'a Fact> {
        self.facts.of(value).ok()
    }
}
