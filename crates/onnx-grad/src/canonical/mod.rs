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

/// Rewrites a graph whose values are known; those of `kept` stay, and constants that are `trained` are no numbers. No value
/// changes its meaning, some go.
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
