//! What a [`Case`] computes, compared with central differences and across precisions and lowerings.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Once;

use headstart_onnx::proto::{Node, element};
use headstart_onnx_grad::{TrainingGraph, lower};

use super::case::{Case, Kernels};
use super::data::{Chance, Data};
use super::runtime::Loaded;

/// Checks a case in the operator set that it has.
#[track_caller]
pub(super) fn check(case: &Case) {
    let mut check = Check::new(case);
    let settings = case.settings();
    let empty = |sizes: &BTreeMap<String, usize>| sizes.get("N") == Some(&0);
    assert!(!case.no_empty || settings.iter().any(empty), "no empty batch is tried of {}", case.op);
    for sizes in &settings {
        if empty(sizes) {
            let runs = check.runs(sizes);
            assert_eq!(runs, !case.no_empty, "whether the runtime runs {} of an empty batch", case.op);
        }
        if !(empty(sizes) && case.no_empty) {
            check.at(sizes);
        }
    }
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
        let stated = &self.graph.model.graph.as_ref().unwrap().input;
        let elements = |name: &String| {
            let input = stated.iter().find(|input| input.name.as_ref() == Some(name));
            input.and_then(|input| input.elements()).unwrap()
        };
        let inputs =
            self.graph.loss_inputs.iter().zip(weights).map(|(name, data)| {
                (name.clone(), Data::floats(&data.shape, &data.numbers(), elements(name)))
            });
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
    /// In 32 bits, by what wrote it: as ordinary nodes, and with the kernels of the service where they are.
    single: Vec<(&'static str, Trained)>,
    forward: Forward,
    double: Option<Trained>,
}

impl<'a> Check<'a> {
    #[track_caller]
    fn new(case: &'a Case) -> Self {
        let single = case.differentiate(element::FLOAT).unwrap();
        let mut single = vec![("portable", Trained::new(single).unwrap())];
        single.extend(with_kernels(case).map(|trained| ("kernels", trained)));
        let forward = Loaded::new(&case.model(element::DOUBLE)).ok().map(Forward::Graph);
        let double = forward.is_some().then(|| case.differentiate(element::DOUBLE)).and_then(Result::ok);
        let double = double.and_then(|graph| Trained::new(graph).ok());
        let found = match (&forward, &double) {
            (Some(_), Some(_)) => Kernels::Double,
            (Some(_), None) => Kernels::DoubleForward,
            (None, _) => Kernels::Single,
        };
        if case.reference.is_none() {
            assert_eq!(case.kernels, found, "the kernels that the runtime has for {}", case.op);
        }
        let forward = match (&case.reference, forward, case.function) {
            (Some((nodes, constants)), ..) => {
                let mut model = case.model(element::DOUBLE);
                let graph = model.graph.as_mut().unwrap();
                graph.node.clone_from(nodes);
                graph.initializer.extend_from_slice(constants);
                Forward::Graph(Loaded::new(&model).unwrap())
            }
            (None, Some(forward), _) => forward,
            (None, None, Some(function)) => Forward::Function(function),
            (None, None, None) => Forward::Graph(Loaded::new(&case.model(element::FLOAT)).unwrap()),
        };
        let double = double.filter(|_| case.reference.is_none());
        Self { case, single, forward, double }
    }

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
        let precise = if self.is_coarse() { element::FLOAT } else { element::DOUBLE };
        let given = self.case.given(sizes, precise);
        let weights = cotangents(&self.forward.run(&given), precise);
        let narrow = self.case.given(sizes, element::FLOAT);
        let host = weighted(&mut self.forward, &given, &weights);
        let mut trained = self.case.trained();
        trained.sort_unstable();
        let mut single = Vec::new();
        for (lowering, graph) in &mut self.single {
            let (loss, gradients) = graph.run(&narrow, &weights);
            assert!(
                (loss - host).abs() <= 1e-4 * host.abs().max(1.0),
                "the loss is {loss}, not {host}, at {sizes:?}, {lowering}"
            );
            assert_eq!(gradients.keys().collect::<Vec<_>>(), trained, "what has a gradient, {lowering}");
            single.push((*lowering, gradients));
        }
        let double = self.double.as_mut().map(|double| double.run(&given, &weights).1);
        for name in trained {
            let at = given.iter().position(|(given, _)| given == name).unwrap();
            let expected = self.expected(name, (&given, &weights, at), double.as_ref(), sizes);
            for (lowering, gradients) in &single {
                let what =
                    format!("`{name}` of 32 bits at {sizes:?}, {lowering}, of set {}", self.case.opset);
                let (gradient, value) = (&gradients[name], &narrow[at].1);
                assert_eq!(gradient.shape, value.shape, "the shape of the gradient of {what}");
                assert_eq!(gradient.elements(), value.elements(), "the type of the gradient of {what}");
                match &expected {
                    Some(expected) => alike(&gradient.numbers(), expected, 1e-5, &what),
                    None => along(&mut self.forward, &given, &weights, (at, &gradient.numbers()), &what),
                }
            }
        }
    }

    /// What the 32-bit gradient of an input is compared with; nothing where only differences along directions can tell.
    fn expected(
        &mut self,
        name: &str,
        (given, weights, at): (&[(String, Data)], &[Data], usize),
        double: Option<&BTreeMap<String, Data>>,
        sizes: &BTreeMap<String, usize>,
    ) -> Option<Vec<f64>> {
        if let Some(double) = double {
            let numeric = differences(&mut self.forward, given, weights, at);
            close(&double[name].numbers(), &numeric, 1e-6, &format!("`{name}` at {sizes:?}"));
            return Some(double[name].numbers());
        }
        if !self.is_coarse() {
            return Some(differences(&mut self.forward, given, weights, at));
        }
        self.case.linear.then(|| increments(&mut self.forward, given, weights, at))
    }
}

/// The training graph with the kernels of the service, where the machine has them and any is in it.
fn with_kernels(case: &Case) -> Option<Trained> {
    static TOLD: Once = Once::new();
    if !headstart_engine::kernels::available() {
        // Past the harness, which shows what a test prints only where it fails.
        let line = "skipped: kernels, which this machine is not faster with; gradients are those of portable graphs alone";
        let mut out = std::io::stderr();
        TOLD.call_once(|| writeln!(out, "{line}").unwrap());
        return None;
    }
    let graph = case.lowered(element::FLOAT, &lower::Kernels).unwrap();
    let written = is_in_kernels(&graph);
    written.then(|| Trained::new(graph).unwrap())
}

/// Whether a training graph has nodes that are kernels of the service.
pub(crate) fn is_in_kernels(graph: &TrainingGraph) -> bool {
    let nodes = &graph.model.graph.as_ref().unwrap().node;
    nodes.iter().map(Node::set).any(|set| set == "headstart.kernels")
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
