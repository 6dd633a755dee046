//! One operator under check: its derivative against central differences, at several sizes.
//!
//! A [`Case`] states a node and what it reads. Shapes are written `"N,3,L"`: a letter is a size that depends on the batch.
//! [`Case::check`] differentiates the node by every float it reads but constants, in 64-bit floats and in 32, and compares
//! - the 64-bit gradient with central differences of the 64-bit node, element by element, to 1e-6;
//! - the 32-bit gradient with the 64-bit one, to 1e-5 in relative L2; also the one that the kernels of the service compute,
//!   where the machine has them and the lowering writes any;
//!
//! at sizes other than the probe's, at sizes of 1, and with an empty batch where a letter is `N`: [`Case::no_empty`] says that
//! the runtime does not run the node so. A case that states no operator set is checked in two: 21, and the newest that
//! is known. Where the runtime has no 64-bit kernels, [`Case::kernels`] must say so, and what is compared is said at
//! [`Kernels`].

use std::collections::BTreeMap;

use headstart_onnx::proto::{
    Attribute, Dimension, Graph as Nodes, Model, Node, OperatorSet, Tensor, ValueInfo, element,
};
use headstart_onnx_grad::losses::WeightedSum;
use headstart_onnx_grad::lower::{Lowering, Portable};
use headstart_onnx_grad::ops::{NEWEST_OPSET, OLDEST_OPSET};
use headstart_onnx_grad::{GradError, Graph, Options, TrainingGraph, differentiate, normalise};

use super::check;
use super::data::{Chance, Data};
use super::runtime::Runtime;

/// The operator set of cases that state none, beside the newest.
const USUAL_OPSET: i64 = 21;

/// In which precision the runtime can run a node and its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// Both in 64 bits.
    Double,
    /// The node alone: the 32-bit gradient is compared with 64-bit differences, to 1e-5.
    DoubleForward,
    /// Neither: the 32-bit gradient is compared with 32-bit differences along random directions, to 1e-2; but see
    /// [`Case::function`], [`Case::reference`] and [`Case::linear`].
    Single,
}

enum Kind {
    /// Floats with a gradient, each made of a random number from -1 to 1.
    Trained(fn(f64) -> f64),
    /// The same, of 64 bits whatever the type of the other floats.
    Double,
    /// The same as the first without a gradient, in the file.
    Constant(fn(f64) -> f64),
    /// Integers in the file.
    Integers(Vec<i64>),
    /// 32-bit floats in the file, whatever the type of the other floats.
    Floats(Vec<f32>),
    /// Integers that callers give, below a number.
    Indices(usize),
    /// Truth values that callers give.
    Truth,
    /// A truth value in the file.
    Flag(bool),
    /// A value that is read before.
    Again,
    LeftOut,
}

struct Input {
    name: String,
    shape: Vec<String>,
    kind: Kind,
}

/// One operator under check.
pub(crate) struct Case {
    pub(super) op: &'static str,
    domain: &'static str,
    /// In which operator sets it is checked.
    opsets: Vec<i64>,
    pub(super) opset: i64,
    attributes: Vec<Attribute>,
    inputs: Vec<Input>,
    outputs: usize,
    read: Vec<usize>,
    /// Nodes that go on from what the node made; the loss depends on what the last of them makes.
    behind: Vec<Node>,
    pub(super) kernels: Kernels,
    pub(super) function: Option<fn(f64) -> f64>,
    pub(super) reference: Option<(Vec<Node>, Vec<Tensor>)>,
    pub(super) linear: bool,
    pub(super) no_empty: bool,
    sizes: Vec<Vec<(&'static str, usize)>>,
}

impl Case {
    pub(crate) fn op(op: &'static str) -> Self {
        Self {
            op,
            domain: "",
            opsets: vec![USUAL_OPSET, NEWEST_OPSET],
            opset: USUAL_OPSET,
            attributes: Vec::new(),
            inputs: Vec::new(),
            outputs: 1,
            read: vec![0],
            behind: Vec::new(),
            kernels: Kernels::Double,
            function: None,
            reference: None,
            linear: false,
            no_empty: false,
            sizes: Vec::new(),
        }
    }

    /// The node's operator is another domain's.
    pub(crate) fn domain(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }

    /// The node is of this operator set, and checked in no other.
    pub(crate) fn opset(self, opset: i64) -> Self {
        Self { opset, opsets: vec![opset], ..self }
    }

    /// The runtime does not run the node with an empty batch, which is checked in the place of the gradient then.
    pub(crate) fn no_empty(self) -> Self {
        Self { no_empty: true, ..self }
    }

    /// Nodes that go on from `made0`; the loss depends on the first output of the last one.
    pub(crate) fn behind(self, nodes: Vec<Node>) -> Self {
        Self { behind: nodes, ..self }
    }

    pub(crate) fn kernels(self, kernels: Kernels) -> Self {
        Self { kernels, ..self }
    }

    /// Other nodes and constants that compute the same in 64 bits, for a node whose kernels compute in 32: the gradient
    /// is then compared with differences of those, to 1e-5.
    pub(crate) fn reference(self, nodes: Vec<Node>, constants: Vec<Tensor>) -> Self {
        Self { kernels: Kernels::Single, reference: Some((nodes, constants)), ..self }
    }

    /// The node, whose kernels are of 32 bits, is linear in each of its inputs (but for a constant): each element of the
    /// gradient is then a difference over any distance, and compared with that over 1, to 1e-5.
    pub(crate) fn linear(self) -> Self {
        Self { kernels: Kernels::Single, linear: true, ..self }
    }

    /// What the node computes of each element, for a node of one input whose kernels are of 32 bits: the gradient is then
    /// compared with differences of this, to 1e-5.
    pub(crate) fn function(self, function: fn(f64) -> f64) -> Self {
        Self { kernels: Kernels::Single, function: Some(function), ..self }
    }

    pub(crate) fn attribute(mut self, attribute: Attribute) -> Self {
        self.attributes.push(attribute);
        self
    }

    /// Floats with a gradient, from -1 to 1.
    pub(crate) fn input(self, name: &str, shape: &str) -> Self {
        self.input_of(name, shape, |random| random)
    }

    /// Floats with a gradient, each made of a random number from -1 to 1: keep away from kinks.
    pub(crate) fn input_of(self, name: &str, shape: &str, make: fn(f64) -> f64) -> Self {
        self.with(name, shape, Kind::Trained(make))
    }

    /// Floats of 64 bits with a gradient, from -1 to 1, whatever the type of the other floats.
    pub(crate) fn double(self, name: &str, shape: &str) -> Self {
        self.with(name, shape, Kind::Double)
    }

    /// Floats without a gradient, in the file.
    pub(crate) fn constant(self, name: &str, shape: &str, make: fn(f64) -> f64) -> Self {
        self.with(name, shape, Kind::Constant(make))
    }

    /// A list of integers in the file.
    pub(crate) fn integers(self, name: &str, values: &[i64]) -> Self {
        let shape = values.len().to_string();
        self.with(name, &shape, Kind::Integers(values.to_vec()))
    }

    /// A list of 32-bit floats in the file, whatever the type of the other floats.
    pub(crate) fn floats(self, name: &str, values: &[f32]) -> Self {
        let shape = values.len().to_string();
        self.with(name, &shape, Kind::Floats(values.to_vec()))
    }

    /// Integers in the file, of any shape.
    pub(crate) fn integers_of(self, name: &str, shape: &str, values: &[i64]) -> Self {
        self.with(name, shape, Kind::Integers(values.to_vec()))
    }

    /// Integers from 0 to below `most` that callers give.
    pub(crate) fn indices(self, name: &str, shape: &str, most: usize) -> Self {
        self.with(name, shape, Kind::Indices(most))
    }

    /// Truth values that callers give.
    pub(crate) fn truth(self, name: &str, shape: &str) -> Self {
        self.with(name, shape, Kind::Truth)
    }

    /// A truth value in the file.
    pub(crate) fn flag(self, name: &str, value: bool) -> Self {
        self.with(name, "", Kind::Flag(value))
    }

    /// A value that is read once more.
    pub(crate) fn again(self, name: &str) -> Self {
        self.with(name, "", Kind::Again)
    }

    /// An optional input that is left out.
    pub(crate) fn left_out(self) -> Self {
        self.with("", "", Kind::LeftOut)
    }

    /// The node makes so many outputs, and the loss depends on all of them.
    pub(crate) fn outputs(self, outputs: usize) -> Self {
        Self { outputs, read: (0..outputs).collect(), ..self }
    }

    /// The loss depends on these outputs alone.
    pub(crate) fn read(self, read: &[usize]) -> Self {
        Self { read: read.to_vec(), ..self }
    }

    /// Checks at these sizes of the letters instead of the usual ones.
    pub(crate) fn at(mut self, sizes: &[(&'static str, usize)]) -> Self {
        self.sizes.push(sizes.to_vec());
        self
    }

    fn with(mut self, name: &str, shape: &str, kind: Kind) -> Self {
        let shape =
            shape.split(',').map(str::trim).filter(|size| !size.is_empty()).map(str::to_owned).collect();
        self.inputs.push(Input { name: name.to_owned(), shape, kind });
        self
    }

    /// The node's outputs.
    fn made(&self) -> Vec<String> {
        (0..self.outputs).map(|at| format!("made{at}")).collect()
    }

    /// The graph of the node, in floats of a type.
    pub(crate) fn model(&self, elements: i32) -> Model {
        let mut nodes = Nodes { name: Some("case".to_owned()), ..Nodes::default() };
        for input in &self.inputs {
            let dimension =
                |size: &String| size.parse().map_or_else(|_| Dimension::named(size), Dimension::of);
            let shape: Vec<Dimension> = input.shape.iter().map(dimension).collect();
            let fixed: Vec<usize> = input.shape.iter().filter_map(|size| size.parse().ok()).collect();
            let value = |elements| ValueInfo::tensor(&input.name, elements, shape.clone());
            match &input.kind {
                Kind::Trained(_) => nodes.input.push(value(elements)),
                Kind::Double => nodes.input.push(value(element::DOUBLE)),
                Kind::Flag(flag) => nodes.initializer.push(truth(&input.name, *flag)),
                Kind::Indices(_) => nodes.input.push(value(element::INT64)),
                Kind::Truth => nodes.input.push(value(element::BOOL)),
                Kind::Integers(values) => {
                    nodes.initializer.push(Tensor::integers(&input.name, &fixed, values.iter().copied()));
                }
                Kind::Floats(values) => {
                    nodes.initializer.push(Tensor::floats(&input.name, &fixed, values.iter().copied()));
                }
                Kind::Constant(make) => {
                    let values = numbers(&input.name, &fixed, *make);
                    nodes.initializer.push(match elements {
                        element::DOUBLE => Tensor::doubles(&input.name, &fixed, values),
                        _ => {
                            Tensor::floats(&input.name, &fixed, values.into_iter().map(|value| value as f32))
                        }
                    });
                }
                Kind::Again | Kind::LeftOut => {}
            }
        }
        let reads: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
        let made = self.made();
        let makes: Vec<&str> = made.iter().map(String::as_str).collect();
        let node = Node::new(self.op, &reads, &makes, self.attributes.clone()).from_set(self.domain);
        nodes.node.push(node);
        nodes.node.extend_from_slice(&self.behind);
        nodes.output = self.values().iter().map(|name| untyped(name)).collect();
        let set =
            |domain: &str, version| OperatorSet { domain: Some(domain.to_owned()), version: Some(version) };
        let opset_import = vec![set("", self.opset), set("com.microsoft", 1)];
        Model { ir_version: Some(8), graph: Some(nodes), opset_import, ..Model::default() }
    }

    /// The values that the loss depends on.
    fn values(&self) -> Vec<String> {
        match self.behind.last() {
            Some(last) => vec![last.output[0].clone()],
            None => {
                let made = self.made();
                self.read.iter().map(|&at| made[at].clone()).collect()
            }
        }
    }

    pub(super) fn trained(&self) -> Vec<&str> {
        let trained = |input: &&Input| matches!(input.kind, Kind::Trained(_) | Kind::Double);
        self.inputs.iter().filter(trained).map(|input| input.name.as_str()).collect()
    }

    /// The training graph, in floats of a type.
    pub(crate) fn differentiate(&self, elements: i32) -> Result<TrainingGraph, GradError> {
        self.lowered(elements, &Portable)
    }

    /// The training graph, in floats of a type, as a lowering writes it.
    pub(crate) fn lowered(
        &self,
        elements: i32,
        lowering: &'static dyn Lowering,
    ) -> Result<TrainingGraph, GradError> {
        let mut graph = Graph::new(self.model(elements))?;
        if self.opset < OLDEST_OPSET {
            normalise(&mut graph)?;
        }
        let values = self.values();
        let options = Options { outputs: values.clone(), lowering, ..Options::default() };
        differentiate(&graph, &WeightedSum { values }, &self.trained(), &Runtime, &options)
    }

    /// Checks the node's derivative, see this file's head.
    #[track_caller]
    pub(crate) fn check(mut self) {
        for opset in std::mem::take(&mut self.opsets) {
            self.opset = opset;
            check::check(&self);
        }
    }

    /// Sizes other than the probe's, 1 for all letters, and 0 for `N`.
    pub(super) fn settings(&self) -> Vec<BTreeMap<String, usize>> {
        if !self.sizes.is_empty() {
            let owned = |&(letter, size): &(&str, usize)| (letter.to_owned(), size);
            return self.sizes.iter().map(|sizes| sizes.iter().map(owned).collect()).collect();
        }
        let mut letters: Vec<&String> = self.inputs.iter().flat_map(|input| &input.shape).collect();
        letters.retain(|size| size.parse::<usize>().is_err());
        letters.sort();
        letters.dedup();
        if letters.is_empty() {
            return vec![BTreeMap::new()];
        }
        let all = |size: fn(usize) -> usize| {
            letters
                .iter()
                .enumerate()
                .map(|(at, &letter)| (letter.clone(), size(at)))
                .collect::<BTreeMap<_, _>>()
        };
        let mut settings = vec![all(|at| at + 2), all(|_| 1)];
        if letters.iter().any(|letter| *letter == "N") {
            let mut empty = all(|at| at + 2);
            empty.insert("N".to_owned(), 0);
            settings.push(empty);
        }
        settings
    }

    /// What callers give at some sizes.
    pub(super) fn given(&self, sizes: &BTreeMap<String, usize>, elements: i32) -> Vec<(String, Data)> {
        let mut given = Vec::new();
        for input in &self.inputs {
            let shape: Vec<usize> =
                input.shape.iter().map(|size| size.parse().unwrap_or_else(|_| sizes[size])).collect();
            let count = shape.iter().product();
            let mut chance = Chance::of(&input.name);
            let data = match &input.kind {
                Kind::Trained(make) => Data::floats(&shape, &numbers(&input.name, &shape, *make), elements),
                Kind::Double => {
                    Data::floats(&shape, &numbers(&input.name, &shape, |random| random), element::DOUBLE)
                }
                Kind::Indices(most) => {
                    let values: Vec<i64> = (0..count).map(|_| chance.below(*most)).collect();
                    Data::integers(&shape, &values)
                }
                Kind::Truth => {
                    let values = (0..count).map(|_| chance.below(2) == 1).collect();
                    Data { shape, values: super::data::Values::Bool(values) }
                }
                Kind::Integers(_)
                | Kind::Floats(_)
                | Kind::Constant(_)
                | Kind::Flag(_)
                | Kind::Again
                | Kind::LeftOut => continue,
            };
            given.push((input.name.clone(), data));
        }
        given
    }
}

fn untyped(name: &str) -> ValueInfo {
    ValueInfo { name: Some(name.to_owned()), ..ValueInfo::default() }
}

/// A truth value in a file.
fn truth(name: &str, value: bool) -> Tensor {
    Tensor {
        name: Some(name.to_owned()),
        data_type: Some(element::BOOL),
        raw_data: Some(vec![u8::from(value)].into()),
        ..Tensor::default()
    }
}

fn numbers(name: &str, shape: &[usize], make: fn(f64) -> f64) -> Vec<f64> {
    let mut chance = Chance::of(name);
    (0..shape.iter().product()).map(|_| make(chance.number())).collect()
}
