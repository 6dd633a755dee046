//! Factors of low rank beside a backbone's matrices (Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR
//! 2022): `y = x·W + s·(x·A)·B`, of which `A` and `B` alone are trained. `B` starts at zero, and with it what is added.

use std::collections::{BTreeMap, HashMap};

use headstart_onnx::proto::{Model, Node, Tensor, element};
use headstart_onnx_grad::Graph;
use ndarray::Array2;

use super::choose::{Found, Role, behind};
use super::graph::refused;
use super::initial::Initial;
use crate::error::MethodError;
use crate::method::hyperparameter;
use crate::rng::Rng;

/// Matrices that a refusal names.
const NAMED: usize = 6;

/// How factors are made.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// Columns of the first factor, rows of the second.
    pub rank: usize,
    /// The product is multiplied with `alpha / rank`.
    pub alpha: f32,
    /// Which matrices get some: those whose name, or whose product's, has one of these in it, where `*` stands for anything.
    /// All of them where there is none.
    pub targets: Vec<String>,
    /// What the first factors are drawn from.
    pub seed: u64,
}

/// A matrix that gets factors.
struct Target {
    /// The node whose value the product is added to.
    node: usize,
    input: String,
    weight: String,
    /// What the node that multiplies is called: exporters number matrices that they turned, and leave nodes their names.
    product: String,
    inputs: usize,
    outputs: usize,
    transposed: bool,
    /// Whether it is no product times a number: of one, what stands beside the matrix is not what is added to it.
    plain: bool,
    /// Whether the node itself multiplies, and so takes what is added to its product.
    takes_sum: bool,
}

impl Target {
    fn name(&self, what: &str) -> String {
        format!("low_rank/{}/{what}", self.weight)
    }

    fn is_meant_by(&self, pattern: &str) -> bool {
        has(&self.weight, pattern) || has(&self.product, pattern)
    }
}

/// Whether the parts of a pattern, which `*` divides, stand in a name, one behind the other.
fn has(name: &str, pattern: &str) -> bool {
    let mut rest = Some(name);
    pattern.split('*').all(|part| {
        rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, behind)| behind);
        rest.is_some()
    })
}

/// The matrices that patterns mean, all of them where there is no pattern.
fn meant(mut targets: Vec<Target>, patterns: &[String]) -> Result<Vec<Target>, MethodError> {
    let means = |pattern: &String| targets.iter().any(|target| target.is_meant_by(pattern));
    if let Some(at) = patterns.iter().position(|pattern| !means(pattern)) {
        let named = |target: &Target| match target.product.as_str() {
            "" => format!("`{}`", target.weight),
            product => format!("`{}` (node `{product}`)", target.weight),
        };
        let some = targets.iter().take(NAMED).map(named).collect::<Vec<_>>().join(", ");
        let problem = format!("names none of the backbone's {} matrices; some are {some}", targets.len());
        return Err(hyperparameter(&format!("targets[{at}]"), problem));
    }
    if !patterns.is_empty() {
        targets.retain(|target| patterns.iter().any(|pattern| target.is_meant_by(pattern)));
    }
    Ok(targets)
}

/// Nodes with the tensors that they read.
type Added = (Vec<Node>, Vec<Tensor>);

/// Adds factors to the matrices of the backbone that are meant, of those that are multiplied with; what is to be trained of
/// them.
pub(super) fn add(graph: &mut Graph, features: &str, given: &LowRank) -> Result<Vec<Found>, MethodError> {
    let mut chance = Rng::stream(given.seed, 0x10ad);
    let scale = given.alpha / given.rank.max(1) as f32;
    let mut found = Vec::new();
    let mut targets = targets(graph, features);
    targets.retain(|target| target.plain);
    let targets = if targets.is_empty() { targets } else { meant(targets, &given.targets)? };
    splice(graph, targets, |target, (base, output)| {
        let name = |what: &str| target.name(what);
        let (down, up) = (name("down"), name("up"));
        let nodes = vec![
            Node::new("MatMul", &[&target.input, &down], &[&name("narrow")], Vec::new()),
            Node::new("Mul", &[&name("narrow"), &name("scale")], &[&name("scaled")], Vec::new()),
            Node::new("MatMul", &[&name("scaled"), &up], &[&name("wide")], Vec::new()),
            Node::new("Add", &[base, &name("wide")], &[output], Vec::new()),
        ];
        let role = Role::Down { of: target.weight.clone(), scale, transposed: target.transposed };
        let initial = Initial::Uniform(1.0 / (target.inputs.max(1) as f32).sqrt());
        let mut values = vec![0.0; target.inputs * given.rank];
        initial.fill(&mut values, &mut chance);
        let zeros = vec![0.0; given.rank * target.outputs];
        let mut tensors = vec![Tensor::floats(&name("scale"), &[], [scale])];
        for (name, shape, values, role, initial) in [
            (down, vec![target.inputs, given.rank], values, role, initial),
            (up, vec![given.rank, target.outputs], zeros, Role::Up, Initial::Constant(0.0)),
        ] {
            tensors.push(Tensor::floats(&name, &shape, values.iter().copied()));
            found.push(Found { name, shape, values, role, initial });
        }
        Ok((nodes, tensors))
    })?;
    Ok(found)
}

/// Adds factors that were trained to the matrices of those names: `[inputs, rank]`, and `[rank, outputs]` with the scale in it.
///
/// # Errors
/// [`MethodError::Graph`] for factors of a matrix that is not there, or is of another size.
pub(super) fn attach(
    graph: &mut Graph,
    features: &str,
    mut factors: BTreeMap<String, (Array2<f32>, Array2<f32>)>,
) -> Result<(), MethodError> {
    let mut targets = targets(graph, features);
    targets.retain(|target| factors.contains_key(&target.weight));
    splice(graph, targets, |target, (base, output)| {
        let fitting = factors.remove(&target.weight);
        let Some((down, up)) =
            fitting.filter(|(down, up)| (down.nrows(), up.ncols()) == (target.inputs, target.outputs))
        else {
            return Err(missing(&target.weight));
        };
        let name = |what: &str| target.name(what);
        let (narrow, wide) = (name("narrow"), name("wide"));
        let mut nodes = vec![Node::new("MatMul", &[&target.input, &name("down")], &[&narrow], Vec::new())];
        if target.takes_sum {
            nodes.push(Node::new("Gemm", &[&narrow, &name("up"), base], &[output], Vec::new()));
        } else {
            nodes.extend([
                Node::new("MatMul", &[&narrow, &name("up")], &[&wide], Vec::new()),
                Node::new("Add", &[base, &wide], &[output], Vec::new()),
            ]);
        }
        let tensor = |what, factor: &Array2<f32>| {
            Tensor::floats(&name(what), &[factor.nrows(), factor.ncols()], factor.iter().copied())
        };
        Ok((nodes, vec![tensor("down", &down), tensor("up", &up)]))
    })?;
    factors.into_keys().next().map_or(Ok(()), |name| Err(missing(&name)))
}

/// Puts what `beside` makes of each target behind its node. `beside` is given the name of the node's value, and the one under
/// which others read the sum.
fn splice(
    graph: &mut Graph,
    targets: Vec<Target>,
    mut beside: impl FnMut(&Target, (&str, &str)) -> Result<Added, MethodError>,
) -> Result<(), MethodError> {
    // Without the nodes, it knows what the file imports.
    let empty = graph.again(Model::default()).map_err(refused)?;
    let mut model = std::mem::replace(graph, empty).into_model();
    let inner = model.graph.get_or_insert_default();
    let nodes = std::mem::take(&mut inner.node);
    let mut targets = targets.into_iter().peekable();
    for (at, mut node) in nodes.into_iter().enumerate() {
        let Some(target) = targets.next_if(|target| target.node == at) else {
            inner.node.push(node);
            continue;
        };
        let base = target.name("base");
        let output = node.output.first_mut().map(|output| std::mem::replace(output, base.clone()));
        inner.node.push(node);
        let (nodes, tensors) = beside(&target, (&base, &output.unwrap_or_default()))?;
        inner.node.extend(nodes);
        inner.initializer.extend(tensors);
    }
    *graph = graph.again(model).map_err(refused)?;
    Ok(())
}

fn missing(weight: &str) -> MethodError {
    MethodError::Graph(format!("the graph has no weight `{weight}` that was tuned"))
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
        let plain = node.float("alpha").is_none_or(|alpha| alpha == 1.0);
        let [rows, columns] = tensor.dims.as_slice() else { continue };
        if !linear || tensor.elements() != element::FLOAT {
            continue;
        }
        let size = |size: &i64| usize::try_from(*size).unwrap_or_default();
        let product = node.name.clone().unwrap_or_default();
        let (inputs, outputs) = if transposed { (columns, rows) } else { (rows, columns) };
        let node = with_bias(graph, at);
        targets.push(Target {
            node,
            input: input.to_owned(),
            weight: weight.to_owned(),
            product,
            inputs: size(inputs),
            outputs: size(outputs),
            transposed,
            plain,
            takes_sum: graph.nodes().get(node).is_some_and(|node| node.is("Gemm")),
        });
    }
    targets.sort_by_key(|target| target.node);
    // One that several products read would get other factors in each.
    let mut reads: HashMap<String, usize> = HashMap::new();
    targets.iter().for_each(|target| *reads.entry(target.weight.clone()).or_default() += 1);
    targets.retain(|target| reads.get(&target.weight) == Some(&1));
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
