//! Networks that image and sound models are made of, with drawn weights: gradients against PyTorch's autograd in float64
//! (tools/golden/network_gradients.py). All are torchvision's own but VGG-11, whose layers above the convolutions are narrower
//! ones of ours, and the three last, which are nobody's (tools/golden/networks.py).

use std::path::Path;

use bytes::Bytes;
use headstart_onnx::Limits;
use headstart_onnx::proto::{Model, element};
use headstart_onnx_grad::losses::WeightedSum;
use headstart_onnx_grad::lower::{Lowering, Portable};
use headstart_onnx_grad::{Graph, Options, differentiate, normalise};
use serde_json::Value;

use crate::models::compare;
use crate::support::data::{Chance, Data};
use crate::support::runtime::{Loaded, Runtime, lowerings};

/// The numbers from -1 to 1 that some words stand for, scaled and moved.
fn drawn(words: &str, count: usize, offset: f64, scale: f64) -> Vec<f64> {
    let mut chance = Chance::of(words);
    (0..count).map(|_| f64::from((offset + scale * chance.number()) as f32)).collect()
}

/// The stored graph of a file with its weights drawn, and the network's reference.
fn network(name: &str, file: &str) -> (Model, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/networks");
    let reference = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    let reference: Value = serde_json::from_str(&reference).unwrap();
    let file = std::fs::read(folder.join(format!("{file}.onnx"))).unwrap();
    let mut model = Model::read(file.into(), &Limits::default()).unwrap();
    for constant in &mut model.graph.as_mut().unwrap().initializer {
        if let Some(fill) = reference["fills"].get(constant.name.as_deref().unwrap()) {
            let count = constant.shape().unwrap().iter().product();
            let [offset, scale] = [1, 2].map(|at| fill[at].as_f64().unwrap());
            let values = drawn(fill[0].as_str().unwrap(), count, offset, scale);
            let raw: Vec<u8> = values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect();
            constant.raw_data = Some(Bytes::from(raw));
        }
    }
    (model, reference)
}

fn sizes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).collect()
}

/// Differentiates a network by all its weights, and compares every gradient with its reference; also of the file that PyTorch's
/// older exporter wrote, where there is one.
fn check(name: &str, older: Option<i64>) {
    check_file(name, name, None);
    if let Some(opset) = older {
        check_file(name, &format!("{name}.set{opset}"), Some(opset));
    }
}

fn check_file(name: &str, file: &str, opset: Option<i64>) {
    let (model, reference) = network(name, file);
    let mut graph = Graph::new(model).unwrap();
    assert!(opset.is_none_or(|opset| graph.opset() == opset), "{file}");
    normalise(&mut graph).unwrap();
    let output = graph.outputs()[0].name.clone().unwrap();
    let trainable: Vec<&str> =
        reference["gradients"].as_object().unwrap().keys().map(String::as_str).collect();
    let loss = WeightedSum { values: vec![output.clone()] };
    let made = |lowering: &'static dyn Lowering| {
        let options = Options { lowering, ..Options::default() };
        let training = differentiate(&graph, &loss, &trainable, &Runtime, &options).unwrap();
        assert_eq!(training.gradients.len(), trainable.len());
        training
    };
    let training = made(&Portable);
    let shape = sizes(&reference["batch"]["shape"]);
    let pixels = drawn(reference["batch"]["words"].as_str().unwrap(), shape.iter().product(), 0.0, 1.0);
    let input = graph.inputs()[0].name.clone().unwrap();
    let mut given = vec![(input, Data::floats(&shape, &pixels, element::FLOAT))];
    let shape = sizes(&reference["weights"]);
    let weights = drawn("cotangent", shape.iter().product(), 0.0, 1.0);
    given.push((training.loss_inputs[0].clone(), Data::floats(&shape, &weights, element::FLOAT)));
    for weight in training.gradients.keys() {
        let tensor = graph.constant(weight).unwrap();
        let values = tensor.to_numbers().unwrap();
        given.push((weight.clone(), Data::floats(&tensor.shape().unwrap(), &values, element::FLOAT)));
    }
    for (lowering, level) in lowerings() {
        let training = made(lowering);
        let outputs = Loaded::at(&training.model, level).unwrap().run(&given).unwrap();
        compare(file, &reference, &training, &outputs.into_iter().collect(), 1e-4, 5e-6);
    }
}

macro_rules! networks {
    ($($test:ident: $name:literal, $older:expr;)*) => { $(#[test] fn $test() { check($name, $older); })* };
}

networks! {
    residual_blocks_have_the_gradients_of_pytorch: "resnet18", Some(9);
    plain_convolutions_have_the_gradients_of_pytorch: "vgg11", Some(14);
    inverted_bottlenecks_have_the_gradients_of_pytorch: "mobilenet_v2", Some(11);
    parallel_branches_have_the_gradients_of_pytorch: "inception_v3", Some(11);
    squeezed_branches_have_the_gradients_of_pytorch: "squeezenet1_1", Some(12);
    gated_channels_have_the_gradients_of_pytorch: "efficientnet_b0", Some(13);
    normalisation_before_convolution_has_the_gradients_of_pytorch: "preactivation", None;
    down_and_up_again_has_the_gradients_of_pytorch: "unet", None;
    waves_have_the_gradients_of_pytorch: "waves", None;
}
