//! Weights that tuning changed, rounded again for a graph of low precision: the bundled one, and small ones of which
//! something is off.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use headstart_methods::MethodError;
use headstart_methods::rng::Rng;
use headstart_methods::tune::{Delta, Goal, Initial, Role, Tunable, can_be_rounded};
use headstart_onnx::proto::{Graph, Model, Node, OperatorSet, Tensor, ValueInfo, element};
use headstart_types::runner::{Graphs, Trained};
use prost::Message as _;

const FEATURES: &str = "last_hidden_state";
const WORDS: &str = "embeddings.word_embeddings.weight.float16";
/// No operator whose constants are weights reads it.
const POSITIONS: &str = "embeddings.position_embeddings.weight.float16";

fn bundled(name: &str) -> Vec<u8> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    std::fs::read(models.join(name).join("model.onnx")).unwrap()
}

fn constants(file: &[u8]) -> BTreeMap<String, Tensor> {
    let graph = Model::decode(file).unwrap().graph.unwrap();
    graph.initializer.into_iter().map(|tensor| (tensor.name.clone().unwrap(), tensor)).collect()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.to_numbers().unwrap().into_iter().map(|value| value as f32).collect()
}

/// The weights of the bundled original as they came, by the names that a training has for them.
fn originals() -> Vec<Trained> {
    let weight = |(name, tensor): (&String, &Tensor)| {
        let cast = name.strip_suffix(".float16").filter(|_| name != WORDS).unwrap_or(name);
        let (shape, values) = (tensor.shape().unwrap(), numbers(tensor));
        Trained { name: cast.to_owned(), gradient: String::new(), shape, values }
    };
    let held = constants(&bundled("all-minilm-l6-v2"));
    let learns = |(name, tensor): &(&String, &Tensor)| {
        let float = matches!(tensor.elements(), element::FLOAT | element::HALF);
        float && tensor.len().unwrap() > 1 && name.as_str() != POSITIONS
    };
    held.iter().filter(learns).map(weight).collect()
}

fn delta(first: Vec<Trained>, last: &[Trained]) -> Delta {
    let tunable = Tunable {
        prefix: None,
        graphs: Graphs { training: Vec::new(), forward: Vec::new() },
        roles: vec![Role::Backbone(0.0); first.len()],
        initial: vec![Initial::Constant(0.0); first.len()],
        weights: first,
        output: String::new(),
        loss: String::new(),
        loss_inputs: Vec::new(),
        goal: Goal::Pairs,
    };
    Delta::between(&tunable, last).unwrap()
}

fn requantised(delta: &Delta) -> Vec<u8> {
    let (original, quantised) = (bundled("all-minilm-l6-v2"), bundled("all-minilm-l6-v2-int8"));
    let parted = delta.requantise((&original, FEATURES), (&quantised, FEATURES), "weights.bin").unwrap();
    parted.whole().unwrap()
}

/// What bytes with a step a column stand for, `[inputs, outputs]`.
fn widened(bytes: &Tensor, steps: &Tensor) -> Vec<f32> {
    let steps = numbers(steps);
    let bytes = bytes.to_integers().unwrap();
    bytes.iter().zip(steps.iter().cycle()).map(|(byte, step)| *byte as f32 * step).collect()
}

fn length(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}

#[test]
fn every_weight_of_the_bundled_original_has_its_place_in_the_bundled_bytes() {
    let (original, quantised) = (bundled("all-minilm-l6-v2"), bundled("all-minilm-l6-v2-int8"));
    for embeddings in [false, true] {
        can_be_rounded((&original, FEATURES), (&quantised, FEATURES), embeddings).unwrap();
    }
}

/// The bundled bytes were rounded from single precision and the original keeps half: where a weight lies between two bytes the
/// two may differ by one, and where two of the steps tried lose as little the other one may win.
#[test]
fn without_any_change_the_bundled_bytes_come_back_but_for_what_half_precision_loses() {
    let first = originals();
    let before = constants(&bundled("all-minilm-l6-v2-int8"));
    let after = constants(&requantised(&delta(first.clone(), &first)));
    let (mut bytes, mut other_bytes, mut columns, mut other_steps) = (0, 0, 0, 0);
    for (name, was) in &before {
        let is = &after[name];
        let Some(weight) = name.strip_suffix(".int8") else {
            // Steps are looked at with their bytes.
            assert!(name.ends_with(".step") || is == was, "{name}");
            continue;
        };
        let table = weight == WORDS.trim_end_matches(".float16");
        let steps = if table { "embeddings.word_embeddings.step" } else { &format!("{weight}.step") };
        let (was_steps, is_steps) = (numbers(&before[steps]), numbers(&after[steps]));
        let same: Vec<bool> =
            was_steps.iter().zip(&is_steps).map(|(was, is)| (was - is).abs() < 1e-3 * was).collect();
        columns += same.len();
        other_steps += same.iter().filter(|same| !**same).count();
        let width = was.shape().unwrap()[1];
        for (at, (was, is)) in
            was.to_integers().unwrap().into_iter().zip(is.to_integers().unwrap()).enumerate()
        {
            if same[if table { at / width } else { at % width }] {
                assert!((was - is).abs() <= 1, "{name}: {was} became {is}");
                bytes += 1;
                other_bytes += usize::from(was != is);
            }
        }
    }
    println!("{other_bytes} of {bytes} bytes differ by one, {other_steps} of {columns} steps are others");
    assert!(bytes > 20_000_000 && other_bytes * 100 < bytes && other_steps * 100 < columns);
}

#[test]
fn what_was_trained_is_rounded_and_all_else_stays_bit_for_bit() {
    let layer = "encoder.layer.3";
    let (down, key, norm) = (
        format!("{layer}.output.dense.weight"),
        format!("{layer}.attention.self.key"),
        format!("{layer}.output.LayerNorm.weight"),
    );
    let names = [down.clone(), format!("{key}.weight"), format!("{key}.bias"), norm.clone()];
    let first: Vec<Trained> = originals().into_iter().filter(|weight| names.contains(&weight.name)).collect();
    assert_eq!(first.len(), names.len());
    let mut chance = Rng::new(3);
    let mut last = first.clone();
    for value in last.iter_mut().flat_map(|weight| &mut weight.values) {
        *value += (chance.unit() as f32 - 0.5) * 0.05;
    }
    let (before, file) = (bundled("all-minilm-l6-v2-int8"), requantised(&delta(first, &last)));
    let nodes = |file: &[u8]| Model::decode(file).unwrap().graph.unwrap().node;
    assert_eq!(nodes(&before), nodes(&file));
    let (before, after) = (constants(&before), constants(&file));
    let changed: Vec<&str> = before
        .iter()
        .filter(|(name, tensor)| after[*name] != **tensor)
        .map(|(name, _)| name.as_str())
        .collect();
    let expected =
        ["attention.self.key.bias", "attention.self.key.weight.int8", "attention.self.key.weight.step"];
    let expected = expected.into_iter().chain([
        "output.LayerNorm.weight",
        "output.dense.weight.int8",
        "output.dense.weight.step",
    ]);
    assert_eq!(changed, expected.map(|name| format!("{layer}.{name}")).collect::<Vec<_>>());
    let of = |name: &str| last.iter().find(|weight| weight.name == name).unwrap().values.clone();
    for name in [format!("{key}.bias"), norm] {
        let apart = numbers(&after[&name]).into_iter().zip(of(&name)).map(|(is, wanted)| (is - wanted).abs());
        assert!(apart.fold(0.0, f32::max) < 2e-5, "{name}: half precision keeps the difference");
    }
    for (name, site) in [
        (down.clone(), format!("{layer}.output.dense")),
        (names[1].clone(), format!("{layer}.attention.self")),
    ] {
        let held = widened(&after[&format!("{name}.int8")], &after[&format!("{name}.step")]);
        let wanted = of(&name);
        let factors = numbers(&after[&format!("{site}.factors")]);
        let columns = wanted.len() / factors.len();
        let apart = held.chunks(columns).zip(wanted.chunks(columns)).zip(&factors).flat_map(
            |((held, wanted), factor)| {
                held.iter().zip(wanted).map(move |(held, wanted)| held * factor - wanted)
            },
        );
        // Bytes of the bundled file are as far from the original's weights.
        let lost = length(apart) / length(wanted.iter().copied());
        assert!(lost < 0.04, "{name}: {lost}");
    }
}

const WIDTH: usize = 4;

fn file(nodes: Vec<Node>, constants: Vec<Tensor>) -> Vec<u8> {
    let value = |name: &str| ValueInfo::tensor(name, element::FLOAT, Vec::new());
    let (input, output) = (vec![value("x")], vec![value("features")]);
    let graph = Graph { node: nodes, initializer: constants, input, output, ..Graph::default() };
    let opset_import = vec![OperatorSet { domain: None, version: Some(18) }];
    Model { ir_version: Some(8), graph: Some(graph), opset_import, ..Model::default() }.encode_to_vec()
}

fn drawn(seed: u64, count: usize) -> Vec<f32> {
    let mut chance = Rng::new(seed);
    (0..count).map(|_| (chance.unit() * 2.0 - 1.0) as f32).collect()
}

/// Two layers; the second one's weights have `second` for a name.
fn original(second: &str, bias: Vec<f32>) -> Vec<u8> {
    let nodes = vec![
        Node::new("Gemm", &["x", "w1", "b1"], &["hidden"], Vec::new()),
        Node::new("Gemm", &["hidden", second, "b2"], &["features"], Vec::new()),
    ];
    let matrix = |name: &str, seed| Tensor::floats(name, &[WIDTH, WIDTH], drawn(seed, WIDTH * WIDTH));
    let biases = [("b1", bias.clone()), ("b2", bias.iter().map(|value| 2.0 * value).collect())];
    let biases = biases.map(|(name, values)| Tensor::floats(name, &[WIDTH], values));
    file(nodes, [matrix("w1", 1), matrix("w2", 2)].into_iter().chain(biases).collect())
}

/// The same in bytes: weights of that seed, biases called so, and what else a product reads.
fn quantised(seed: u64, biases: [&str; 2], bias: Vec<f32>, zero_point: &str) -> Vec<u8> {
    let (mut nodes, mut constants) = (Vec::new(), vec![Tensor::floats("step", &[], [0.1])]);
    for (at, (given, made)) in [("x", "hidden"), ("hidden", "features")].into_iter().enumerate() {
        let name = |what: &str| format!("{what}.{at}");
        nodes.push(Node::new("QuantizeLinear", &[given, "step", "zero"], &[&name("rounded")], Vec::new()));
        let (rounded, bytes, steps) = (name("rounded"), name("bytes"), name("steps"));
        let inputs = [&rounded, &bytes, "step", &steps, "zero", zero_point, biases[at]];
        nodes.push(Node::new("MatMulIntegerToFloat", &inputs, &[made], Vec::new()).from_set("com.microsoft"));
        let bytes: Vec<i8> =
            drawn(seed + at as u64, WIDTH * WIDTH).iter().map(|value| (value * 127.0) as i8).collect();
        constants.push(Tensor::signed_bytes(&name("bytes"), &[WIDTH, WIDTH], bytes));
        constants.push(Tensor::floats(&name("steps"), &[WIDTH], [1.0 / 127.0; WIDTH]));
        let times = (at + 1) as f32;
        constants.push(Tensor::floats(biases[at], &[WIDTH], bias.iter().map(|value| times * value)));
    }
    file(nodes, constants)
}

#[test]
fn a_weight_without_a_place_of_its_own_is_named_before_anything_is_trained() {
    let bias = || drawn(7, WIDTH);
    let check = |original: &[u8], quantised: &[u8]| {
        can_be_rounded((original, "features"), (quantised, "features"), false)
    };
    // Names say nothing.
    check(&original("w2", bias()), &quantised(1, ["p", "q"], bias(), "")).unwrap();
    // Zeros are alike: then names do.
    let zeros = || vec![0.0; WIDTH];
    check(&original("w2", zeros()), &quantised(1, ["b1", "b2"], zeros(), "")).unwrap();
    let cases = [
        (original("w2", bias()), quantised(5, ["b1", "b2"], bias(), ""), "w1", "no weight like it"),
        (original("w2", bias()), quantised(1, ["b1", "b2"], drawn(9, WIDTH), ""), "b1", "no weight like it"),
        (original("w2", bias()), quantised(1, ["b1", "b2"], bias(), "zero"), "w1", "no weight like it"),
        (original("w1", bias()), quantised(1, ["b1", "b2"], bias(), ""), "w1", "not exactly one node"),
        (original("w2", zeros()), quantised(1, ["p", "q"], zeros(), ""), "b1", "alike"),
    ];
    for (original, quantised, named, why) in cases {
        match check(&original, &quantised) {
            Err(MethodError::Rounding { weight, problem }) => {
                assert!(weight == named && problem.contains(why), "{weight}: {problem}, not {named}: {why}");
            }
            other => unreachable!("{other:?} where `{named}` is to be refused: {why}"),
        }
    }
}
