//! The example `fine_tune`, run through its functions, and the small network that it begins with.

#[path = "../../examples/fine_tune/runtime.rs"]
mod runtime;
#[path = "../../examples/fine_tune/tuning.rs"]
mod tuning;

use std::path::{Path, PathBuf};

use headstart_onnx::Limits;
use headstart_onnx::proto::{
    Attribute, Dimension, Graph as Nodes, Model, OperatorSet, Tensor, ValueInfo, element,
};
use headstart_onnx_grad::Graph;
use prost::Message as _;
use tuning::{Items, Tuning};

use crate::support::data::Chance;
use crate::support::runtime::environment;

fn tones() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fine_tune/tones.onnx")
}

fn read(file: Vec<u8>) -> Graph {
    Graph::new(Model::read(file.into(), &Limits::default()).unwrap()).unwrap()
}

#[test]
fn the_example_trains_the_last_layers_of_a_file_and_writes_one_that_answers_as_it_was_trained() {
    let file = std::fs::read(tones()).unwrap();
    let mut tuning = Tuning::new(environment(), file.clone(), 2, 2).unwrap();
    let layers = ["second.bias", "second.weight", "third.bias", "third.weight", "head.weight", "head.bias"];
    assert_eq!(tuning.trained(), layers);
    let held_out = Items::new(64, tuning.item(), 2, 2);
    assert_eq!(held_out.right(&tuning.logits(environment(), &held_out).unwrap()), 32, "a head of zeros");
    let mut losses = Vec::new();
    tuning
        .train(environment(), 100, |_, loss| {
            losses.push(loss);
            Ok(())
        })
        .unwrap();
    assert!(losses[99] < 0.5 * losses[0], "{losses:?}");
    let logits = tuning.logits(environment(), &held_out).unwrap();
    assert!(held_out.right(&logits) >= 58, "{} of 64", held_out.right(&logits));
    assert_eq!(tuning.logits_of(environment(), tuning.file(), &held_out).unwrap(), logits);
    // The first layer stays as it was, bit for bit; the others do not.
    let (before, after) = (read(file), read(tuning.file()));
    for (name, tensor) in before.constants() {
        let same = after.constant(name).unwrap().to_numbers().unwrap() == tensor.to_numbers().unwrap();
        assert_eq!(same, name.starts_with("first."), "{name}");
    }
}

/// Two convolutions and a matrix, with drawn weights.
fn network() -> Graph {
    let sound = vec![Dimension::named("N"), Dimension::of(1), Dimension::of(400)];
    let nodes = Nodes { input: vec![ValueInfo::tensor("sound", element::FLOAT, sound)], ..Nodes::default() };
    let opset_import = vec![OperatorSet { domain: None, version: Some(21) }];
    let model = Model { ir_version: Some(8), graph: Some(nodes), opset_import, ..Model::default() };
    let mut graph = Graph::new(model).unwrap();
    let layer = |graph: &mut Graph, op: &str, name: &str, dims: &[usize], told, from: &str| {
        let mut chance = Chance::of(name);
        let reach = (3.0 / dims[1..].iter().product::<usize>() as f64).sqrt();
        let mut drawn = |dims: &[usize], what: &str, reach: f64| {
            let values: Vec<f32> =
                (0..dims.iter().product()).map(|_| (reach * chance.number()) as f32).collect();
            graph.add_constant(Tensor::floats(&format!("{name}.{what}"), dims, values))
        };
        let (weight, bias) = (drawn(dims, "weight", reach), drawn(&dims[..1], "bias", 0.1));
        let made = graph.add(op, &[from, &weight, &bias], told);
        graph.add("Relu", &[&made], Vec::new())
    };
    let strides = |stride| vec![Attribute::ints("strides", vec![stride])];
    let value = layer(&mut graph, "Conv", "first", &[12, 1, 16], strides(4), "sound");
    let value = layer(&mut graph, "Conv", "second", &[16, 12, 5], strides(2), &value);
    let value = graph.add("GlobalAveragePool", &[&value], Vec::new());
    let value = graph.add("Flatten", &[&value], Vec::new());
    let turned = vec![Attribute::int("transB", 1)];
    let features = layer(&mut graph, "Gemm", "third", &[16, 16], turned, &value);
    let sizes = vec![Dimension::named("N"), Dimension::of(16)];
    graph.set_outputs(vec![ValueInfo::tensor(&features, element::FLOAT, sizes)]);
    graph
}

#[test]
#[ignore = "writes examples/fine_tune/tones.onnx anew: cargo test --release -p headstart-onnx-grad --test it -- --ignored six_pitches"]
fn a_network_learns_six_pitches_and_is_written_without_its_head() {
    let untrained = network();
    let features = untrained.outputs().to_vec();
    let mut tuning = Tuning::new(environment(), untrained.into_model().encode_to_vec(), 6, 3).unwrap();
    tuning.train(environment(), 1500, |_, _| Ok(())).unwrap();
    let held_out = Items::new(600, tuning.item(), 6, 3);
    let right = held_out.right(&tuning.logits(environment(), &held_out).unwrap());
    println!("{right} of 600 right");
    assert!(right > 480);
    let mut graph = read(tuning.file());
    graph.set_outputs(features);
    graph.prune();
    std::fs::write(tones(), graph.into_model().encode_to_vec()).unwrap();
}
