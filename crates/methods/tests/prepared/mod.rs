//! What of a classifier is trained, and on what its graph is tried first.

use headstart_methods::data::Targets;
use headstart_methods::tune::{Choice, Delta, Goal, LowRank, Recipe, Tunable, What, Work, prepare, train};
use headstart_methods::{MethodError, Unattended};
use headstart_onnx::proto::{
    Attribute, Dimension, Graph, Model, Node, OperatorSet, Tensor as Constant, ValueInfo, element,
};
use headstart_types::manifest::{ChannelOrder, Filter, Fit, ImageSpec, Layout};
use prost::Message as _;

use crate::{ALL, CLASSES, Data, HIDDEN, WIDTH, answers, classifier, drawn, recipe, with_layers, workbench};

#[test]
fn a_weight_that_what_was_computed_once_reads_too_is_not_trained() {
    // Both layers are scaled by the same numbers.
    let (mut nodes, mut weights) = (Vec::new(), vec![Constant::floats("gain", &[WIDTH], drawn(7, WIDTH))]);
    for (layer, reads, gives, seed) in [("first", "x", "between", 5), ("second", "between", "again", 8)] {
        let [weight, bias, product, scaled] =
            ["weight", "bias", "product", "scaled"].map(|name| format!("{layer}.{name}"));
        let told = vec![Attribute::int("transB", 1)];
        nodes.extend([
            Node::new("Gemm", &[reads, &weight, &bias], &[&product], told),
            Node::new("Mul", &[&product, "gain"], &[&scaled], Vec::new()),
            Node::new("Tanh", &[&scaled], &[gives], Vec::new()),
        ]);
        weights.push(Constant::floats(&weight, &[WIDTH, WIDTH], drawn(seed, WIDTH * WIDTH)));
        weights.push(Constant::floats(&bias, &[WIDTH], drawn(seed + 1, WIDTH)));
    }
    let shared = with_layers(nodes, "again", weights);
    let bench = workbench();
    for prefix in [false, true] {
        let choice = Choice { what: What::LastBlocks(2), prefix, ..ALL };
        let tunable = prepare(&shared, ("features", "logits"), &choice, &bench, None).unwrap();
        assert_eq!(tunable.prefix.is_some(), prefix);
        let names: Vec<&str> = tunable.weights.iter().map(|weight| weight.name.as_str()).collect();
        let expected = ["second.weight", "second.bias", "layer.weight", "layer.bias", "rows", "bias"];
        assert_eq!(names, expected, "with a prefix: {prefix}");
    }
}

/// A convolution over pictures of any size, the mean of its windows, and a head.
fn pictures(axes: [&str; 3], order: &[i64]) -> Vec<u8> {
    let nodes = vec![
        Node::new("Transpose", &["x"], &["planes"], vec![Attribute::ints("perm", order.to_vec())]),
        Node::new("Conv", &["planes", "kernel"], &["windows"], vec![Attribute::ints("strides", vec![2, 2])]),
        Node::new("GlobalAveragePool", &["windows"], &["pooled"], Vec::new()),
        Node::new("Flatten", &["pooled"], &["features"], Vec::new()),
        Node::new("Gemm", &["features", "rows", "bias"], &["logits"], vec![Attribute::int("transB", 1)]),
    ];
    let dimensions = [&["N"], &axes[..]].concat().into_iter().map(Dimension::named).collect();
    let graph = Graph {
        node: nodes,
        initializer: vec![
            Constant::floats("kernel", &[HIDDEN, 3, 3, 3], drawn(1, HIDDEN * 27)),
            Constant::floats("rows", &[CLASSES, HIDDEN], drawn(3, CLASSES * HIDDEN)),
            Constant::floats("bias", &[CLASSES], drawn(4, CLASSES)),
        ],
        input: vec![ValueInfo::tensor("x", element::FLOAT, dimensions)],
        output: vec![ValueInfo { name: Some("logits".to_owned()), ..ValueInfo::default() }],
        ..Graph::default()
    };
    let opset_import = vec![OperatorSet { domain: None, version: Some(18) }];
    Model { ir_version: Some(8), graph: Some(graph), opset_import, ..Model::default() }.encode_to_vec()
}

#[test]
fn a_file_that_leaves_a_pictures_channels_open_is_trained_with_those_of_the_manifest() {
    let bench = workbench();
    let given = |layout| ImageSpec {
        size: 32,
        resize: 32,
        fit: Fit::default(),
        filter: Filter::Bilinear,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
        channel_order: ChannelOrder::Rgb,
        layout,
    };
    let cases = [
        (Layout::Nchw, pictures(["channels", "height", "width"], &[0, 1, 2, 3])),
        (Layout::Nhwc, pictures(["", "", ""], &[0, 3, 1, 2])),
    ];
    for (layout, file) in cases {
        let prepared =
            |picture: Option<&ImageSpec>| prepare(&file, ("features", "logits"), &ALL, &bench, picture);
        assert!(prepared(None).is_err(), "a picture of 11 or 7 channels fits no kernel");
        let tunable = prepared(Some(&given(layout))).unwrap();
        assert_eq!(tunable.weights[0].shape, [HIDDEN, 3, 3, 3]);
    }
}

#[test]
fn a_product_times_a_number_gets_no_factors_of_low_rank() {
    let told = |alpha| vec![Attribute::int("transB", 1), Attribute::number("alpha", alpha)];
    let bench = workbench();
    for (alpha, count) in [(1.0, 6), (0.5, 4)] {
        let nodes = vec![
            Node::new("Gemm", &["x", "first.weight", "first.bias"], &["first"], told(alpha)),
            Node::new("Tanh", &["first"], &["between"], Vec::new()),
        ];
        let weights = vec![
            Constant::floats("first.weight", &[WIDTH, WIDTH], drawn(5, WIDTH * WIDTH)),
            Constant::floats("first.bias", &[WIDTH], drawn(6, WIDTH)),
        ];
        let file = with_layers(nodes, "between", weights);
        let what = What::LowRank(LowRank { rank: 2, alpha: 4.0, targets: Vec::new(), seed: 1 });
        let tunable = prepare(&file, ("features", "logits"), &Choice { what, ..ALL }, &bench, None).unwrap();
        assert_eq!(tunable.weights.len(), count, "alpha {alpha}");
    }
}

#[test]
fn smoothing_takes_from_yes_and_from_no_alike_where_a_row_may_have_several_classes() {
    let bench = workbench();
    let data = Data::new();
    let Targets::Single(labels) = &data.targets else { panic!() };
    let rows: Vec<Vec<u32>> =
        labels.iter().map(|label| if *label == 1 { vec![1, 2] } else { vec![*label] }).collect();
    let targets = Targets::Multi(rows.clone());
    let logits = answers(&bench, &classifier(), &data.points, "logits");
    for smoothing in [0.0, 0.4] {
        let choice = Choice { goal: Goal::Labels { smoothing }, ..ALL };
        let tunable = prepare(&classifier(), ("features", "logits"), &choice, &bench, None).unwrap();
        let work = Work { tunable, targets: &targets, ..data.work(&bench) };
        // One step with all rows: its loss is that of the first weights.
        let recipe = Recipe { epochs: 1, batch_size: 300, ..recipe() };
        let tuned = train(&work, &recipe, &bench, &mut Unattended).unwrap();
        let terms = data.learn.iter().flat_map(|row| (0..CLASSES).map(move |class| (*row, class)));
        let loss: f64 = terms
            .map(|(row, class)| {
                let z = f64::from(logits[row * CLASSES + class]);
                let hard = f64::from(u8::from(rows[row].contains(&(class as u32))));
                let target = hard * (1.0 - smoothing) + smoothing / 2.0;
                z.exp().ln_1p() - target * z
            })
            .sum();
        let expected = loss / (data.learn.len() * CLASSES) as f64;
        assert!((tuned.epochs[0].loss - expected).abs() < 1e-5, "{:?}, not {expected}", tuned.epochs);
    }
}

fn names(tunable: &Tunable) -> Vec<&str> {
    tunable.weights.iter().map(|weight| weight.name.as_str()).collect()
}

#[test]
fn a_batch_normalisation_that_stands_alone_is_trained_but_for_its_statistics() {
    let bench = workbench();
    let reads = ["x", "gain", "shift", "mean", "variance"];
    let weights = reads[1..].iter().zip(20..).map(|(name, seed)| {
        Constant::floats(name, &[WIDTH], drawn(seed, WIDTH).into_iter().map(|value| value.abs() + 0.5))
    });
    let nodes = vec![Node::new("BatchNormalization", &reads, &["alike"], Vec::new())];
    let file = with_layers(nodes, "alike", weights.collect());
    let tunable = prepare(&file, ("features", "logits"), &ALL, &bench, None).unwrap();
    assert_eq!(names(&tunable), ["gain", "shift", "layer.weight", "layer.bias", "rows", "bias"]);
}

#[test]
fn a_mask_that_is_added_to_scores_is_no_weight() {
    let bench = workbench();
    let data = Data::new();
    let axes = |name: &str, axis: i64| Constant::integers(name, &[1], [axis]);
    // Each number attends to itself and those before it.
    let nodes = vec![
        Node::new("Unsqueeze", &["x", "last"], &["column"], Vec::new()),
        Node::new("Unsqueeze", &["x", "middle"], &["line"], Vec::new()),
        Node::new("MatMul", &["column", "line"], &["scores"], Vec::new()),
        Node::new("Add", &["scores", "mask"], &["masked"], Vec::new()),
        Node::new("Softmax", &["masked"], &["shares"], vec![Attribute::int("axis", -1)]),
        Node::new("MatMul", &["shares", "column"], &["mixed"], Vec::new()),
        Node::new("Squeeze", &["mixed", "last"], &["flat"], Vec::new()),
    ];
    for shut in [f32::MIN, f32::NEG_INFINITY, -1e4] {
        let mask = (0..WIDTH * WIDTH).map(|at| if at % WIDTH > at / WIDTH { shut } else { 0.0 });
        let weights =
            vec![axes("last", 2), axes("middle", 1), Constant::floats("mask", &[WIDTH, WIDTH], mask)];
        let file = with_layers(nodes.clone(), "flat", weights);
        let tunable = prepare(&file, ("features", "logits"), &ALL, &bench, None).unwrap();
        assert_eq!(names(&tunable), ["layer.weight", "layer.bias", "rows", "bias"], "{shut}");
        let work = Work { tunable, ..data.work(&bench) };
        let recipe = Recipe { epochs: 1, weight_decay: 0.01, share: Some(1.0), ..recipe() };
        let tuned = train(&work, &recipe, &bench, &mut Unattended).unwrap();
        assert!(Delta::between(&work.tunable, &tuned.weights).is_ok(), "{shut}");
    }
}

#[test]
fn weights_farther_off_than_half_precision_reaches_are_no_delta() {
    let tunable = prepare(&classifier(), ("features", "logits"), &ALL, &workbench(), None).unwrap();
    let mut far = tunable.weights.clone();
    far[0].values[0] += 1e6;
    assert!(matches!(Delta::between(&tunable, &far), Err(MethodError::Diverged)));
}
