//! `Constant` nodes as constants of the graph.

use headstart_onnx::proto::{Attribute, Node, Tensor};

use crate::error::GradError;
use crate::graph::Graph;

/// Makes constants of `Constant` nodes; those of texts and sparse tensors stay nodes.
pub(super) fn gather(graph: &mut Graph) -> Result<(), GradError> {
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut graph.nodes) {
        let made = node.makes(0).filter(|_| node.is("Constant")).map(str::to_owned);
        match made.and_then(|name| Some((name, value(&node)?))) {
            Some((name, tensor)) => {
                tensor.len()?;
                graph.constants.insert(name.clone(), Tensor { name: Some(name), ..tensor });
            }
            None => nodes.push(node),
        }
    }
    graph.nodes = nodes;
    Ok(())
}

fn value(node: &Node) -> Option<Tensor> {
    let attribute: &Attribute = node.attribute.first()?;
    match attribute.name.as_deref()? {
        "value" => attribute.t.clone(),
        "value_float" => Some(Tensor::floats("", &[], attribute.f)),
        "value_int" => Some(Tensor::integers("", &[], attribute.i)),
        "value_floats" => {
            Some(Tensor::floats("", &[attribute.floats.len()], attribute.floats.iter().copied()))
        }
        "value_ints" => Some(Tensor::integers("", &[attribute.ints.len()], attribute.ints.iter().copied())),
        _ => None,
    }
}
