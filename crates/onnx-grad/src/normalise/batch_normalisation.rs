//! `BatchNormalization` behind a convolution, folded into it: `W' = W·k`, `b' = β + (b - m)·k` with `k = g/√(v + ε)` for each
//! of the convolution's channels.

use headstart_onnx::proto::{Node, Tensor, element};

use crate::error::GradError;
use crate::graph::Graph;

/// A normalisation and the convolution before it, by their places.
struct Pair {
    convolution: usize,
    normalisation: usize,
}

/// Folds every `BatchNormalization` of constants into the `Conv` of constants whose value it alone reads.
pub(super) fn fold(graph: &mut Graph) -> Result<(), GradError> {
    let mut gone = Vec::new();
    for pair in pairs(graph) {
        if fold_pair(graph, &pair)? {
            gone.push(pair.normalisation);
        }
    }
    let mut at = 0..;
    graph.nodes.retain(|_| at.next().is_none_or(|at| !gone.contains(&at)));
    Ok(())
}

fn pairs(graph: &Graph) -> Vec<Pair> {
    let readers = graph.readers();
    let mut pairs = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.is("Conv")) {
        let Some(value) = node.makes(0).filter(|value| !graph.gives(value)) else { continue };
        if let Some([reader]) = readers.get(value).map(Vec::as_slice) {
            let next = &graph.nodes[*reader];
            let inference = next.int("training_mode").unwrap_or_default() == 0 && next.makes(1).is_none();
            if next.is("BatchNormalization") && next.reads(0) == Some(value) && inference {
                pairs.push(Pair { convolution: at, normalisation: *reader });
            }
        }
    }
    pairs
}

/// Folds one pair; whether it could be.
fn fold_pair(graph: &mut Graph, pair: &Pair) -> Result<bool, GradError> {
    let (convolution, normalisation) =
        (graph.nodes[pair.convolution].clone(), &graph.nodes[pair.normalisation]);
    let constant = |name: Option<&str>| name.and_then(|name| graph.constants.get(name));
    let (Some(input), Some(weight_name)) = (convolution.reads(0), convolution.reads(1)) else {
        return Ok(false);
    };
    let weight = constant(Some(weight_name)).filter(|weight| weight.elements() == element::FLOAT);
    let statistics: Option<Vec<&Tensor>> = (1..5).map(|at| constant(normalisation.reads(at))).collect();
    let bias = convolution.reads(2).map(|name| constant(Some(name)));
    let (Some(weight), Some(statistics), None | Some(Some(_))) = (weight, statistics, bias) else {
        return Ok(false);
    };
    let numbers: Result<Vec<Vec<f64>>, _> = statistics.into_iter().map(Tensor::to_numbers).collect();
    let [gain, shift, mean, variance] = <[Vec<f64>; 4]>::try_from(numbers?).unwrap_or_default();
    let channels = gain.len();
    let bias = bias.flatten().map_or_else(|| Ok(vec![0.0; channels]), Tensor::to_numbers)?;
    let (shape, values) = (weight.shape()?, weight.to_numbers()?);
    let lists = [&shift, &mean, &variance, &bias];
    if shape.first() != Some(&channels) || lists.iter().any(|list| list.len() != channels) {
        return Ok(false);
    }
    let epsilon = f64::from(normalisation.float("epsilon").unwrap_or(1e-5));
    let factors: Vec<f64> =
        gain.iter().zip(&variance).map(|(gain, variance)| gain / (variance + epsilon).sqrt()).collect();
    let size = values.len() / channels.max(1);
    let values = values
        .chunks(size.max(1))
        .zip(&factors)
        .flat_map(|(taps, factor)| taps.iter().map(move |tap| (tap * factor) as f32));
    let weight = Tensor::floats(weight_name, &shape, values);
    let bias = (0..channels).map(|at| (shift[at] + (bias[at] - mean[at]) * factors[at]) as f32);
    let bias = Tensor::floats(&format!("{weight_name}/bias"), &[channels], bias.collect::<Vec<_>>());
    let output = normalisation.output.clone();
    let weight = own(graph, weight_name, weight);
    let bias = graph.add_constant(bias);
    let input = vec![input.to_owned(), weight, bias];
    graph.nodes[pair.convolution] = Node { input, output, ..convolution.clone() };
    Ok(true)
}

/// Puts a constant in the place of another, or beside it where more than one node reads that.
fn own(graph: &mut Graph, name: &str, tensor: Tensor) -> String {
    let shared = graph.readers().get(name).is_some_and(|readers| readers.len() > 1);
    if shared || graph.gives(name) {
        return graph.add_constant(tensor);
    }
    graph.constants.insert(name.to_owned(), tensor);
    name.to_owned()
}
