//! One operator under check: its derivative against central differences, at several sizes.
//!
//! A [`Case`] states a node and what it reads. Shapes are written `"N,3,L"`: a letter is a size that depends on the batch.
//! [`Case::check`] differentiates the node by every float it reads but constants, in 64-bit floats and in 32, and compares
//! - the 64-bit gradient with central differences of the 64-bit node, element by element, to 1e-6;
//! - the 32-bit gradient with the 64-bit one, to 1e-5 in relative L2;
//!
//! at sizes other than the probe's, at sizes of 1, and with an empty batch where a letter is `N` and the runtime runs the node so. Where the runtime has no
//! 64-bit kernels, [`Case::kernels`] must say so, and what is compared is said at [`Kernels`].

use std::collections::BTreeMap;

use headstart_onnx::proto::{
    Attribute, Dimension, Graph as Nodes, Model, Node, OperatorSet, Tensor, ValueInfo, element,
};
use headstart_onnx_grad::losses::WeightedSum;
use headstart_onnx_grad::ops::OLDEST_OPSET;
use headstart_onnx_grad::{GradError, Graph, Options, TrainingGraph, differentiate, normalise};

use super::data::{Chance, Data};
use super::runtime::{Loaded, Runtime};

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
    /// The same without a gradient, in the file.
    Constant(fn(f64) -> f64),
    /// Integers in the file.
    Integers(Vec<i64>),
    /// 32-bit floats in the file, whatever the type of the other floats.
    Floats(Vec<f32>),
    /// Integers that callers give, below a number.
    Indices(usize),
    /// Truth values that callers give.
    Truth,
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
    op: &'static str,
    domain: &'static str,
    opset: i64,
    attributes: Vec<Attribute>,
    inputs: Vec<Input>,
    outputs: usize,
    read: Vec<usize>,
    kernels: Kernels,
    function: Option<fn(f64) -> f64>,
    reference: Option<(Vec<Node>, Vec<Tensor>)>,
    linear: bool,
    sizes: Vec<Vec<(&'static str, usize)>>,
}

impl Case {
    pub(crate) fn op(op: &'static str) -> Self {
        Self {
            op,
            domain: "",
            opset: 21,
            attributes: Vec::new(),
            inputs: Vec::new(),
            outputs: 1,
            read: vec![0],
            kernels: Kernels::Double,
            function: None,
            reference: None,
            linear: false,
            sizes: Vec::new(),
        }
    }

    /// The node's operator is another domain's.
    pub(crate) fn domain(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }

    pub(crate) fn opset(self, opset: i64) -> Self {
        Self { opset, ..self }
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
        nodes.output = self.read.iter().map(|&at| untyped(&made[at])).collect();
        let set =
            |domain: &str, version| OperatorSet { domain: Some(domain.to_owned()), version: Some(version) };
        let opset_import = vec![set("", self.opset), set("com.microsoft", 1)];
        Model { ir_version: Some(8), graph: Some(nodes), opset_import, ..Model::default() }
    }

    fn trained(&self) -> Vec<&str> {
        let trained = |input: &&Input| matches!(input.kind, Kind::Trained(_));
        self.inputs.iter().filter(trained).map(|input| input.name.as_str()).collect()
    }

    /// The training graph, in floats of a type.
    pub(crate) fn differentiate(&self, elements: i32) -> Result<TrainingGraph, GradError> {
        let mut graph = Graph::new(self.model(elements))?;
        if self.opset < OLDEST_OPSET {
            normalise(&mut graph)?;
        }
        let made = self.made();
        let values: Vec<String> = self.read.iter().map(|&at| made[at].clone()).collect();
        let options = Options { outputs: values.clone(), ..Options::default() };
        differentiate(&graph, &WeightedSum { values }, &self.trained(), &Runtime, &options)
    }

    /// Checks the node's derivative, see this file's head.
    #[track_caller]
    pub(crate) fn check(self) {
        let single = self.differentiate(element::FLOAT).unwrap();
        let single = Trained::new(single).unwrap();
        let forward = Loaded::new(&self.model(element::DOUBLE)).ok().map(Forward::Graph);
        let double = forward.is_some().then(|| self.differentiate(element::DOUBLE)).and_then(Result::ok);
        let double = double.and_then(|graph| Trained::new(graph).ok());
        let found = match (&forward, &double) {
            (Some(_), Some(_)) => Kernels::Double,
            (Some(_), None) => Kernels::DoubleForward,
            (None, _) => Kernels::Single,
        };
        if self.reference.is_none() {
            assert_eq!(self.kernels, found, "the kernels that the runtime has for {}", self.op);
        }
        let forward = match (&self.reference, forward, self.function) {
            (Some((nodes, constants)), ..) => {
                let mut model = self.model(element::DOUBLE);
                let graph = model.graph.as_mut().unwrap();
                graph.node.clone_from(nodes);
                graph.initializer.extend_from_slice(constants);
                Forward::Graph(Loaded::new(&model).unwrap())
            }
            (None, Some(forward), _) => forward,
            (None, None, Some(function)) => Forward::Function(function),
            (None, None, None) => Forward::Graph(Loaded::new(&self.model(element::FLOAT)).unwrap()),
        };
        let double = double.filter(|_| self.reference.is_none());
        let mut check = Check { case: &self, single, forward, double };
        for sizes in self.settings() {
            // Of an empty batch the runtime may not run the node itself.
            if sizes.get("N") != Some(&0) || check.runs(&sizes) {
                check.at(&sizes);
            }
        }
    }

    /// Sizes other than the probe's, 1 for all letters, and 0 for `N`.
    fn settings(&self) -> Vec<BTreeMap<String, usize>> {
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
    fn given(&self, sizes: &BTreeMap<String, usize>, elements: i32) -> Vec<(String, Data)> {
        let mut given = Vec::new();
        for input in &self.inputs {
            let shape: Vec<usize> =
                input.shape.iter().map(|size| size.parse().unwrap_or_else(|_| sizes[size])).collect();
            let count = shape.iter().product();
            let mut chance = Chance::of(&input.name);
            let data = match &input.kind {
                Kind::Trained(make) => Data::floats(&shape, &numbers(&input.name, &shape, *make), elements),
                Kind::Indices(most) => {
                    let values: Vec<i64> = (0..count).map(|_| chance.below(*most)).collect();
                    Data::integers(&shape, &values)
                }
                Kind::Truth => {
                    let values = (0..count).map(|_| chance.below(2) == 1).collect();
                    Data { shape, values: super::data::Values::Bool(values) }
                }
                Kind::Integers(_) | Kind::Floats(_) | Kind::Constant(_) | Kind::Again | Kind::LeftOut => {
                    continue;
                }
            };
            given.push((input.name.clone(), data));
        }
        given
    }
}

fn untyped(name: &str) -> ValueInfo {
    ValueInfo { name: Some(name.to_owned()), ..ValueInfo::default() }
}

fn numbers(name: &str, shape: &[usize], make: fn(f64) -> f64) -> Vec<f64> {
    let mut chance = Chance::of(name);
    (0..shape.iter().product()).map(|_| make(chance.number())).collect()
}

/// A training graph, loaded.
struct Trained {
    graph: TrainingGraph,
    loaded: Loaded,
}

impl Trained {
    fn new(graph: TrainingGraph) -> Result<Self, String> {
        let loaded = Loaded::new(&graph.model)?;
        Ok(Self { graph, loaded })
    }

    /// Loss and gradients by input, the outputs weighted with `weights`.
    fn run(&mut self, given: &[(String, Data)], weights: &[Data]) -> (f64, BTreeMap<String, Data>) {
        let inputs = self.graph.loss_inputs.iter().cloned().zip(weights.iter().cloned());
        let given: Vec<(String, Data)> = given.iter().cloned().chain(inputs).collect();
        let outputs: BTreeMap<String, Data> = self.loaded.run(&given).unwrap().into_iter().collect();
        let gradient = |(weight, name): (&String, &String)| (weight.clone(), outputs[name].clone());
        (outputs[&self.graph.loss].numbers()[0], self.graph.gradients.iter().map(gradient).collect())
    }
}

/// What is differentiated by differences.
enum Forward {
    Graph(Loaded),
    Function(fn(f64) -> f64),
}

impl Forward {
    fn run(&mut self, given: &[(String, Data)]) -> Vec<Data> {
        match self {
            Self::Graph(loaded) => loaded.run(given).unwrap().into_iter().map(|(_, data)| data).collect(),
            Self::Function(function) => {
                let values: Vec<f64> = given[0].1.numbers().into_iter().map(*function).collect();
                vec![Data::floats(&given[0].1.shape, &values, element::DOUBLE)]
            }
        }
    }
}

struct Check<'a> {
    case: &'a Case,
    single: Trained,
    forward: Forward,
    double: Option<Trained>,
}

impl Check<'_> {
    /// Whether the node itself can be run at some sizes.
    fn runs(&mut self, sizes: &BTreeMap<String, usize>) -> bool {
        let elements = if self.is_coarse() { element::FLOAT } else { element::DOUBLE };
        match &mut self.forward {
            Forward::Graph(loaded) => loaded.run(&self.case.given(sizes, elements)).is_ok(),
            Forward::Function(_) => true,
        }
    }

    /// Whether there is nothing but 32 bits to compare with.
    fn is_coarse(&self) -> bool {
        let case = self.case;
        case.kernels == Kernels::Single && case.function.is_none() && case.reference.is_none()
    }

    fn at(&mut self, sizes: &BTreeMap<String, usize>) {
        let coarse = self.is_coarse();
        let precise = if coarse { element::FLOAT } else { element::DOUBLE };
        let forward = &mut self.forward;
        let given = self.case.given(sizes, precise);
        let weights = cotangents(&forward.run(&given), precise);
        let narrow = self.case.given(sizes, element::FLOAT);
        let narrow_weights: Vec<Data> =
            weights.iter().map(|data| Data::floats(&data.shape, &data.numbers(), element::FLOAT)).collect();
        let (loss, single) = self.single.run(&narrow, &narrow_weights);
        let host = weighted(forward, &given, &weights);
        assert!(
            (loss - host).abs() <= 1e-4 * host.abs().max(1.0),
            "the loss is {loss}, not {host}, at {sizes:?}"
        );
        let double = self.double.as_mut().map(|double| double.run(&given, &weights).1);
        for (name, gradient) in &single {
            let at = given.iter().position(|(given, _)| given == name).unwrap();
            assert_eq!(
                gradient.shape, given[at].1.shape,
                "the shape of the gradient of `{name}` at {sizes:?}"
            );
            let narrow = gradient.numbers();
            match (&double, self.case.kernels) {
                (Some(double), _) => {
                    let numeric = differences(forward, &given, &weights, at);
                    close(&double[name].numbers(), &numeric, 1e-6, &format!("`{name}` at {sizes:?}"));
                    alike(
                        &narrow,
                        &double[name].numbers(),
                        1e-5,
                        &format!("`{name}` of 32 bits at {sizes:?}"),
                    );
                }
                (None, _) if !coarse => {
                    let numeric = differences(forward, &given, &weights, at);
                    alike(&narrow, &numeric, 1e-5, &format!("`{name}` of 32 bits at {sizes:?}"));
                }
                (None, _) if self.case.linear => {
                    let numeric = increments(forward, &given, &weights, at);
                    alike(&narrow, &numeric, 1e-5, &format!("`{name}` at {sizes:?}"));
                }
                (None, _) => {
                    along(forward, &given, &weights, (at, &narrow), &format!("`{name}` at {sizes:?}"))
                }
            }
        }
        let reached: Vec<&str> = single.keys().map(String::as_str).collect();
        let mut trained = self.case.trained();
        trained.sort_unstable();
        assert_eq!(reached, trained, "what has a gradient");
    }
}

/// Random weights for the outputs.
fn cotangents(outputs: &[Data], elements: i32) -> Vec<Data> {
    let mut chance = Chance::of("cotangent");
    let mut of = |data: &Data| {
        let values: Vec<f64> = data.numbers().iter().map(|_| chance.number()).collect();
        Data::floats(&data.shape, &values, elements)
    };
    outputs.iter().map(&mut of).collect()
}

/// The loss: the sum of the outputs, weighted.
fn weighted(forward: &mut Forward, given: &[(String, Data)], weights: &[Data]) -> f64 {
    let outputs = forward.run(given);
    let dot = |(data, weights): (&Data, &Data)| -> f64 {
        data.numbers().iter().zip(weights.numbers()).map(|(value, weight)| value * weight).sum()
    };
    outputs.iter().zip(weights).map(dot).sum()
}

/// By how much a loss that is linear in an input grows when each of its elements does by 1, in 32 bits.
fn increments(forward: &mut Forward, given: &[(String, Data)], weights: &[Data], at: usize) -> Vec<f64> {
    let (shape, values) = (&given[at].1.shape, given[at].1.numbers());
    let before = weighted(forward, given, weights);
    let mut moved = given.to_vec();
    let mut more = |element: usize| {
        let mut values = values.clone();
        values[element] += 1.0;
        moved[at].1 = Data::floats(shape, &values, element::FLOAT);
        weighted(forward, &moved, weights) - before
    };
    (0..values.len()).map(&mut more).collect()
}

/// Central differences by each element of one input.
fn differences(forward: &mut Forward, given: &[(String, Data)], weights: &[Data], at: usize) -> Vec<f64> {
    let values = given[at].1.numbers();
    let mut moved = given.to_vec();
    let mut found = Vec::new();
    for element in 0..values.len() {
        let step = 1e-4 * values[element].abs().max(1.0);
        let mut loss = |step: f64| {
            let mut values = values.clone();
            values[element] += step;
            moved[at].1 = Data::floats(&given[at].1.shape, &values, element::DOUBLE);
            weighted(forward, &moved, weights)
        };
        found.push((loss(step) - loss(-step)) / (2.0 * step));
    }
    found
}

/// Compares a gradient with differences along random directions, in 32 bits.
fn along(
    forward: &mut Forward,
    given: &[(String, Data)],
    weights: &[Data],
    (at, gradient): (usize, &[f64]),
    what: &str,
) {
    let values = given[at].1.numbers();
    let mut chance = Chance::of(what);
    for _ in 0..4 {
        let direction: Vec<f64> = values.iter().map(|_| chance.number()).collect();
        let mut moved = given.to_vec();
        let mut loss = |step: f64| {
            let values: Vec<f64> =
                values.iter().zip(&direction).map(|(value, along)| value + step * along).collect();
            moved[at].1 = Data::floats(&given[at].1.shape, &values, element::FLOAT);
            weighted(forward, &moved, weights)
        };
        let numeric = (loss(1e-2) - loss(-1e-2)) / 2e-2;
        let exact: f64 = gradient.iter().zip(&direction).map(|(gradient, along)| gradient * along).sum();
        let scale =
            gradient.iter().zip(&direction).map(|(gradient, along)| (gradient * along).powi(2)).sum::<f64>();
        let off = (exact - numeric).abs();
        assert!(
            off <= 1e-2 * scale.sqrt().max(0.1),
            "{what}: {exact} along a direction, differences give {numeric}"
        );
    }
}

/// Element by element, relative to the larger of 1 and the expected.
fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs() / expected.abs().max(1.0);
        assert!(
            off <= tolerance,
            "the gradient of {what}, element {at}: {found}, differences give {expected}"
        );
    }
}

/// By the relative L2 distance.
pub(crate) fn alike(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let off: Vec<f64> = found.iter().zip(expected).map(|(found, expected)| found - expected).collect();
    let far = norm(&off) / norm(expected).max(1e-2);
    assert!(far <= tolerance, "the gradient of {what} is {far:.2e} off");
}
