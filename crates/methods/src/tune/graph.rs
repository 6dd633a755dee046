//! The graph of a classifier as one that can be trained: what is trained of it, and at which pace.

use std::collections::HashSet;

use headstart_onnx::proto::{Dimension, Model, Node, Tensor, ValueInfo, element};
use headstart_onnx_grad::losses::CrossEntropy;
use headstart_onnx_grad::{Graph, Options, differentiate, normalise};
use headstart_types::runner::{Graphs, Runners, Trained};
use prost::Message as _;

use super::probe::Asking;
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

/// What is trained of a graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Whether tables of embeddings are.
    pub embeddings: bool,
    /// Share of a label's mass that goes to all classes alike.
    pub smoothing: f64,
}

/// A classifier whose weights are inputs.
#[derive(Debug, Clone)]
pub struct Tunable {
    /// What is run.
    pub graphs: Graphs,
    /// What is trained, with the values it starts from, in the order in which the graph uses it.
    pub weights: Vec<Trained>,
    /// Where each stands: 0 for the first of the backbone's weights, 1 for its last; none for those of the head.
    pub depths: Vec<Option<f32>>,
    /// The logits, `[rows, classes]`, of both graphs.
    pub logits: String,
    /// The loss.
    pub loss: String,
    /// Inputs of the loss: classes of the rows, and their weights, which sum to 1 over a step.
    pub loss_inputs: [String; 2],
}

/// Reads a classifier's file and makes of it what [`train`](super::train()) works on. Nodes behind `features`, the vector
/// that the head reads, are the head.
///
/// # Errors
/// [`MethodError::Graph`] for a file that cannot be read, has nothing to train, or that gradients cannot pass; its text
/// names node and operator.
pub fn prepare(
    classifier: &[u8],
    (features, logits): (&str, &str),
    choice: Choice,
    runners: &dyn Runners,
) -> Result<Tunable, MethodError> {
    let model = Model::decode(classifier).map_err(|error| MethodError::Graph(error.to_string()))?;
    let mut graph = Graph::new(model).map_err(graph_error)?;
    let output = |name: &str| ValueInfo { name: Some(name.to_owned()), ..ValueInfo::default() };
    graph.set_outputs(vec![output(features), output(logits)]);
    normalise(&mut graph).map_err(graph_error)?;
    let found = weights(&graph, features, choice)?;
    let names: Vec<&str> = found.iter().map(|weight| weight.name.as_str()).collect();
    let loss = CrossEntropy { logits: logits.to_owned(), smoothing: choice.smoothing };
    let options = Options { outputs: vec![logits.to_owned()], ..Options::default() };
    let training = differentiate(&graph, &loss, &names, &Asking(runners), &options).map_err(graph_error)?;
    let forward = with_inputs(graph, &found, logits);
    let [labels, sample_weight] = <[String; 2]>::try_from(training.loss_inputs)
        .map_err(|_| MethodError::Graph("the loss has other inputs than it should".into()))?;
    let last = found.iter().filter(|weight| !weight.head).count().saturating_sub(1).max(1) as f32;
    let mut depths = Vec::with_capacity(found.len());
    let mut trained = Vec::with_capacity(found.len());
    let mut place = 0.0;
    for weight in found {
        let Some(gradient) = training.gradients.get(&weight.name) else { continue };
        depths.push((!weight.head).then_some(place / last));
        place += if weight.head { 0.0 } else { 1.0 };
        trained.push(Trained {
            name: weight.name,
            gradient: gradient.clone(),
            shape: weight.shape,
            values: weight.values,
        });
    }
    Ok(Tunable {
        graphs: Graphs { training: training.model.encode_to_vec(), forward: forward.encode_to_vec() },
        weights: trained,
        depths,
        logits: logits.to_owned(),
        loss: training.loss,
        loss_inputs: [labels, sample_weight],
    })
}

struct Found {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
    head: bool,
}

/// Constants that are weights, by the node that uses them first.
fn weights(graph: &Graph, features: &str, choice: Choice) -> Result<Vec<Found>, MethodError> {
    let mut behind: HashSet<&str> = HashSet::from([features]);
    let mut seen: HashSet<&str> = HashSet::new();
    let mut found = Vec::new();
    for node in graph.nodes() {
        let head = node.input.iter().any(|input| behind.contains(input.as_str()));
        if head {
            behind.extend(node.output.iter().map(String::as_str));
        }
        if !learns(node, choice) {
            continue;
        }
        for name in &node.input {
            let Some(tensor) = graph.constant(name) else { continue };
            let read = |error: headstart_onnx::OnnxError| MethodError::Graph(error.to_string());
            if tensor.elements() != element::FLOAT || tensor.len().map_err(read)? < 2 || !seen.insert(name) {
                continue;
            }
            let (shape, values) = (tensor.shape().map_err(read)?, tensor.to_numbers().map_err(read)?);
            let values = values.into_iter().map(|value| value as f32).collect();
            found.push(Found { name: name.clone(), shape, values, head });
        }
    }
    if found.is_empty() {
        return Err(MethodError::Graph("the graph has no weights to train".into()));
    }
    Ok(found)
}

fn learns(node: &Node, choice: Choice) -> bool {
    let op = node.op_type.as_deref().unwrap_or_default();
    LEARNING.contains(&op) && (op != "Gather" || choice.embeddings)
}

/// The graph with weights as inputs, giving the logits alone.
fn with_inputs(graph: Graph, weights: &[Found], logits: &str) -> Model {
    let mut model = graph.into_model();
    if let Some(graph) = &mut model.graph {
        let names: HashSet<&str> = weights.iter().map(|weight| weight.name.as_str()).collect();
        let kept = |tensor: &Tensor| tensor.name.as_deref().is_none_or(|name| !names.contains(name));
        graph.initializer.retain(kept);
        graph.output.retain(|output| output.name.as_deref() == Some(logits));
        graph.input.extend(weights.iter().map(|weight| {
            let shape = weight.shape.iter().map(|size| Dimension::of(*size)).collect();
            ValueInfo::tensor(&weight.name, element::FLOAT, shape)
        }));
    }
    model
}

fn graph_error(error: headstart_onnx_grad::GradError) -> MethodError {
    MethodError::Graph(error.to_string())
}
