//! Groups of nodes that are one operation, written as one node before gradients are taken: the gradient of the whole is
//! shorter than that of its parts, and rounds less.

mod gelu;
mod layer_normalization;
mod linear;
mod matcher;

use std::collections::HashSet;

use crate::graph::Graph;
use crate::probe::Facts;
use matcher::Matcher;

/// Replaces groups of nodes by the one node that computes the same. Values named in `kept` are not removed. A constant
/// named in `trained` is not taken for a fixed number, since training will change it. No value that stays changes its
/// meaning.
pub(crate) fn canonicalise(graph: &mut Graph, facts: &Facts, kept: &HashSet<&str>, trained: &[&str]) {
    for find in [layer_normalization::find, gelu::find, linear::find] {
        let found = find(&Matcher::new(graph, facts, kept, trained));
        let mut gone: HashSet<usize> = HashSet::new();
        for group in found {
            if group.nodes.iter().all(|at| !gone.contains(at)) {
                let last = group.nodes.iter().copied().max().unwrap_or_default();
                gone.extend(group.nodes.iter().filter(|at| **at != last));
                graph.nodes[last] = group.whole;
            }
        }
        let mut at = 0..;
        graph.nodes.retain(|_| at.next().is_none_or(|at| !gone.contains(&at)));
    }
}
