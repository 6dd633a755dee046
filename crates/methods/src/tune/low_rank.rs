//! Factors of low rank beside a backbone's matrices (Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR
//! 2022): `y = x·W + s·(x·A)·B`, of which `A` and `B` alone are trained. `B` starts at zero, and with it what is added.

use headstart_onnx::proto::{Model, Node, Tensor, element};
use headstart_onnx_grad::Graph;

use super::choose::{Found, Role, behind};
use super::graph::refused;
use super::initial::Initial;
use crate::error::MethodError;
use crate::rng::Rng;

/// How factors are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowRank {
    /// Columns of the first factor, rows of the second.
    pub rank: usize,
    /// The product is multiplied with `alpha / rank`.
    pub alpha: f32,
    /// What the first factors are drawn from.
    pub seed: u64,
}

/// A matrix that gets factors.
struct Target {
    /// The node whose value the product is added to.
    node: usize,
    input: String,
    weight: String,
    inputs: usize,
    outputs: usize,
    transposed: bool,
}

/// Adds factors to every matrix of the backbone that is multiplied with; what is to be trained of them.
pub(super) fn add(graph: &mut Graph, features: &str, given: LowRank) -> Result<Vec<Found>, MethodError> {
    let targets = targets(graph, features);
    let mut chance = Rng::stream(given.seed, 0x10ad);
    let scale = given.alpha / given.rank.max(1) as f32;
    let mut found = Vec::with_capacity(2 * targets.len());
    let mut model = std::mem::replace(graph, Graph::new(Model::default()).map_err(refused)?).into_model();
    let Some(inner) = &mut model.graph else { return Ok(found) };
    let nodes = std::mem::take(&mut inner.node);
    let scale_name = "low_rank/scale";
    inner.initializer.push(Tensor::floats(scale_name, &[], [scale]));
    let mut targets = targets.into_iter().peekable();
    for (at, mut node) in nodes.into_iter().enumerate() {
        let Some(target) = targets.next_if(|target| target.node == at) else {
            inner.node.push(node);
            continue;
        };
        let name = |what: &str| format!("low_rank/{}/{what}", target.weight);
        let output = node.output.first().cloned().unwrap_or_default();
        if let Some(first) = node.output.first_mut() {
            *first = name("base");
        }
        inner.node.push(node);
        let (down, up) = (name("down"), name("up"));
        inner.node.extend([
            Node::new("MatMul", &[&target.input, &down], &[&name("narrow")], Vec::new()),
            Node::new("Mul", &[&name("narrow"), scale_name], &[&name("scaled")], Vec::new()),
            Node::new("MatMul", &[&name("scaled"), &up], &[&name("wide")], Vec::new()),
            Node::new("Add", &[&name("base"), &name("wide")], &[&output], Vec::new()),
        ]);
        let role = Role::Down { of: target.weight.clone(), scale, transposed: target.transposed };
        let initial = Initial::Uniform(1.0 / (target.inputs.max(1) as f32).sqrt());
        let mut values = vec![0.0; target.inputs * given.rank];
        initial.fill(&mut values, &mut chance);
        let zeros = vec![0.0; given.rank * target.outputs];
        for (name, shape, values, role, initial) in [
            (down, vec![target.inputs, given.rank], values, role, initial),
            (up, vec![given.rank, target.outputs], zeros, Role::Up, Initial::Constant(0.0)),
        ] {
            inner.initializer.push(Tensor::floats(&name, &shape, values.iter().copied()));
            found.push(Found { name, shape, values, role, initial });
        }
    }
    *graph = Graph::new(model).map_err(refused)?;
    Ok(found)
}

/// The matrices, in the order of the nodes that what is added goes to.
fn targets(graph: &Graph, features: &str) -> Vec<Target> {
    let head = behind(graph, features);
    let mut targets = Vec::new();
    for (at, node) in graph.nodes().iter().enumerate().filter(|(at, _)| !head.contains(at)) {
        let (Some(input), Some(weight)) = (node.reads(0), node.reads(1)) else { continue };
        let Some(tensor) = graph.constant(weight).filter(|_| graph.constant(input).is_none()) else {
            continue;
        };
        let transposed = node.is("Gemm") && node.int("transB") == Some(1);
        let turned = node.is("Gemm") && node.int("transA") == Some(1);
        let linear = (node.is("MatMul") || node.is("Gemm")) && !turned;
        let [rows, columns] = tensor.dims.as_slice() else { continue };
        if !linear || tensor.elements() != element::FLOAT {
            continue;
        }
        let size = |size: &i64| usize::try_from(*size).unwrap_or_default();
        let (inputs, outputs) = if transposed { (columns, rows) } else { (rows, columns) };
        targets.push(Target {
            node: with_bias(graph, at),
            input: input.to_owned(),
            weight: weight.to_owned(),
            inputs: size(inputs),
            outputs: size(outputs),
            transposed,
        });
    }
    targets.sort_by_key(|target| target.node);
    targets
}

/// The node that adds the bias to a product, where one does: the two together have one derivative.
fn with_bias(graph: &Graph, product: usize) -> usize {
    let Some(value) = graph.nodes().get(product).and_then(|node| node.makes(0)) else { return product };
    let mut readers = graph.nodes().iter().enumerate().filter(|(_, node)| node.reads_all().contains(&value));
    let (Some((at, reader)), None) = (readers.next(), readers.next()) else { return product };
    let vector = |name: &&str| graph.constant(name).is_some_and(|tensor| tensor.dims.len() == 1);
    let biased = reader.is("Add") && reader.reads_all().iter().any(vector);
    let given = graph.outputs().iter().any(|output| output.name.as_deref() == Some(value));
    if biased && !given { at } else { product }
}
