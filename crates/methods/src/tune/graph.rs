//! The graph of a classifier as one that can be trained.

use std::collections::HashSet;

use headstart_onnx::proto::{Dimension, Model, Tensor, ValueInfo, element};
use headstart_onnx_grad::losses::{BinaryCrossEntropy, Contrastive, CrossEntropy, Loss};
use headstart_onnx_grad::lower::{Kernels, Lowering, Portable};
use headstart_onnx_grad::{GradError, Graph, Options, RUNS, Sizes, differentiate, normalise};
use headstart_types::manifest::{ImageSpec, Layout};
use headstart_types::runner::{Graphs, Runners, Trained};
use prost::Message as _;

use super::choose::{self, Choice, Found, Goal, Role, What};
use super::initial::Initial;
use super::prefix::{self, Prefix, Split};
use super::probe::Asking;
use crate::error::MethodError;
use crate::method::{METHODS, Needs};
use crate::rng::Rng;

/// Red, green and blue.
const CHANNELS: usize = 3;

/// A classifier whose weights are inputs.
#[derive(Debug, Clone)]
pub struct Tunable {
    /// What stands before the graphs, where the rows are to be taken through it once.
    pub prefix: Option<Prefix>,
    /// What is run.
    pub graphs: Graphs,
    /// What is trained, with the values it starts from, in the order in which the graph uses it.
    pub weights: Vec<Trained>,
    /// What each of them is.
    pub roles: Vec<Role>,
    /// How each is drawn where nothing is known yet.
    pub initial: Vec<Initial>,
    /// What both graphs give: logits, `[rows, classes]`, or the features where these are trained.
    pub output: String,
    /// The loss.
    pub loss: String,
    /// Inputs of the loss, in the order that it states.
    pub loss_inputs: Vec<String>,
    /// What is made better.
    pub goal: Goal,
}

impl Tunable {
    /// Takes away what the weights know: they are drawn as before any training, and those of the head become zero.
    pub fn forget(&mut self, seed: u64) {
        let drawn = self.roles.iter().zip(&self.initial);
        for (at, (weight, (role, initial))) in self.weights.iter_mut().zip(drawn).enumerate() {
            let initial = if *role == Role::Head { Initial::Constant(0.0) } else { *initial };
            initial.fill(&mut weight.values, &mut Rng::stream(seed, at as u64));
        }
    }
}

/// Reads a classifier's file and makes of it what [`train`](super::train()) works on. Nodes behind `features`, the vector
/// that the head reads, are the head. `picture` is what the backbone reads where that are pictures: their sizes, where the
/// file leaves them open.
///
/// # Errors
/// [`MethodError::Graph`] for a file that cannot be read, has nothing to train, or that gradients cannot pass; its text
/// names node and operator. [`MethodError::Hyperparameter`] for blocks or matrices that it does not have.
pub fn prepare(
    classifier: &[u8],
    (features, logits): (&str, &str),
    choice: &Choice,
    runners: &dyn Runners,
    picture: Option<&ImageSpec>,
) -> Result<Tunable, MethodError> {
    let mut graph = open(classifier, &[features, logits])?;
    let features = &source(&graph, features);
    let (mut prefix, mut sizes, mut choice) = (None, sizes(&graph, picture), choice.clone());
    let mut before = HashSet::new();
    if let (&What::LastBlocks(count), true) = (&choice.what, choice.prefix) {
        Split { prefix, graph, sizes, before } = prefix::split(graph, features, count, (runners, sizes))?;
        // What is left is the last blocks.
        choice.what = if prefix.is_some() { What::All } else { choice.what };
    }
    let found = choose::weights(&mut graph, features, &choice, &before)?;
    let names: Vec<&str> = found.iter().map(|weight| weight.name.as_str()).collect();
    let (output, loss): (&str, Box<dyn Loss>) = match choice.goal {
        Goal::Classes { smoothing } => {
            (logits, Box::new(CrossEntropy { logits: logits.to_owned(), smoothing }))
        }
        Goal::Labels { .. } => (logits, Box::new(BinaryCrossEntropy { logits: logits.to_owned() })),
        Goal::Pairs => (features, Box::new(Contrastive { features: features.to_owned() })),
    };
    let lowering: &dyn Lowering = if runners.has_kernels() { &Kernels } else { &Portable };
    let options = Options { outputs: vec![output.to_owned()], sizes, lowering };
    let training = differentiate(&graph, &*loss, &names, &Asking(runners), &options).map_err(refused)?;
    let forward = with_inputs(graph, &found, output);
    let count = found.len();
    let mut trained = Vec::with_capacity(count);
    let (mut roles, mut initial) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for weight in found {
        // A weight without a gradient has no part in the logits.
        let Some(gradient) = training.gradients.get(&weight.name) else { continue };
        roles.push(weight.role);
        initial.push(weight.initial);
        trained.push(Trained {
            name: weight.name,
            gradient: gradient.clone(),
            shape: weight.shape,
            values: weight.values,
        });
    }
    Ok(Tunable {
        prefix,
        graphs: Graphs { training: training.model.encode_to_vec(), forward: forward.encode_to_vec() },
        weights: trained,
        roles,
        initial,
        output: output.to_owned(),
        loss: training.loss,
        loss_inputs: training.loss_inputs,
        goal: choice.goal,
    })
}

/// The sizes that all pictures have which a graph reads, where its file leaves them open.
fn sizes(graph: &Graph, picture: Option<&ImageSpec>) -> Sizes {
    let mut sizes = Sizes::default();
    let Some(picture) = picture else { return sizes };
    let side = picture.size as usize;
    let shape = match picture.layout {
        Layout::Nchw => [CHANNELS, side, side],
        Layout::Nhwc => [side, side, CHANNELS],
    };
    let read = graph.inputs().iter().filter(|input| input.elements() == Some(element::FLOAT));
    for input in read {
        let Some([_, axes @ ..]) = input.dimensions().filter(|axes| axes.len() == shape.len() + 1) else {
            continue;
        };
        for (at, (axis, size)) in axes.iter().zip(shape).enumerate() {
            let named = axis.dim_param.clone().filter(|named| !named.is_empty());
            let unnamed = || format!("{}/{}", input.name.as_deref().unwrap_or_default(), at + 1);
            sizes.dimensions.insert(named.unwrap_or_else(unnamed), [size; RUNS]);
        }
    }
    sizes
}

/// A file as a graph of weights that are constants of their own, giving these values alone.
pub(super) fn open(file: &[u8], outputs: &[&str]) -> Result<Graph, MethodError> {
    let model = Model::decode(file).map_err(|error| MethodError::Graph(error.to_string()))?;
    let mut graph = Graph::new(model).map_err(refused)?;
    let known: Vec<ValueInfo> = graph.outputs().to_vec();
    let output = |name: &&str| {
        let stated = known.iter().find(|output| output.name.as_deref() == Some(*name)).cloned();
        stated.unwrap_or_else(|| ValueInfo { name: Some((*name).to_owned()), ..ValueInfo::default() })
    };
    graph.set_outputs(outputs.iter().map(output).collect());
    normalise(&mut graph).map_err(refused)?;
    Ok(graph)
}

/// What a value is another name of: an exporter gives an output by a node that changes nothing.
fn source(graph: &Graph, value: &str) -> String {
    let maker = graph.nodes().iter().find(|node| node.makes(0) == Some(value));
    let source = maker.filter(|node| node.is("Identity")).and_then(|node| node.reads(0));
    source.unwrap_or(value).to_owned()
}

/// The graph with weights as inputs, giving one output alone.
fn with_inputs(graph: Graph, weights: &[Found], output: &str) -> Model {
    let mut model = graph.into_model();
    if let Some(graph) = &mut model.graph {
        let names: HashSet<&str> = weights.iter().map(|weight| weight.name.as_str()).collect();
        let kept = |tensor: &Tensor| tensor.name.as_deref().is_none_or(|name| !names.contains(name));
        graph.initializer.retain(kept);
        graph.output.retain(|given| given.name.as_deref() == Some(output));
        graph.input.extend(weights.iter().map(|weight| {
            let shape = weight.shape.iter().map(|size| Dimension::of(*size)).collect();
            ValueInfo::tensor(&weight.name, element::FLOAT, shape)
        }));
    }
    model
}

/// Of a file that is no graph.
pub(super) fn refused_file(error: impl std::error::Error) -> MethodError {
    MethodError::Graph(error.to_string())
}

/// Of a graph that cannot be differentiated. What is in the way stands beside the methods that it does not bother.
pub(super) fn refused(error: GradError) -> MethodError {
    let GradError::Unsupported(nodes) = &error else { return MethodError::Graph(error.to_string()) };
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let free = METHODS.iter().filter(|method| method.needs() == Needs::Features);
    let free: Vec<String> = free.map(|method| format!("`{}`", method.name())).collect();
    MethodError::Graph(format!(
        "the graph cannot be trained through {}; methods that need no gradient: {}",
        nodes.join(", "),
        free.join(", ")
    ))
}
