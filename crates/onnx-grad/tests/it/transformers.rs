//! Transformers as PyTorch's exporters write them, whole: every weight's gradient against PyTorch's autograd in float64
//! (tools/golden/gradients_transformers.py).

use std::collections::BTreeMap;
use std::path::Path;

use headstart_onnx::Limits;
use headstart_onnx::proto::{Model, Tensor, element};
use headstart_onnx_grad::losses::WeightedSum;
use headstart_onnx_grad::lower::{Lowering, Portable};
use headstart_onnx_grad::{Graph, Options, Sizes, TrainingGraph, Tried, differentiate, normalise};
use ort::session::builder::GraphOptimizationLevel;

use crate::support::data::Data;
use crate::support::runtime::{Loaded, Runtime, lowerings};

/// The samples that the two runs of a probe give a model of sounds: it needs more than a few.
const SAMPLES: Tried = [203, 251, 419];

fn read(name: &str) -> Graph {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transformers");
    let file = std::fs::read(folder.join(format!("{name}.onnx"))).unwrap();
    Graph::new(Model::read(file.into(), &Limits::default()).unwrap()).unwrap()
}

/// A model, its training graph, and what its gradients should be.
struct Whole {
    name: String,
    graph: Graph,
    training: TrainingGraph,
    reference: BTreeMap<String, Tensor>,
}

impl Whole {
    fn of(name: &str, lowering: &'static dyn Lowering) -> Self {
        let mut graph = read(name);
        normalise(&mut graph).unwrap();
        let reference = read(&format!("{name}.gradients"));
        let reference: BTreeMap<String, Tensor> =
            reference.constants().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        let named = |kind: &str| {
            let names = reference.keys().filter_map(|key| key.strip_prefix(kind));
            names.map(str::to_owned).collect::<Vec<String>>()
        };
        let (weights, values) = (named("gradient/"), named("cotangent/"));
        let mut sizes = Sizes::default();
        for input in graph.inputs().iter().filter(|input| input.name.as_deref() == Some("input_values")) {
            let samples = input.dimensions().unwrap()[1].dim_param.clone().unwrap();
            sizes.dimensions.insert(samples, SAMPLES);
        }
        let options = Options { sizes, lowering, outputs: values.clone() };
        let weights: Vec<&str> = weights.iter().map(String::as_str).collect();
        let training = differentiate(&graph, &WeightedSum { values }, &weights, &Runtime, &options);
        let training = training.unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), graph, training, reference }
    }

    /// What the training graph reads: inputs, weights, and what the outputs are weighted with.
    fn given(&self) -> Vec<(String, Data)> {
        let mut given = Vec::new();
        let mut weighted = self.training.loss_inputs.iter();
        for (key, tensor) in &self.reference {
            if let Some(name) = key.strip_prefix("input/") {
                given.push((name.to_owned(), data(tensor)));
            } else if key.starts_with("cotangent/") {
                given.push((weighted.next().unwrap().clone(), data(tensor)));
            }
        }
        for name in self.training.gradients.keys() {
            given.push((name.clone(), data(self.graph.constant(name).unwrap())));
        }
        given
    }

    /// Compares loss and gradients with PyTorch's. A gradient that is 0 but for rounding, such as that of a bias of keys, which
    /// no softmax sees, is judged by the model's largest.
    fn check(&self, level: GraphOptimizationLevel) {
        let name = &self.name;
        let outputs = Loaded::at(&self.training.model, level).unwrap().run(&self.given()).unwrap();
        let outputs: BTreeMap<String, Data> = outputs.into_iter().collect();
        let loss = outputs[&self.training.loss].numbers()[0];
        let expected = self.reference["loss"].to_numbers().unwrap()[0];
        assert!((loss - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{name}: {loss}, not {expected}");
        let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let expected: BTreeMap<&str, Vec<f64>> = self
            .reference
            .iter()
            .filter_map(|(key, tensor)| Some((key.strip_prefix("gradient/")?, tensor.to_numbers().unwrap())))
            .collect();
        let largest = expected.values().map(|gradient| norm(gradient)).fold(0.0, f64::max);
        let mut far = Vec::new();
        for (&weight, expected) in &expected {
            let gradient = &outputs[&self.training.gradients[weight]];
            let tensor = &self.reference[&format!("gradient/{weight}")];
            assert_eq!(
                gradient.shape,
                tensor.shape().unwrap(),
                "{name}: the shape of the gradient of `{weight}`"
            );
            let off: Vec<f64> = gradient.numbers().iter().zip(expected).map(|(a, b)| a - b).collect();
            if norm(expected) < 1e-12 * largest {
                assert!(norm(&off) <= 1e-6 * largest, "{name}: the gradient of `{weight}` is not 0");
            } else {
                far.push((norm(&off) / norm(expected), weight));
            }
        }
        far.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (worst, median) = (far[far.len() - 1], far[far.len() / 2].0);
        println!("{name}: {} tensors, median {median:.1e}, largest {:.1e} ({})", far.len(), worst.0, worst.1);
        assert!(worst.0 <= 1e-4, "{name}: the gradient of `{}` is {:.1e} off", worst.1, worst.0);
        assert!(median <= 5e-6, "{name}: gradients are {median:.1e} off, in the middle");
    }
}

fn data(tensor: &Tensor) -> Data {
    let shape = tensor.shape().unwrap();
    match tensor.elements() {
        element::FLOAT => Data::floats(&shape, &tensor.to_numbers().unwrap(), element::FLOAT),
        _ => Data::integers(&shape, &tensor.to_integers().unwrap()),
    }
}

/// Checks a model as both exporters write it, and as the older one did in an operator set of earlier years.
fn check(name: &str, opset: Option<i64>) {
    let older = opset.map(|opset| format!("legacy{opset}"));
    for exporter in ["legacy", "dynamo"].into_iter().chain(older.as_deref()) {
        assert_eq!(exporter.starts_with("legacy"), read(&format!("{name}.{exporter}")).opset() < 18);
        for (lowering, level) in lowerings() {
            Whole::of(&format!("{name}.{exporter}"), lowering).check(level);
        }
    }
}

#[test]
fn bert_has_the_gradients_of_pytorch_in_float64() {
    check("bert", Some(13));
}

#[test]
fn distilbert_has_the_gradients_of_pytorch_in_float64() {
    check("distilbert", Some(11));
}

#[test]
fn a_vision_transformer_has_the_gradients_of_pytorch_in_float64() {
    check("vit", Some(12));
}

#[test]
fn queries_keys_and_values_of_one_product_get_one_gradient() {
    check("multihead", Some(14));
    for exporter in ["legacy", "dynamo"] {
        let whole = Whole::of(&format!("multihead.{exporter}"), &Portable);
        let nodes = whole.training.model.graph.unwrap().node;
        let padded = nodes.iter().filter(|node| node.is("Pad")).count();
        assert_eq!(padded, 0, "{exporter}: what cuts a value up is put together by one node");
    }
}

#[test]
fn both_towers_of_clip_have_the_gradients_of_pytorch_in_float64() {
    check("clip-vision", Some(12));
    check("clip-text", Some(14));
}

#[test]
fn the_encoder_of_whisper_has_the_gradients_of_pytorch_in_float64() {
    check("whisper", Some(11));
}

#[test]
fn the_encoders_of_wav2vec2_have_the_gradients_of_pytorch_in_float64() {
    check("wav2vec2-group", None);
    check("wav2vec2-layer", Some(13));
}
