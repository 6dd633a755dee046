//! Nodes that hand a value on as it is.

use std::collections::{HashMap, HashSet};

use headstart_onnx::proto::{Node, Tensor};

use crate::graph::Graph;

/// Removes `Identity` and, as nothing is dropped at inference, `Dropout`. An `Identity` of a constant becomes a constant of its
/// own. Those that make an output of the graph stay: the output keeps its name.
pub(super) fn resolve(graph: &mut Graph) {
    let mut named: HashMap<String, String> = HashMap::new();
    let read: HashSet<String> = graph.readers().into_keys().map(str::to_owned).collect();
    let mut nodes = Vec::new();
    for mut node in std::mem::take(&mut graph.nodes) {
        for name in &mut node.input {
            if let Some(other) = named.get(name) {
                other.clone_into(name);
            }
        }
        let hands_on = node.reads(0).zip(node.makes(0)).filter(|_| hands_on(&node, graph, &read));
        let Some((from, to)) = hands_on.map(|(from, to)| (from.to_owned(), to.to_owned())) else {
            nodes.push(node);
            continue;
        };
        if let Some(tensor) = graph.constants.get(&from).cloned() {
            graph.constants.insert(to.clone(), Tensor { name: Some(to), ..tensor });
        } else if graph.gives(&to) {
            nodes.push(node);
        } else {
            named.insert(to, from);
        }
    }
    // Inner graphs read by name too; for them the value is handed on once more.
    let inner: Vec<&Node> = nodes.iter().filter(|node| node.has_graphs()).collect();
    let inside = inner.iter().flat_map(|node| node.reads_all());
    let still_read: Vec<(String, String)> =
        inside.filter_map(|name| Some((name.to_owned(), named.get(name)?.clone()))).collect();
    for (to, from) in still_read {
        let made_at = nodes.iter().position(|node| node.output.contains(&from));
        nodes.insert(made_at.map_or(0, |at| at + 1), Node::new("Identity", &[&from], &[&to], Vec::new()));
    }
    graph.nodes = nodes;
}

fn hands_on(node: &Node, graph: &Graph, read: &HashSet<String>) -> bool {
    if node.is("Identity") {
        return true;
    }
    let mode = node.reads(2).and_then(|mode| graph.constants.get(mode));
    let trains = mode.is_some_and(|mode| mode.to_integers().ok() != Some(vec![0]));
    let unread = node.makes(1).is_none_or(|mask| !read.contains(mask));
    node.is("Dropout") && (node.reads(2).is_none() || mode.is_some()) && !trains && unread
}
