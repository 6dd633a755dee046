//! The walk: forward nodes in their order, the loss, and back over the nodes between it and what is trained.

use std::collections::{BTreeMap, HashMap, HashSet};

use headstart_onnx::OnnxError;
use headstart_onnx::proto::{Dimension, Model, Node, ValueInfo};

use crate::canonical::canonicalise;
use crate::emit::{EMITTED, Emit};
use crate::error::{GradError, Unsupported};
use crate::graph::Graph;
use crate::losses::Loss;
use crate::lower::{KERNELS, Lowering, Portable};
use crate::ops::{NEWEST_OPSET, OLDEST_OPSET, OPS, OWN_SET, Op};
use crate::probe::{Fact, Facts, Probe, Sizes};
use crate::site::Site;

/// Operator sets that emitted nodes are taken from, beside ONNX's own.
const CONTRIBUTED: (&str, i64) = ("com.microsoft", 1);

/// How a graph is differentiated.
pub struct Options {
    /// What the graph's inputs are given when it is probed.
    pub sizes: Sizes,
    /// In which nodes forward and backward are written.
    pub lowering: &'static dyn Lowering,
    /// Values of the forward graph that are outputs too, such as logits.
    pub outputs: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { sizes: Sizes::default(), lowering: &Portable, outputs: Vec::new() }
    }
}

/// A graph that computes loss and gradients, with the names of what goes in and comes out.
#[derive(Debug, Clone)]
pub struct TrainingGraph {
    /// The graph. What is trained is an input of it, under its own name.
    pub model: Model,
    /// The loss, a number without axes.
    pub loss: String,
    /// Inputs that the loss reads, in the order its docs name them.
    pub loss_inputs: Vec<String>,
    /// The gradients' names by those of what is trained, `grad/…` where that is free. What the loss does not depend on
    /// has none.
    pub gradients: BTreeMap<String, String>,
}

/// Makes a graph that computes a loss of `graph`'s values and its gradients by `trainable`: constants of floats, which
/// become inputs, or inputs of floats.
///
/// # Errors
/// [`GradError::Onnx`] for a graph of an operator set below 18 ([`normalise`](crate::normalise()) brings it there);
/// [`GradError::Unsupported`] with every node that gradients would have to pass and cannot; [`GradError::Missing`],
/// [`GradError::NotFloat`], [`GradError::Nothing`], [`GradError::Loss`], [`GradError::Probe`].
pub fn differentiate(
    graph: &Graph,
    loss: &dyn Loss,
    trainable: &[&str],
    probe: &dyn Probe,
    options: &Options,
) -> Result<TrainingGraph, GradError> {
    if graph.opset() < OLDEST_OPSET {
        return Err(OnnxError::Opset { found: graph.opset(), least: OLDEST_OPSET }.into());
    }
    let facts = Facts::learn(graph, probe, &options.sizes)?;
    for &name in trainable {
        let input = graph.inputs().iter().any(|input| input.name.as_deref() == Some(name));
        if !input && graph.constant(name).is_none() {
            return Err(GradError::Missing { what: "constant or input", name: name.to_owned() });
        }
        if !facts.of(name)?.is_float() {
            return Err(GradError::NotFloat(name.to_owned()));
        }
    }
    let read = loss.reads();
    for &name in read.iter().chain(&options.outputs.iter().map(String::as_str).collect::<Vec<_>>()) {
        if facts.of(name).is_err() {
            return Err(GradError::Missing { what: "value", name: name.to_owned() });
        }
    }
    let mut graph = graph.clone();
    let kept = read.iter().copied().chain(options.outputs.iter().map(String::as_str)).collect();
    canonicalise(&mut graph, &facts, &kept, trainable);
    let graph = &graph;
    let wanted = wanted(graph, &facts, trainable, &read);
    let rules = rules(graph, &facts, &wanted, options.lowering)?;
    let mut emit = Emit::new(graph, &facts, wanted, options.lowering);
    let mut kept: HashMap<usize, Vec<String>> = HashMap::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        match rules.get(&at) {
            Some(op) => {
                let site = Site::new(node, graph, &facts);
                kept.insert(at, op.forward(&site, &mut emit)?);
            }
            None => emit.push(node.clone()),
        }
    }
    let emitted = loss.emit(&mut emit)?;
    for (value, gradient) in &emitted.gradients {
        emit.give(value, gradient.clone());
    }
    for (at, node) in graph.nodes().iter().enumerate().rev() {
        let Some(op) = rules.get(&at) else { continue };
        let gradients: Vec<Option<String>> = node.output.iter().map(|name| emit.gradient(name)).collect();
        if gradients.iter().any(Option::is_some) {
            let mut site = Site::new(node, graph, &facts);
            site.kept = kept.remove(&at).unwrap_or_default();
            op.backward_all(&site, &gradients, &mut emit)?;
        }
    }
    let reached: Vec<(&str, String)> =
        trainable.iter().filter_map(|&name| Some((name, emit.gradient(name)?))).collect();
    if reached.is_empty() {
        return Err(GradError::Nothing);
    }
    let (value, _) = emitted.gradients.first().ok_or(GradError::Nothing)?;
    let loss = (emitted.loss, facts.of(value)?.elements);
    finish(emit.finish(), &facts, loss, emitted.inputs, reached, options)
}

/// The values of floats between what is trained and what the loss reads.
fn wanted(graph: &Graph, facts: &Facts, trainable: &[&str], read: &[&str]) -> HashSet<String> {
    let mut depend: HashSet<&str> = trainable.iter().copied().collect();
    for node in graph.nodes() {
        if !cuts(node) && node.reads_all().iter().any(|name| depend.contains(name)) {
            // What is not known to be of integers may carry a gradient; whether it can is asked later.
            let exact =
                |name: &str| facts.of(name).is_ok_and(|fact| !fact.is_float() && !fact.is_short_float());
            depend.extend(
                node.output.iter().map(String::as_str).filter(|name| !name.is_empty() && !exact(name)),
            );
        }
    }
    let mut reach: HashSet<&str> = read.iter().copied().collect();
    for node in graph.nodes().iter().rev() {
        if node.output.iter().any(|name| reach.contains(name.as_str()) && depend.contains(name.as_str())) {
            reach.extend(node.reads_all());
        }
    }
    depend.intersection(&reach).map(|name| (*name).to_owned()).collect()
}

/// Whether nothing that a node makes depends on its inputs' elements.
fn cuts(node: &Node) -> bool {
    node.is("Shape") || node.is("Size")
}

/// How each node is written that gradients pass, by the nodes' places.
fn rules(
    graph: &Graph,
    facts: &Facts,
    wanted: &HashSet<String>,
    lowering: &dyn Lowering,
) -> Result<HashMap<usize, &'static dyn Op>, GradError> {
    let (mut rules, mut missing): (HashMap<usize, &'static dyn Op>, Vec<Unsupported>) = Default::default();
    for (at, node) in graph.nodes().iter().enumerate() {
        let site = Site::new(node, graph, facts);
        let of_table = || OPS.iter().copied().find(|op| op.name() == node.op() && op.set() == node.set());
        let passes = node.output.iter().any(|name| wanted.contains(name));
        if !passes || cuts(node) || !node.reads_all().iter().any(|name| wanted.contains(*name)) {
            if let Some(op) = of_table().filter(|_| node.set() == OWN_SET) {
                rules.insert(at, op);
            }
            continue;
        }
        let on_way = node.input.iter().chain(&node.output).filter(|name| wanted.contains(*name));
        let known: Vec<_> = on_way.map(|name| facts.of(name).is_ok_and(Fact::is_float)).collect();
        if known.contains(&false) {
            missing.push(site.unsupported("it computes something else than floats of 32 or 64 bits"));
            continue;
        }
        let reason = match lowering.op(&site).or_else(of_table) {
            Some(_) if node.set().is_empty() && site.opset() > NEWEST_OPSET => {
                "its operator set is newer than those that are known"
            }
            Some(op) => {
                rules.insert(at, op);
                continue;
            }
            None => "it has no derivative here",
        };
        let found = site.unsupported(reason);
        if missing.iter().all(|known: &Unsupported| known.op != found.op) {
            missing.push(found);
        }
    }
    if missing.is_empty() { Ok(rules) } else { Err(GradError::Unsupported(missing)) }
}

/// Names outputs, makes inputs of what is trained, and removes what nothing needs.
fn finish(
    mut target: Graph,
    facts: &Facts,
    (loss, elements): (String, i32),
    loss_inputs: Vec<String>,
    reached: Vec<(&str, String)>,
    options: &Options,
) -> Result<TrainingGraph, GradError> {
    let mut outputs = Vec::new();
    let mut renamed: HashMap<String, String> = HashMap::new();
    let made: HashSet<String> = target.nodes.iter().flat_map(|node| node.output.iter().cloned()).collect();
    for name in &options.outputs {
        outputs.push(value_info(name, facts.of(name)?));
    }
    let taken: HashSet<&String> = options.outputs.iter().collect();
    let mut name_output = |wanted: &str, value: String, target: &mut Graph| {
        let name = target.fresh(wanted);
        // Only what was emitted may be renamed: inner graphs may read other values.
        let own = value.starts_with(EMITTED) && made.contains(&value);
        if own && !taken.contains(&value) && !renamed.contains_key(&value) {
            renamed.insert(value, name.clone());
        } else {
            // Two names for one value, or one that is an input: it has to be copied.
            target.nodes.push(Node::new("Identity", &[&value], &[&name], Vec::new()));
        }
        name
    };
    let loss = name_output("loss", loss, &mut target);
    let mut gradients = BTreeMap::new();
    for (weight, gradient) in reached {
        let name = name_output(&format!("grad/{weight}"), gradient, &mut target);
        gradients.insert(weight.to_owned(), name);
    }
    for node in &mut target.nodes {
        for name in node.input.iter_mut().chain(&mut node.output) {
            if let Some(new) = renamed.get(name) {
                new.clone_into(name);
            }
        }
    }
    for (weight, name) in &gradients {
        let fact = facts.of(weight)?;
        outputs.push(value_info(name, fact));
        if target.constants.remove(weight).is_some() {
            target.inputs.push(value_info(weight, fact));
        }
    }
    outputs.insert(0, ValueInfo::tensor(&loss, elements, Vec::new()));
    target.set_outputs(outputs);
    target.prune();
    options.lowering.fuse(&mut target);
    target.import(CONTRIBUTED.0, CONTRIBUTED.1);
    if target.nodes.iter().any(|node| node.set() == KERNELS) {
        target.import(KERNELS, 1);
    }
    target.raise_format(8);
    Ok(TrainingGraph { model: target.into_model(), loss, loss_inputs, gradients })
}

fn value_info(name: &str, fact: &Fact) -> ValueInfo {
    let dimension = |axis| fact.size(axis).map_or_else(Dimension::default, Dimension::of);
    ValueInfo::tensor(name, fact.elements, (0..fact.rank()).map(dimension).collect())
}
