//! Trains a graph with this crate and ONNX Runtime alone: a network of two layers learns which of two spirals a point is on.
//!
//! `cargo run --release -p headstart-onnx-grad --example fine_tune -- vendor/onnxruntime/<version>/<target>/libonnxruntime.so.1`

use std::collections::BTreeMap;
use std::io::Write as _;

use headstart_onnx::proto::{Dimension, Graph as Nodes, Model, OperatorSet, Tensor, ValueInfo, element};
use headstart_onnx_grad::losses::CrossEntropy;
use headstart_onnx_grad::{Graph, Observed, Options, Probe, ProbeError, Sample, differentiate};
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::{Tensor as Values, TensorElementType};
use prost::Message as _;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Width of the hidden layer.
const WIDTH: usize = 48;

/// ONNX Runtime, asked for shapes.
struct Runtime<'a>(&'a Environment);

impl Probe for Runtime<'_> {
    fn run(
        &self,
        model: &Model,
        runs: &[Vec<Sample>],
        values: &[String],
    ) -> Result<Vec<Vec<Option<Observed>>>, ProbeError> {
        let mut session = Session::builder(self.0)?.commit_from_memory(&model.encode_to_vec())?;
        runs.iter().map(|run| observe(&mut session, run, values)).collect()
    }
}

fn observe(
    session: &mut Session,
    inputs: &[Sample],
    values: &[String],
) -> Result<Vec<Option<Observed>>, ProbeError> {
    // Every input of this graph is of floats.
    let given = inputs.iter().map(|sample| {
        let count = sample.shape.iter().product();
        let filled = Values::from_array((sample.shape.clone(), vec![sample.value as f32; count]))?;
        Ok((sample.name.clone(), filled.into()))
    });
    let given: Vec<(String, SessionInputValue<'_>)> = given.collect::<Result<_, ort::Error>>()?;
    let outputs = session.run(given)?;
    let observed = |name: &String| {
        let value = &outputs[name.as_str()];
        let shape = value.shape().iter().map(|&size| size as usize).collect();
        let integers = *value.data_type() == TensorElementType::Int64;
        let elements = if integers { element::INT64 } else { element::FLOAT };
        let integers = integers.then(|| value.try_extract_tensor::<i64>().map(|(_, all)| all.to_vec()));
        Ok(Some(Observed { elements, shape, integers: integers.transpose()? }))
    };
    values.iter().map(observed).collect()
}

/// `logits = W2·tanh(W1·point + b1) + b2`.
fn network() -> Result<(Graph, String), Failure> {
    let nodes = Nodes {
        input: vec![ValueInfo::tensor(
            "points",
            element::FLOAT,
            vec![Dimension::named("N"), Dimension::of(2)],
        )],
        ..Nodes::default()
    };
    let opset_import = vec![OperatorSet { domain: None, version: Some(21) }];
    let mut graph =
        Graph::new(Model { ir_version: Some(8), graph: Some(nodes), opset_import, ..Model::default() })?;
    // Numbers that look random, by a linear congruence.
    let mut state = 1u32;
    let mut drawn = |scale: f32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state as f32 / u32::MAX as f32 * 2.0 - 1.0) * scale
    };
    let first: Vec<f32> = (0..2 * WIDTH).map(|_| drawn(3.0)).collect();
    let second: Vec<f32> = (0..2 * WIDTH).map(|_| drawn(0.3)).collect();
    let w1 = graph.add_constant(Tensor::floats("w1", &[2, WIDTH], first));
    let b1 = graph.add_constant(Tensor::floats(
        "b1",
        &[WIDTH],
        (0..WIDTH).map(|_| drawn(1.0)).collect::<Vec<_>>(),
    ));
    let w2 = graph.add_constant(Tensor::floats("w2", &[WIDTH, 2], second));
    let b2 = graph.add_constant(Tensor::floats("b2", &[2], [0.0, 0.0]));
    let hidden = graph.add("Gemm", &["points", &w1, &b1], Vec::new());
    let hidden = graph.add("Tanh", &[&hidden], Vec::new());
    let logits = graph.add("Gemm", &[&hidden, &w2, &b2], Vec::new());
    Ok((graph, logits))
}

/// Points on two spirals, and which of them each is on.
fn spirals(count: usize) -> (Vec<f32>, Vec<i64>) {
    let of = |at: usize| {
        let (side, turn) = ((at % 2) as f32, at as f32 / count as f32);
        let angle = 5.0 * turn + std::f32::consts::PI * side;
        ([turn * angle.cos(), turn * angle.sin()], (at % 2) as i64)
    };
    let (points, labels): (Vec<[f32; 2]>, Vec<i64>) = (0..count).map(of).unzip();
    (points.concat(), labels)
}

fn main() -> Result<(), Failure> {
    let library = std::env::args().nth(1).ok_or("name the library of ONNX Runtime")?;
    let environment = ort::init_from(library)?.with_telemetry(false).build()?;
    let (graph, logits) = network()?;
    let loss = CrossEntropy { logits, smoothing: 0.0 };
    let names = ["w1", "b1", "w2", "b2"];
    let training = differentiate(&graph, &loss, &names, &Runtime(&environment), &Options::default())?;
    let mut session = Session::builder(&environment)?.commit_from_memory(&training.model.encode_to_vec())?;

    let mut weights: BTreeMap<&str, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for name in names {
        let tensor = graph.constant(name).ok_or(name)?;
        let values = tensor.to_numbers()?.into_iter().map(|value| value as f32).collect();
        weights.insert(name, (tensor.shape()?, values));
    }
    let mut moments: BTreeMap<&str, Vec<f32>> =
        weights.iter().map(|(name, (_, values))| (*name, vec![0.0; values.len()])).collect();
    let (points, labels) = spirals(200);
    let rows = labels.len();
    let mut out = std::io::stdout().lock();
    for step in 0..=2000 {
        let mut given: Vec<(String, SessionInputValue<'_>)> = vec![
            ("points".to_owned(), Values::from_array(([rows, 2], points.clone()))?.into()),
            (training.loss_inputs[0].clone(), Values::from_array(([rows], labels.clone()))?.into()),
            (
                training.loss_inputs[1].clone(),
                Values::from_array(([rows], vec![1.0 / rows as f32; rows]))?.into(),
            ),
        ];
        for (name, (shape, values)) in &weights {
            given.push(((*name).to_owned(), Values::from_array((shape.clone(), values.clone()))?.into()));
        }
        let outputs = session.run(given)?;
        if step % 500 == 0 {
            let loss = outputs[training.loss.as_str()].try_extract_tensor::<f32>()?.1[0];
            writeln!(out, "step {step}: loss {loss:.4}")?;
        }
        // Stochastic gradient descent with momentum.
        for (weight, gradient) in &training.gradients {
            let gradient = outputs[gradient.as_str()].try_extract_tensor::<f32>()?.1;
            let weight = weight.as_str();
            let (Some((_, values)), Some(moments)) = (weights.get_mut(weight), moments.get_mut(weight))
            else {
                continue;
            };
            for ((value, moment), gradient) in values.iter_mut().zip(moments).zip(gradient) {
                *moment = 0.9 * *moment + gradient;
                *value -= 0.3 * *moment;
            }
        }
    }
    Ok(())
}
