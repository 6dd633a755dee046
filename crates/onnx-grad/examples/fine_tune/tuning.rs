//! A file's last layers and a new head, trained: the graph is differentiated once, and each step runs it and moves the
//! weights by Adam (Kingma & Ba 2015).

use std::collections::BTreeMap;

use headstart_onnx::Limits;
use headstart_onnx::proto::{Attribute, Dimension, Model, Tensor, ValueInfo, element};
use headstart_onnx_grad::losses::CrossEntropy;
use headstart_onnx_grad::{Graph, Options, differentiate, normalise};
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor as Values;
use prost::Message as _;

use super::runtime::Runtime;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Rows of a step, and of the whole training set.
const BATCH: usize = 16;
const ROWS: usize = 128;

/// Learning rate, how slowly both moments forget, and what keeps their quotient finite.
const RATE: f32 = 3e-3;
const MOMENTS: [f32; 2] = [0.9, 0.99];
const EPSILON: f32 = 1e-8;

/// Waves along the last axis, in noise; the classes are bands of their pitch, from low to high.
pub(crate) struct Items {
    shape: Vec<usize>,
    values: Vec<f32>,
    labels: Vec<i64>,
}

impl Items {
    /// So many items of a shape, other ones for each seed.
    pub(crate) fn new(count: usize, item: &[usize], classes: usize, seed: u32) -> Self {
        // Numbers from 0 to 1 that look random, by a linear congruence.
        let mut state = seed;
        let mut drawn = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let (size, width) = (item.iter().product::<usize>(), item.last().copied().unwrap_or(1).max(1));
        let (mut values, mut labels) = (Vec::with_capacity(count * size), Vec::new());
        for at in 0..count {
            let class = at % classes;
            // From 0.02 to 0.2 waves a step; the upper third of each band is left empty.
            let band = (class as f32 + 0.67 * drawn()) / classes as f32;
            let (pitch, phase) = (0.02 * 10f32.powf(band), drawn());
            let wave = |step: usize| (std::f32::consts::TAU * (pitch * step as f32 + phase)).sin();
            values.extend((0..size).map(|step| wave(step % width) + drawn() - 0.5));
            labels.push(class as i64);
        }
        Self { shape: [&[count], item].concat(), values, labels }
    }

    /// Some of them, from one on.
    fn part(&self, from: usize, count: usize) -> Self {
        let size = self.shape.iter().skip(1).product::<usize>();
        let mut shape = self.shape.clone();
        shape[0] = count;
        let values = self.values[from * size..(from + count) * size].to_vec();
        Self { shape, values, labels: self.labels[from..from + count].to_vec() }
    }

    /// How many of their classes have the largest of a row's logits.
    pub(crate) fn right(&self, logits: &[f32]) -> usize {
        let rows = logits.chunks((logits.len() / self.labels.len().max(1)).max(1));
        let largest = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        let is_right = |(row, label): &(&[f32], &i64)| largest(row).is_some_and(|at| at as i64 == **label);
        rows.zip(&self.labels).filter(is_right).count()
    }
}

/// A graph with a head, and the names of what is trained.
pub(crate) struct Tuning {
    graph: Graph,
    input: String,
    item: Vec<usize>,
    classes: usize,
    logits: String,
    trained: Vec<String>,
}

impl Tuning {
    /// Puts a head of zeros behind the first output of a file; that and the last `layers` layers are to be trained.
    pub(crate) fn new(
        environment: &Environment,
        file: Vec<u8>,
        classes: usize,
        layers: usize,
    ) -> Result<Self, Failure> {
        let mut graph = Graph::new(Model::read(file.into(), &Limits::default())?)?;
        normalise(&mut graph)?;
        let stated = graph.inputs().first().filter(|input| input.elements() == Some(element::FLOAT));
        let stated = stated.ok_or("the first input is not of floats")?;
        let input = stated.name.clone().unwrap_or_default();
        let axes = stated.dimensions().unwrap_or_default().iter().skip(1);
        let sizes: Option<Vec<usize>> = axes.map(|axis| usize::try_from(axis.dim_value?).ok()).collect();
        let item = sizes.ok_or("the first input leaves sizes open beside the first")?;
        let output = graph.outputs().first().and_then(|output| output.name.clone()).ok_or("no output")?;
        graph.set_outputs(vec![ValueInfo { name: Some(output.clone()), ..ValueInfo::default() }]);
        graph.prune();

        let one = Items::new(1, &item, classes, 1);
        let features = run(environment, &graph.clone().into_model(), &input, &one)?.len();
        let mut trained = last_layers(&graph, layers);
        let rows = graph.add("Flatten", &[&output], vec![Attribute::int("axis", 1)]);
        let zeros = vec![0.0; features * classes];
        let weight = graph.add_constant(Tensor::floats("head.weight", &[features, classes], zeros));
        let bias = graph.add_constant(Tensor::floats("head.bias", &[classes], vec![0.0; classes]));
        let logits = graph.add("Gemm", &[&rows, &weight, &bias], Vec::new());
        let sizes = vec![Dimension::named("N"), Dimension::of(classes)];
        graph.set_outputs(vec![ValueInfo::tensor(&logits, element::FLOAT, sizes)]);
        trained.extend([weight, bias]);
        Ok(Self { graph, input, item, classes, logits, trained })
    }

    /// The shape of an item.
    pub(crate) fn item(&self) -> &[usize] {
        &self.item
    }

    /// The names of what is trained.
    pub(crate) fn trained(&self) -> &[String] {
        &self.trained
    }

    /// Trains for so many steps; `told` is given each step's number and loss.
    pub(crate) fn train(
        &mut self,
        environment: &Environment,
        steps: usize,
        mut told: impl FnMut(usize, f32) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let loss = CrossEntropy { logits: self.logits.clone(), smoothing: 0.0 };
        let names: Vec<&str> = self.trained.iter().map(String::as_str).collect();
        let probe = Runtime(environment);
        let training = differentiate(&self.graph, &loss, &names, &probe, &Options::default())?;
        let mut session =
            Session::builder(environment)?.commit_from_memory(&training.model.encode_to_vec())?;
        let mut weights = BTreeMap::new();
        for name in &self.trained {
            let tensor = self.graph.constant(name).ok_or("a weight is missing")?;
            let values = tensor.to_numbers()?.into_iter().map(|value| value as f32).collect();
            weights.insert(name.clone(), Weight::new(tensor.shape()?, values));
        }
        let rows = Items::new(ROWS, &self.item, self.classes, 1);
        for step in 0..steps {
            let batch = rows.part(step * BATCH % ROWS, BATCH);
            let share = vec![1.0 / BATCH as f32; BATCH];
            let mut given: Vec<(String, SessionInputValue<'_>)> = vec![
                (self.input.clone(), Values::from_array((batch.shape, batch.values))?.into()),
                (training.loss_inputs[0].clone(), Values::from_array(([BATCH], batch.labels))?.into()),
                (training.loss_inputs[1].clone(), Values::from_array(([BATCH], share))?.into()),
            ];
            for (name, weight) in &weights {
                let value = Values::from_array((weight.shape.clone(), weight.values.clone()))?;
                given.push((name.clone(), value.into()));
            }
            let outputs = session.run(given)?;
            told(step, outputs[training.loss.as_str()].try_extract_tensor::<f32>()?.1[0])?;
            for (name, gradient) in &training.gradients {
                let gradient = outputs[gradient.as_str()].try_extract_tensor::<f32>()?.1;
                if let Some(weight) = weights.get_mut(name) {
                    weight.step(gradient, step as i32 + 1);
                }
            }
        }
        for (name, weight) in weights {
            self.graph.replace_constant(Tensor::floats(&name, &weight.shape, weight.values))?;
        }
        Ok(())
    }

    /// The logits of items, row by row.
    pub(crate) fn logits(&self, environment: &Environment, items: &Items) -> Result<Vec<f32>, Failure> {
        run(environment, &self.graph.clone().into_model(), &self.input, items)
    }

    /// The same of a file that was written.
    pub(crate) fn logits_of(
        &self,
        environment: &Environment,
        file: Vec<u8>,
        items: &Items,
    ) -> Result<Vec<f32>, Failure> {
        run(environment, &Model::read(file.into(), &Limits::default())?, &self.input, items)
    }

    /// The graph as an ONNX file.
    pub(crate) fn file(&self) -> Vec<u8> {
        self.graph.clone().into_model().encode_to_vec()
    }
}

/// The weights of the last layers, with biases that belong to their node.
fn last_layers(graph: &Graph, layers: usize) -> Vec<String> {
    let of_floats = |name: &&str| {
        let tensor = graph.constant(name);
        tensor.is_some_and(|tensor| tensor.elements() == element::FLOAT && !tensor.dims.is_empty())
    };
    let weighted = graph.nodes().iter().rev().filter(|node| ["Conv", "Gemm", "MatMul"].contains(&node.op()));
    let lists =
        weighted.map(|node| node.input.iter().map(String::as_str).filter(of_floats).collect::<Vec<_>>());
    let found = lists.filter(|names| !names.is_empty()).take(layers).flatten().map(str::to_owned);
    let mut found: Vec<String> = found.collect();
    found.sort();
    found.dedup();
    found
}

/// The first output of a model, whose only input is given items.
fn run(environment: &Environment, model: &Model, input: &str, items: &Items) -> Result<Vec<f32>, Failure> {
    let mut session = Session::builder(environment)?.commit_from_memory(&model.encode_to_vec())?;
    let given = Values::from_array((items.shape.clone(), items.values.clone()))?;
    let given: Vec<(String, SessionInputValue<'_>)> = vec![(input.to_owned(), given.into())];
    let outputs = session.run(given)?;
    let (_, first) = outputs.iter().next().ok_or("the model has no output")?;
    Ok(first.try_extract_tensor::<f32>()?.1.to_vec())
}

/// A weight and the moments of its gradient.
struct Weight {
    shape: Vec<usize>,
    values: Vec<f32>,
    moments: [Vec<f32>; 2],
}

impl Weight {
    fn new(shape: Vec<usize>, values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self { shape, values, moments: [zeros.clone(), zeros] }
    }

    fn step(&mut self, gradient: &[f32], step: i32) {
        let [first, second] = &mut self.moments;
        let [kept, kept_squares] = MOMENTS;
        let moved = self.values.iter_mut().zip(first.iter_mut().zip(second)).zip(gradient);
        for ((value, (mean, square)), gradient) in moved {
            *mean = kept * *mean + (1.0 - kept) * gradient;
            *square = kept_squares * *square + (1.0 - kept_squares) * gradient * gradient;
            let scale = (*square / (1.0 - kept_squares.powi(step))).sqrt() + EPSILON;
            *value -= RATE * *mean / (1.0 - kept.powi(step)) / scale;
        }
    }
}
