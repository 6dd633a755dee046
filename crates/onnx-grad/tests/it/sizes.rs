//! Sizes that depend on a graph's inputs, where small ones do not show it.

use headstart_onnx::proto::{
    Attribute, Dimension, Graph as Nodes, Model, Node, OperatorSet, Tensor, ValueInfo, element,
};
use headstart_onnx_grad::losses::WeightedSum;
use headstart_onnx_grad::{
    GradError, Graph, Observed, Options, Probe, ProbeError, Sample, TrainingGraph, differentiate,
};

use crate::graphs::{draw, model, normalised, output, training};
use crate::support::check::alike;
use crate::support::data::{Chance, Data};
use crate::support::runtime::{Loaded, Runtime};

/// Numbers between 0 and 1: behind them no `Relu` has a kink.
fn positive(name: &str, dims: &[usize]) -> Tensor {
    let mut chance = Chance::of(name);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| (0.5 + 0.5 * chance.number()) as f32).collect();
    Tensor::floats(name, dims, values)
}

/// Four convolutions of stride 2, the mean of what they make of `axes`, and a product.
fn strided(shape: &str, axes: usize, mean: &str) -> Model {
    let told = || {
        let all = |name: &str, value: i64, count: usize| Attribute::ints(name, vec![value; count]);
        vec![all("strides", 2, axes), all("pads", 1, 2 * axes)]
    };
    let (mut nodes, mut constants, mut value) = (Vec::new(), Vec::new(), "x".to_owned());
    for at in 0..4 {
        let [weight, bias, windows, bounded] = ["w", "b", "c", "r"].map(|name| format!("{name}{at}"));
        nodes.push(Node::new("Conv", &[&value, &weight, &bias], &[&windows], told()));
        nodes.push(Node::new("Relu", &[&windows], &[&bounded], Vec::new()));
        let kernel = [vec![2, 2], vec![3; axes]].concat();
        constants.extend([positive(&weight, &kernel), positive(&bias, &[2])]);
        value = bounded;
    }
    let spatial: Vec<i64> = (2..2 + axes as i64).collect();
    constants.push(Tensor::integers("spatial", &[axes], spatial));
    if mean == "GlobalAveragePool" {
        nodes.push(Node::new(mean, &[&value], &["pooled"], Vec::new()));
        nodes.push(Node::new("Flatten", &["pooled"], &["mean"], Vec::new()));
    } else {
        nodes.push(Node::new(mean, &[&value, "spatial"], &["mean"], vec![Attribute::int("keepdims", 0)]));
    }
    nodes.push(Node::new("Gemm", &["mean", "head"], &["y"], Vec::new()));
    constants.push(positive("head", &[2, 3]));
    model(18, shape, nodes, constants)
}

/// The gradient of a constant of a model at an input.
fn gradient(model: &Model, training: &TrainingGraph, trained: &[&str], x: &Data, of: &str) -> Vec<f64> {
    let graph = normalised(model);
    let y = output(model, x);
    let rows = x.shape[0];
    let mut given = vec![("x".to_owned(), x.clone())];
    given.push((training.loss_inputs[0].clone(), draw("cotangent", &[rows, y.len() / rows])));
    for name in trained {
        let tensor = graph.constant(name).unwrap();
        let values = tensor.to_numbers().unwrap();
        given.push(((*name).to_owned(), Data::floats(&tensor.shape().unwrap(), &values, element::FLOAT)));
    }
    let outputs = Loaded::new(&training.model).unwrap().run(&given).unwrap();
    outputs.iter().find(|(name, _)| *name == training.gradients[of]).unwrap().1.numbers()
}

/// The same by central differences of the output, which grows along a line with each element.
fn differences(model: &Model, x: &Data, of: &str) -> Vec<f64> {
    let rows = x.shape[0];
    let d = draw("cotangent", &[rows, output(model, x).len() / rows]).numbers();
    let loss = |at: usize, step: f32| {
        let mut model = model.clone();
        let constants = &mut model.graph.as_mut().unwrap().initializer;
        let place = constants.iter_mut().find(|tensor| tensor.name.as_deref() == Some(of)).unwrap();
        let mut values: Vec<f32> =
            place.to_numbers().unwrap().into_iter().map(|value| value as f32).collect();
        values[at] += step;
        *place = Tensor::floats(of, &place.shape().unwrap(), values);
        output(&model, x).iter().zip(&d).map(|(y, d)| y * d).sum::<f64>()
    };
    let count = normalised(model).constant(of).unwrap().len().unwrap();
    (0..count).map(|at| (loss(at, 0.25) - loss(at, -0.25)) / 0.5).collect()
}

#[test]
fn what_becomes_one_element_of_a_small_input_is_as_long_as_it_is_of_a_large_one() {
    for mean in ["GlobalAveragePool", "ReduceMean"] {
        for (shape, axes, sizes) in
            [("N,2,L", 1, vec![2, 2, 224]), ("N,2,H,W", 2, vec![2, 2, 40, 24]), ("N,2,L", 1, vec![1, 2, 9])]
        {
            let model = strided(shape, axes, mean);
            let mut chance = Chance::of("x");
            let values: Vec<f64> = (0..sizes.iter().product()).map(|_| 0.5 + 0.5 * chance.number()).collect();
            let x = Data::floats(&sizes, &values, element::FLOAT);
            let trained = ["w0", "b0", "w3", "head"];
            let training = training(&normalised(&model), &trained).unwrap();
            for of in trained {
                let found = gradient(&model, &training, &trained, &x, of);
                alike(&found, &differences(&model, &x, of), 1e-3, &format!("`{of}` by {mean} at {sizes:?}"));
            }
        }
    }
}

/// A runtime of graphs that read nothing longer than 64.
struct Short;

impl Probe for Short {
    fn run(
        &self,
        model: &Model,
        runs: &[Vec<Sample>],
        values: &[String],
    ) -> Result<Vec<Vec<Option<Observed>>>, ProbeError> {
        if runs.iter().flatten().any(|sample| sample.shape.iter().any(|size| *size > 64)) {
            return Err("there are 64 positions".into());
        }
        Runtime.run(model, runs, values)
    }
}

#[test]
fn a_graph_that_cannot_be_run_so_large_is_known_by_small_sizes_or_refused() {
    let loss = WeightedSum { values: vec!["y".to_owned()] };
    let made = |model: &Model, trained: &[&str]| {
        differentiate(&normalised(model), &loss, trained, &Short, &Options::default())
    };
    let refused = made(&strided("N,2,L", 1, "GlobalAveragePool"), &["head"]);
    let Err(GradError::Unsupported(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused[0].op, "Conv");
    assert!(refused[0].reason.contains("too small"), "{}", refused[0].reason);
    let nodes = vec![
        Node::new("Mul", &["x", "w"], &["scaled"], Vec::new()),
        Node::new("ReduceMean", &["scaled", "axes"], &["y"], vec![Attribute::int("keepdims", 0)]),
    ];
    let model = model(18, "N,L,2", nodes, vec![positive("w", &[2]), Tensor::integers("axes", &[1], [1])]);
    let training = made(&model, &["w"]).unwrap();
    let x = draw("x", &[2, 50, 2]);
    let found = gradient(&model, &training, &["w"], &x, "w");
    alike(&found, &differences(&model, &x, "w"), 1e-3, "`w`");
}

/// The mean of the last of so many inputs of sizes of their own, times a weight.
fn many(inputs: usize) -> Model {
    let name = |at: usize| if at + 1 == inputs { "x".to_owned() } else { format!("x{at}") };
    let nodes = Nodes {
        node: vec![
            Node::new("Mul", &["x", "w"], &["scaled"], Vec::new()),
            Node::new("ReduceMean", &["scaled"], &["y"], vec![Attribute::int("keepdims", 0)]),
        ],
        initializer: vec![positive("w", &[1])],
        input: (0..inputs)
            .map(|at| ValueInfo::tensor(&name(at), element::FLOAT, vec![Dimension::named(&format!("N{at}"))]))
            .collect(),
        output: vec![ValueInfo { name: Some("y".to_owned()), ..ValueInfo::default() }],
        ..Nodes::default()
    };
    let opset_import = vec![OperatorSet { domain: None, version: Some(18) }];
    Model { ir_version: Some(8), graph: Some(nodes), opset_import, ..Model::default() }
}

#[test]
fn each_of_many_sizes_is_its_own_and_too_many_are_refused() {
    let model = many(9);
    let training = training(&normalised(&model), &["w"]).unwrap();
    let mut given: Vec<(String, Data)> = (0..8).map(|at| (format!("x{at}"), draw("other", &[2]))).collect();
    let x = draw("x", &[6]);
    given.extend([("x".to_owned(), x.clone()), ("w".to_owned(), draw("w", &[1]))]);
    given.push((training.loss_inputs[0].clone(), Data::floats(&[], &[1.0], element::FLOAT)));
    let outputs = Loaded::new(&training.model).unwrap().run(&given).unwrap();
    let found = &outputs.iter().find(|(name, _)| *name == training.gradients["w"]).unwrap().1;
    alike(&found.numbers(), &[x.numbers().iter().sum::<f64>() / 6.0], 1e-6, "`w`");
    let loss = WeightedSum { values: vec!["y".to_owned()] };
    let graph = Graph::new(many(17)).unwrap();
    let refused = differentiate(&graph, &loss, &["w"], &Runtime, &Options::default());
    let Err(GradError::Probe(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.to_string().contains("more than 16 dimensions"), "{reason}");
}

#[test]
fn sizes_that_are_told_at_run_time_need_not_be_multiples_that_they_were_before() {
    // Twice as large, and at least 12.
    let nodes = vec![
        Node::new("Mul", &["x", "w"], &["scaled"], Vec::new()),
        Node::new("Shape", &["x"], &["shape"], Vec::new()),
        Node::new("Mul", &["shape", "twice"], &["doubled"], Vec::new()),
        Node::new("Max", &["doubled", "least"], &["sizes"], Vec::new()),
        Node::new(
            "Resize",
            &["scaled", "", "", "sizes"],
            &["large"],
            vec![
                Attribute::string("mode", "nearest"),
                Attribute::string("coordinate_transformation_mode", "asymmetric"),
                Attribute::string("nearest_mode", "floor"),
            ],
        ),
        Node::new("Mul", &["large", "slopes"], &["sloped"], Vec::new()),
        Node::new("Flatten", &["sloped"], &["flat"], Vec::new()),
        Node::new("ReduceSum", &["flat", "last"], &["y"], Vec::new()),
    ];
    let constants = vec![
        positive("w", &[3, 1]),
        positive("slopes", &[1, 1]),
        Tensor::integers("twice", &[4], [1, 1, 2, 2]),
        Tensor::integers("least", &[4], [0, 0, 12, 12]),
        Tensor::integers("last", &[1], [1]),
    ];
    let model = model(18, "N,1,3,W", nodes, constants);
    let training = training(&normalised(&model), &["w"]).unwrap();
    for sizes in [[2, 1, 3, 4], [1, 1, 3, 9]] {
        let x = draw("x", &sizes);
        let found = gradient(&model, &training, &["w"], &x, "w");
        alike(&found, &differences(&model, &x, "w"), 1e-3, &format!("`w` at {sizes:?}"));
    }
}
