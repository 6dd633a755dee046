//! Whole steps: forward, loss, backward, AdamW.

use std::time::Instant;

use anyhow::{Context as _, anyhow};
use headstart_engine::{Runtime, Workbench};
use headstart_methods::optim::fused::{Optimiser, Pace, Rule};
use headstart_methods::tune::Asking;
use headstart_onnx::proto::{Dimension, Model, ValueInfo, element};
use headstart_onnx_grad::losses::CrossEntropy;
use headstart_onnx_grad::lower::{Kernels, Lowering, Portable};
use headstart_onnx_grad::{Graph, Options, differentiate, normalise};
use headstart_types::runner::{Graphs, Runners as _, Trained, Trainer};
use headstart_types::tensor::{Tensor, Values};
use prost::Message as _;

use crate::case::Case;

/// PyTorch's own defaults.
const ADAM: Rule = Rule::AdamW { betas: (0.9, 0.999), epsilon: 1e-8 };
const DECAY: f32 = 0.01;

/// A training under way.
pub(crate) struct Steps {
    trainer: Box<dyn Trainer>,
    optimiser: Optimiser,
    paces: Vec<Pace>,
    batches: Vec<Vec<(String, Tensor)>>,
    loss: String,
    threads: usize,
    done: usize,
}

impl Steps {
    /// Differentiates the case's graph and opens it.
    pub(crate) fn new(case: &Case, runtime: Runtime) -> anyhow::Result<Self> {
        let workbench = Workbench::new(runtime, case.threads);
        let mut graph = Graph::new(Model::decode(std::fs::read(&case.graph)?.as_slice())?)?;
        let logits = ValueInfo { name: Some(case.logits.clone()), ..ValueInfo::default() };
        graph.set_outputs(vec![logits]);
        normalise(&mut graph)?;
        let names: Vec<&str> = case.trained.iter().map(String::as_str).collect();
        let loss = CrossEntropy { logits: case.logits.clone(), smoothing: 0.0 };
        let kernels = workbench.has_kernels() && std::env::args().all(|told| told != "--portable");
        let lowering: &dyn Lowering = if kernels { &Kernels } else { &Portable };
        let options = Options { outputs: vec![case.logits.clone()], lowering, ..Options::default() };
        let training = differentiate(&graph, &loss, &names, &Asking(&workbench), &options)?;
        let mut weights = Vec::with_capacity(names.len());
        for &name in &names {
            let tensor = graph.constant(name).with_context(|| format!("{name} is no constant"))?;
            let gradient = training.gradients.get(name).with_context(|| format!("{name} has no gradient"))?;
            let values = tensor.to_numbers()?.into_iter().map(|value| value as f32).collect();
            let (name, gradient) = (name.to_owned(), gradient.clone());
            weights.push(Trained { name, gradient, shape: tensor.shape()?, values });
        }
        let forward = with_inputs(graph, &weights).encode_to_vec();
        let sizes: Vec<usize> = weights.iter().map(|weight| weight.values.len()).collect();
        let graphs = Graphs { training: training.model.encode_to_vec(), forward };
        let trainer = workbench.trainer(&graphs, weights)?;
        let read = |batch: &Vec<crate::case::Given>| {
            batch.iter().map(|given| Ok((given.name.clone(), given.tensor()?))).collect()
        };
        let batches = case.batches.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        let pace = Pace { learning_rate: case.learning_rate, weight_decay: DECAY };
        Ok(Self {
            trainer,
            optimiser: Optimiser::new(ADAM, &sizes),
            paces: vec![pace; sizes.len()],
            batches,
            loss: training.loss,
            threads: case.threads,
            done: 0,
        })
    }

    /// So many steps: the seconds of each, and the loss of the last.
    pub(crate) fn run(&mut self, count: usize) -> anyhow::Result<(Vec<f64>, f32)> {
        let (mut seconds, mut loss) = (Vec::with_capacity(count), f32::NAN);
        for _ in 0..count {
            let start = Instant::now();
            let batch = &self.batches[self.done % self.batches.len()];
            let inputs: Vec<(&str, &Tensor)> =
                batch.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            let outputs = self.trainer.step(&inputs, &[&self.loss])?;
            let weights = self.trainer.weights();
            let stepped = self.optimiser.step(weights, &self.paces, None, self.threads);
            stepped.filter(|stepped| stepped.moved).context("the step moved nothing")?;
            seconds.push(start.elapsed().as_secs_f64());
            loss = number(&outputs[0])?;
            self.done += 1;
        }
        Ok((seconds, loss))
    }
}

/// The graph forward alone, its weights as inputs: the service keeps one for scores between epochs.
fn with_inputs(graph: Graph, weights: &[Trained]) -> Model {
    let mut model = graph.into_model();
    if let Some(graph) = &mut model.graph {
        graph
            .initializer
            .retain(|tensor| weights.iter().all(|weight| tensor.name.as_ref() != Some(&weight.name)));
        graph.input.extend(weights.iter().map(|weight| {
            let shape = weight.shape.iter().map(|size| Dimension::of(*size)).collect();
            ValueInfo::tensor(&weight.name, element::FLOAT, shape)
        }));
    }
    model
}

fn number(tensor: &Tensor) -> anyhow::Result<f32> {
    let Values::Fixed { bytes, .. } = &tensor.values else { return Err(anyhow!("the loss is no number")) };
    let bytes: [u8; 4] = bytes.as_ref().try_into()?;
    Ok(f32::from_le_bytes(bytes))
}
