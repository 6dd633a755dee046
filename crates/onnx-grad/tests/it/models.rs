//! The bundled backbones, whole: gradients against PyTorch's autograd in float64 (tools/golden/gradients.py).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headstart_onnx::Limits;
use headstart_onnx::proto::{Attribute, Model, Node, Tensor, ValueInfo, element};
use headstart_onnx_grad::losses::CrossEntropy;
use headstart_onnx_grad::lower::{Kernels, Lowering, Portable};
use headstart_onnx_grad::{Graph, Options, TrainingGraph, differentiate, normalise, widen};
use ort::session::builder::GraphOptimizationLevel;

use crate::support::data::{Chance, Data};
use crate::support::runtime::{Loaded, Runtime, lowerings};

/// Lists of signs that a gradient is multiplied with.
const SIGNS: usize = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn backbone(name: &str) -> Graph {
    let file = std::fs::read(root().join("models").join(name).join("model.onnx")).unwrap();
    let mut graph = Graph::new(Model::read(file.into(), &Limits::default()).unwrap()).unwrap();
    normalise(&mut graph).unwrap();
    graph
}

fn reference(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(root().join("crates/onnx-grad/tests/golden/gradients.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()[name].clone()
}

/// Constants of floats with axes: weights.
fn weights(graph: &Graph) -> Vec<String> {
    let float = |tensor: &Tensor| tensor.elements() == element::FLOAT && !tensor.dims.is_empty();
    graph.constants().filter(|(_, tensor)| float(tensor)).map(|(name, _)| name.to_owned()).collect()
}

/// The mean of the kept tokens, and a head that draws its weights.
fn with_head(mut graph: Graph) -> (Graph, String) {
    let to = |kind: i32| vec![Attribute::int("to", i64::from(kind))];
    let kept = graph.add("Cast", &["attention_mask"], to(element::FLOAT));
    let (middle, last) = (Tensor::integers("middle", &[1], [1]), Tensor::integers("last", &[1], [2]));
    let (middle, last) = (graph.add_constant(middle), graph.add_constant(last));
    let kept = graph.add("Unsqueeze", &[&kept, &last], Vec::new());
    let states = graph.add("Mul", &["last_hidden_state", &kept], Vec::new());
    let apart = || vec![Attribute::int("keepdims", 0)];
    let sum = graph.add("ReduceSum", &[&states, &middle], apart());
    let count = graph.add("ReduceSum", &[&kept, &middle], apart());
    let pooled = graph.add("Div", &[&sum, &count], Vec::new());
    let mut drawn = |name: &str, dims: &[usize]| {
        let mut chance = Chance::of(name);
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| (0.5 * chance.number()) as f32).collect();
        graph.add_constant(Tensor::floats(name, dims, values))
    };
    let (weight, bias) = (drawn("head.weight", &[384, 4]), drawn("head.bias", &[4]));
    let logits = graph.add("Gemm", &[&pooled, &weight, &bias], Vec::new());
    (graph, logits)
}

/// Trains every weight with cross-entropy.
fn training(graph: &Graph, logits: &str, trainable: &[String]) -> TrainingGraph {
    training_in(&Portable, graph, logits, trainable)
}

/// The same, written by a lowering.
fn training_in(
    lowering: &'static dyn Lowering,
    graph: &Graph,
    logits: &str,
    trainable: &[String],
) -> TrainingGraph {
    let loss = CrossEntropy { logits: logits.to_owned(), smoothing: 0.0 };
    let options = Options { outputs: vec![logits.to_owned()], lowering, ..Options::default() };
    let trainable: Vec<&str> = trainable.iter().map(String::as_str).collect();
    differentiate(graph, &loss, &trainable, &Runtime, &options).unwrap()
}

/// Runs a training graph; its outputs by name.
fn run(
    training: &TrainingGraph,
    graph: &Graph,
    level: GraphOptimizationLevel,
    given: &[(String, Data)],
    labels: &[i64],
    weights: &[f64],
) -> BTreeMap<String, Data> {
    let mut given = given.to_vec();
    for name in training.gradients.keys() {
        let tensor = graph.constant(name).unwrap();
        let values = tensor.to_numbers().unwrap();
        given.push((name.clone(), Data::floats(&tensor.shape().unwrap(), &values, element::FLOAT)));
    }
    let rows = labels.len();
    given.push((training.loss_inputs[0].clone(), Data::integers(&[rows], labels)));
    given.push((training.loss_inputs[1].clone(), Data::floats(&[rows], weights, element::FLOAT)));
    Loaded::at(&training.model, level).unwrap().run(&given).unwrap().into_iter().collect()
}

/// How far a gradient is from its reference, in root mean square over its products with lists of signs.
fn distance(name: &str, gradient: &[f64], reference: &serde_json::Value) -> f64 {
    let squares: f64 = (0..SIGNS)
        .map(|at| {
            let mut chance = Chance::of(&format!("{name}/{at}"));
            let product: f64 = gradient.iter().map(|value| if chance.sign() { -value } else { *value }).sum();
            (product - reference["products"][at].as_f64().unwrap()).powi(2)
        })
        .sum();
    (squares / SIGNS as f64).sqrt()
}

/// Compares loss and all gradients of a model with the reference's.
pub(crate) fn compare(
    name: &str,
    reference: &serde_json::Value,
    training: &TrainingGraph,
    outputs: &BTreeMap<String, Data>,
    most: f64,
    median: f64,
) {
    let loss = outputs[&training.loss].numbers()[0];
    let expected = reference["loss"].as_f64().unwrap();
    assert!(
        (loss - expected).abs() <= 1e-5 * expected.abs().max(1.0),
        "{name}: the loss is {loss}, PyTorch's {expected}"
    );
    let references = reference["gradients"].as_object().unwrap();
    let longest = references.values().map(|one| one["length"].as_f64().unwrap()).fold(0.0, f64::max);
    let mut far: Vec<(f64, &String)> = Vec::new();
    for (weight, output) in &training.gradients {
        let reference =
            references.get(weight).unwrap_or_else(|| panic!("{name}: no reference for `{weight}`"));
        let (length, off) =
            (reference["length"].as_f64().unwrap(), distance(weight, &outputs[output].numbers(), reference));
        if length < 1e-12 * longest {
            // 0 but for rounding, such as that of a bias of keys, which no softmax sees.
            assert!(off <= 1e-6 * longest, "{name}: the gradient of `{weight}` is not 0");
        } else {
            far.push((off / length, weight));
        }
    }
    far.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (off, weight) in far.iter().filter(|(off, _)| *off > most) {
        println!("{name}: the gradient of `{weight}` is {off:.1e} off");
    }
    let (largest, middle) = (far.last().unwrap(), far[far.len() / 2].0);
    println!("{name}: {} tensors, median {middle:.1e}, largest {:.1e} ({})", far.len(), largest.0, largest.1);
    assert!(largest.0 <= most, "{name}: the gradient of `{}` is {:.1e} off", largest.1, largest.0);
    assert!(middle <= median, "{name}: gradients are {middle:.1e} off, in the middle");
}

/// Three texts of up to nine tokens, as the reference has them.
fn texts(rows: usize, places: usize) -> Vec<(String, Data)> {
    let of = |value: fn(i64, i64) -> i64| {
        let all = (0..rows as i64).flat_map(|row| (0..places as i64).map(move |place| value(row, place)));
        Data::integers(&[rows, places], &all.collect::<Vec<_>>())
    };
    vec![
        ("input_ids".to_owned(), of(|row, place| 1000 + 37 * row + 11 * place)),
        ("attention_mask".to_owned(), of(|row, place| i64::from(place < 9 - 2 * row))),
        ("token_type_ids".to_owned(), of(|_, _| 0)),
    ]
}

/// The mean over rows.
fn mean(rows: usize) -> Vec<f64> {
    vec![1.0 / rows as f64; rows]
}

#[test]
fn minilm_as_bundled_has_the_gradients_of_pytorch_in_float64() {
    let mut graph = backbone("all-minilm-l6-v2");
    widen(&mut graph, "embeddings.word_embeddings.weight.float16").unwrap();
    let (graph, logits) = with_head(graph);
    for (lowering, level) in lowerings() {
        let training = training_in(lowering, &graph, &logits, &weights(&graph));
        assert_eq!(training.gradients.len(), 103);
        let outputs = run(&training, &graph, level, &texts(3, 9), &[1, 0, 3], &mean(3));
        compare("all-minilm-l6-v2", &reference("all-minilm-l6-v2"), &training, &outputs, 1e-4, 5e-6);
    }
}

/// Gradients of the image backbone for two pictures of noise.
fn pictured(graph: &Graph, lowering: &'static dyn Lowering) -> (TrainingGraph, BTreeMap<String, Data>) {
    let training = training_in(lowering, graph, "logits", &weights(graph));
    let mut chance = Chance::of("image");
    let pixels: Vec<f64> = (0..2 * 3 * 224 * 224).map(|_| chance.number()).collect();
    let given = vec![("image".to_owned(), Data::floats(&[2, 3, 224, 224], &pixels, element::FLOAT))];
    let outputs = run(&training, graph, GraphOptimizationLevel::All, &given, &[1, 8], &mean(2));
    (training, outputs)
}

#[test]
fn efficientnet_as_bundled_has_the_gradients_of_pytorch_in_float64() {
    let (training, outputs) = pictured(&backbone("efficientnet-lite0"), &Portable);
    assert_eq!(training.gradients.len(), 100);
    // Among millions of values some lie so near a bound of `Clip` that the last bit decides, and each such decision moves a
    // whole gradient by a thousandth. The next test is without.
    compare("efficientnet-lite0", &reference("efficientnet-lite0"), &training, &outputs, 5e-3, 2e-3);
}

#[test]
fn bounds_of_windows_are_kept_by_the_convolution_and_its_biases_are_summed_with_their_gradient() {
    let graph = backbone("efficientnet-lite0");
    let written = |lowering| {
        let model = training_in(lowering, &graph, "logits", &weights(&graph)).model;
        let nodes = model.graph.unwrap().node;
        let count = |op: &str| nodes.iter().filter(|node| node.op() == op).count();
        let summing =
            nodes.iter().filter(|node| node.op() == "ClipGradient" && node.output.len() == 2).count();
        (count("Clip"), count("ClipGradient"), summing)
    };
    let (clips, ..) = written(&Portable);
    assert!(clips > 0);
    assert_eq!(written(&Kernels), (0, clips, clips));
}

#[test]
fn efficientnet_without_kinks_has_the_gradients_of_pytorch_in_float64() {
    let file = std::fs::read(root().join("models/efficientnet-lite0/model.onnx")).unwrap();
    let mut model = Model::read(file.into(), &Limits::default()).unwrap();
    let nodes = &mut model.graph.as_mut().unwrap().node;
    *nodes = std::mem::take(nodes).into_iter().flat_map(smooth).collect();
    let constants = [("three", 3.0), ("six", 6.0)].map(|(name, value)| Tensor::floats(name, &[], [value]));
    model.graph.as_mut().unwrap().initializer.extend(constants);
    let mut graph = Graph::new(model).unwrap();
    normalise(&mut graph).unwrap();
    for (lowering, _) in lowerings().into_iter().filter(|(_, level)| *level == GraphOptimizationLevel::All) {
        let (training, outputs) = pictured(&graph, lowering);
        compare("smooth", &reference("smooth"), &training, &outputs, 1e-4, 5e-6);
    }
}

/// `6·σ(x - 3)` in the place of `min(max(x, 0), 6)`.
fn smooth(node: Node) -> Vec<Node> {
    let (true, Some(x), Some(y)) = (node.is("Clip"), node.reads(0), node.makes(0)) else { return vec![node] };
    let (moved, share) = (format!("{y}/moved"), format!("{y}/share"));
    vec![
        Node::new("Sub", &[x, "three"], &[&moved], Vec::new()),
        Node::new("Sigmoid", &[&moved], &[&share], Vec::new()),
        Node::new("Mul", &[&share, "six"], &[y], Vec::new()),
    ]
}

#[test]
fn rows_of_no_weight_change_nothing() {
    let (graph, logits) = with_head(backbone("all-minilm-l6-v2"));
    let trainable =
        ["head.weight", "encoder.layer.5.output.dense.weight", "encoder.layer.5.output.LayerNorm.bias"];
    let training = training(&graph, &logits, &trainable.map(str::to_owned));
    let level = GraphOptimizationLevel::All;
    let short = run(&training, &graph, level, &texts(2, 9), &[1, 0], &mean(2));
    let long = run(&training, &graph, level, &texts(4, 9), &[1, 0, 2, 2], &[0.5, 0.5, 0.0, 0.0]);
    for (weight, gradient) in &training.gradients {
        let (short, long) = (short[gradient].numbers(), long[gradient].numbers());
        crate::support::check::alike(&long, &short, 1e-5, weight);
    }
}

#[test]
fn what_is_not_trained_stays_in_the_file_and_nothing_below_is_computed_for_it() {
    let (graph, logits) = with_head(backbone("all-minilm-l6-v2"));
    let all = training(&graph, &logits, &weights(&graph));
    let last = training(&graph, &logits, &["encoder.layer.5.output.dense.weight".to_owned()]);
    let nodes = |training: &TrainingGraph| training.model.graph.as_ref().unwrap().node.len();
    assert!(nodes(&last) * 2 < nodes(&all), "{} of {} nodes", nodes(&last), nodes(&all));
    let inputs = &last.model.graph.as_ref().unwrap().input;
    let named = |input: &ValueInfo| input.name.clone().unwrap();
    assert!(inputs.iter().map(named).any(|name| name == "encoder.layer.5.output.dense.weight"));
    assert!(inputs.iter().map(named).all(|name| name != "head.weight"));
}
