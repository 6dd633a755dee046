//! Losses and their gradients against the formulas on the host and their central differences.

use headstart_onnx::proto::{Dimension, Graph as Nodes, Model, Node, OperatorSet, ValueInfo, element};
use headstart_onnx_grad::losses::{
    BinaryCrossEntropy, Contrastive, CrossEntropy, DomainConfusion, MeanSquaredError, SequenceCrossEntropy,
    Total,
};
use headstart_onnx_grad::{GradError, Graph, Loss, Options, TrainingGraph, differentiate};

use crate::support::check::alike;
use crate::support::data::{Chance, Data};
use crate::support::runtime::{Loaded, Runtime};

/// A graph that hands its input `x` on as `y`.
fn handing_on(shape: &str, elements: i32) -> Graph {
    let dimension = |size: &str| size.parse().map_or_else(|_| Dimension::named(size), Dimension::of);
    let input = ValueInfo::tensor("x", elements, shape.split(',').map(dimension).collect());
    let nodes = Nodes {
        node: vec![Node::new("Identity", &["x"], &["y"], Vec::new())],
        input: vec![input],
        output: vec![ValueInfo { name: Some("y".to_owned()), ..ValueInfo::default() }],
        ..Nodes::default()
    };
    let opset_import = vec![OperatorSet { domain: None, version: Some(21) }];
    Graph::new(Model { ir_version: Some(8), graph: Some(nodes), opset_import, ..Model::default() }).unwrap()
}

fn training(graph: &Graph, loss: &dyn Loss) -> TrainingGraph {
    differentiate(graph, loss, &["x"], &Runtime, &Options::default()).unwrap()
}

/// Loss and gradient by `x`.
fn run(training: &TrainingGraph, x: Data, inputs: Vec<Data>) -> (f64, Vec<f64>) {
    let mut given = vec![("x".to_owned(), x)];
    given.extend(training.loss_inputs.iter().cloned().zip(inputs));
    let outputs = Loaded::new(&training.model).unwrap().run(&given).unwrap();
    let of = |name: &str| outputs.iter().find(|(found, _)| found == name).unwrap().1.numbers();
    (of(&training.loss)[0], of(&training.gradients["x"]))
}

/// Compares a loss of `x` of a shape with a function on the host; `inputs` are the loss's, in floats of a type.
fn check(
    loss: &dyn Loss,
    (shape, sizes): (&str, &[usize]),
    inputs: impl Fn(i32) -> Vec<Data>,
    host: impl Fn(&[f64]) -> f64,
) {
    let mut chance = Chance::of("x");
    let x: Vec<f64> = (0..sizes.iter().product()).map(|_| 2.0 * chance.number()).collect();
    let graph = training(&handing_on(shape, element::DOUBLE), loss);
    let (value, gradient) = run(&graph, Data::floats(sizes, &x, element::DOUBLE), inputs(element::DOUBLE));
    assert!((value - host(&x)).abs() <= 1e-9, "the loss is {value}, not {}", host(&x));
    for at in 0..x.len() {
        let moved = |step: f64| {
            let mut moved = x.clone();
            moved[at] += step;
            host(&moved)
        };
        let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((gradient[at] - numeric).abs() <= 1e-7, "element {at}: {}, not {numeric}", gradient[at]);
    }
    let graph = training(&handing_on(shape, element::FLOAT), loss);
    let (_, single) = run(&graph, Data::floats(sizes, &x, element::FLOAT), inputs(element::FLOAT));
    alike(&single, &gradient, 1e-5, "the loss in 32 bits");
}

const WEIGHTS: [f64; 4] = [0.5, 0.0, 0.2, 0.3];
const LABELS: [i64; 4] = [2, 0, 1, 2];

/// The logarithm of each class's share.
fn log_softmax(row: &[f64]) -> Vec<f64> {
    let partition = row.iter().map(|z| z.exp()).sum::<f64>().ln();
    row.iter().map(|z| z - partition).collect()
}

fn cross_entropy(x: &[f64], classes: usize, smoothing: f64) -> f64 {
    let rows = x.chunks(classes).zip(LABELS).zip(WEIGHTS);
    rows.map(|((row, label), weight)| {
        let log = log_softmax(row);
        let spread: f64 = log.iter().sum::<f64>() * smoothing / classes as f64;
        -weight * ((1.0 - smoothing) * log[label as usize] + spread)
    })
    .sum()
}

#[test]
fn cross_entropy_takes_weights_and_smoothing() {
    for smoothing in [0.0, 0.1] {
        let loss = CrossEntropy { logits: "y".to_owned(), smoothing };
        let inputs = |kind| vec![Data::integers(&[4], &LABELS), Data::floats(&[4], &WEIGHTS, kind)];
        check(&loss, ("N,3", &[4, 3]), inputs, |x| cross_entropy(x, 3, smoothing));
    }
}

#[test]
fn cross_entropy_of_sequences_counts_each_place() {
    let loss = SequenceCrossEntropy { logits: "y".to_owned(), smoothing: 0.0 };
    let inputs = |kind| vec![Data::integers(&[2, 2], &LABELS), Data::floats(&[2, 2], &WEIGHTS, kind)];
    check(&loss, ("N,L,5", &[2, 2, 5]), inputs, |x| cross_entropy(x, 5, 0.0));
}

#[test]
fn binary_cross_entropy_weighs_each_decision() {
    let targets = [1.0, 0.0, 0.25, 1.0];
    let loss = BinaryCrossEntropy { logits: "y".to_owned() };
    let inputs = |kind| vec![Data::floats(&[2, 2], &targets, kind), Data::floats(&[2, 2], &WEIGHTS, kind)];
    check(&loss, ("N,2", &[2, 2]), inputs, |x| {
        let terms = x.iter().zip(targets).zip(WEIGHTS);
        terms.map(|((z, target), weight)| weight * (z.exp().ln_1p() - target * z)).sum()
    });
}

#[test]
fn binary_cross_entropy_of_large_logits_is_finite() {
    let graph = training(&handing_on("N,2", element::FLOAT), &BinaryCrossEntropy { logits: "y".to_owned() });
    let of = |values: &[f64]| Data::floats(&[1, 2], values, element::FLOAT);
    let (loss, gradient) = run(&graph, of(&[200.0, -200.0]), vec![of(&[0.0, 1.0]), of(&[0.5, 0.5])]);
    assert_eq!((loss, gradient), (200.0, vec![0.5, -0.5]));
}

#[test]
fn mean_squared_error_is_a_mean_over_a_rows_numbers() {
    let targets = [0.5, -1.0, 0.0, 2.0, 1.0, -0.25, 0.75, 0.0];
    let loss = MeanSquaredError { values: "y".to_owned() };
    let inputs = |kind| vec![Data::floats(&[4, 2], &targets, kind), Data::floats(&[4], &WEIGHTS, kind)];
    check(&loss, ("N,2", &[4, 2]), inputs, |x| {
        let rows = x.chunks(2).zip(targets.chunks(2)).zip(WEIGHTS);
        rows.map(|((row, wanted), weight)| {
            weight * row.iter().zip(wanted).map(|(y, target)| (y - target).powi(2)).sum::<f64>() / 2.0
        })
        .sum()
    });
}

#[test]
fn pairs_are_compared_by_cosine_and_a_row_may_be_in_many() {
    let (left, right) = ([0, 1, 2, 0], [1, 2, 0, 0]);
    let targets = [1.0, 0.0, 0.0, 1.0];
    let loss = Contrastive { features: "y".to_owned() };
    let inputs = |kind| {
        let pairs = [Data::integers(&[4], &left), Data::integers(&[4], &right)];
        let floats = [Data::floats(&[4], &targets, kind), Data::floats(&[4], &[0.4, 0.3, 0.2, 0.1], kind)];
        pairs.into_iter().chain(floats).collect()
    };
    check(&loss, ("N,4", &[3, 4]), inputs, |x| {
        let row = |at: i64| &x[at as usize * 4..][..4];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let pairs = left.iter().zip(right).zip(targets).zip([0.4, 0.3, 0.2, 0.1]);
        pairs
            .map(|(((a, b), target), weight)| {
                let (a, b) = (row(*a), row(b));
                weight * (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() - target).powi(2)
            })
            .sum()
    });
}

#[test]
fn no_term_of_a_row_in_many_pairs_is_lost() {
    const ROWS: usize = 24;
    const WIDTH: usize = 768;
    let pairs: Vec<(usize, usize)> =
        (0..ROWS).flat_map(|left| (left + 1..ROWS).map(move |right| (left, right))).collect();
    let target = |(left, right): (usize, usize)| f64::from(u8::from(left % 3 == right % 3));
    let mut chance = Chance::of("wide");
    let x: Vec<f64> = (0..ROWS * WIDTH).map(|_| f64::from(chance.number() as f32)).collect();
    let row = |at: usize| &x[at * WIDTH..(at + 1) * WIDTH];
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let lengths: Vec<f64> = (0..ROWS).map(|at| dot(row(at), row(at)).sqrt()).collect();
    let weight = 1.0 / pairs.len() as f64;
    // d cos(a, b) / da = (b/|b| - cos·a/|a|) / |a|.
    let mut expected = vec![0.0; x.len()];
    for &(left, right) in &pairs {
        let cosine = dot(row(left), row(right)) / (lengths[left] * lengths[right]);
        let slope = 2.0 * weight * (cosine - target((left, right)));
        for (of, with) in [(left, right), (right, left)] {
            for column in 0..WIDTH {
                let away = row(with)[column] / lengths[with] - cosine * row(of)[column] / lengths[of];
                expected[of * WIDTH + column] += slope * away / lengths[of];
            }
        }
    }
    let graph = handing_on("N,768", element::FLOAT);
    let training = training(&graph, &Contrastive { features: "y".to_owned() });
    let places = |place: fn(&(usize, usize)) -> usize| {
        let places: Vec<i64> = pairs.iter().map(|pair| place(pair) as i64).collect();
        Data::integers(&[places.len()], &places)
    };
    let targets: Vec<f64> = pairs.iter().copied().map(target).collect();
    let floats = |values: &[f64]| Data::floats(&[values.len()], values, element::FLOAT);
    let inputs =
        [places(|pair| pair.0), places(|pair| pair.1), floats(&targets), floats(&vec![weight; pairs.len()])];
    let mut given = vec![("x".to_owned(), Data::floats(&[ROWS, WIDTH], &x, element::FLOAT))];
    given.extend(training.loss_inputs.iter().cloned().zip(inputs));
    // Several threads do not lose a term in every run.
    let mut loaded = Loaded::new(&training.model).unwrap();
    for _ in 0..200 {
        let outputs = loaded.run(&given).unwrap();
        let found = outputs.iter().find(|(name, _)| *name == training.gradients["x"]).unwrap();
        alike(&found.1.numbers(), &expected, 1e-4, "rows in 23 pairs each");
    }
}

#[test]
fn a_row_of_zeros_in_a_pair_has_a_finite_gradient() {
    let graph = training(&handing_on("N,4", element::FLOAT), &Contrastive { features: "y".to_owned() });
    let floats = |values: &[f64]| Data::floats(&[values.len()], values, element::FLOAT);
    let x = Data::floats(&[2, 4], &[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0], element::FLOAT);
    let pair = vec![Data::integers(&[1], &[0]), Data::integers(&[1], &[1]), floats(&[0.0]), floats(&[1.0])];
    let (loss, gradient) = run(&graph, x, pair);
    assert!(loss == 0.0 && gradient.iter().all(|value| value.is_finite()), "{loss} {gradient:?}");
}

#[test]
fn losses_add_up() {
    let cross = || CrossEntropy { logits: "y".to_owned(), smoothing: 0.0 };
    let loss = Total { terms: vec![(0.25, Box::new(cross())), (2.0, Box::new(cross()))] };
    let inputs = |kind| {
        let one = || [Data::integers(&[4], &LABELS), Data::floats(&[4], &WEIGHTS, kind)];
        one().into_iter().chain(one()).collect()
    };
    check(&loss, ("N,3", &[4, 3]), inputs, |x| 2.25 * cross_entropy(x, 3, 0.0));
}

#[test]
fn features_behind_a_reversed_gradient_are_driven_away_from_their_domain() {
    let mut graph = handing_on("N,3", element::FLOAT);
    let (domains, factor) = graph.reverse_gradient("y");
    let task = || CrossEntropy { logits: "y".to_owned(), smoothing: 0.0 };
    let confused = training(&graph, &DomainConfusion::new(Box::new(task()), &domains));
    let mut chance = Chance::of("x");
    let x: Vec<f64> = (0..12).map(|_| chance.number()).collect();
    let one = || [Data::integers(&[4], &LABELS), Data::floats(&[4], &WEIGHTS, element::FLOAT)];
    let mut given = vec![("x".to_owned(), Data::floats(&[4, 3], &x, element::FLOAT))];
    given.push((factor, Data::floats(&[], &[0.25], element::FLOAT)));
    given.extend(confused.loss_inputs.iter().cloned().zip(one().into_iter().chain(one())));
    let outputs = Loaded::new(&confused.model).unwrap().run(&given).unwrap();
    let of = |name: &str| outputs.iter().find(|(found, _)| found == name).unwrap().1.numbers();
    let plain = training(&handing_on("N,3", element::FLOAT), &task());
    let (loss, gradient) = run(&plain, Data::floats(&[4, 3], &x, element::FLOAT), one().to_vec());
    assert!((of(&confused.loss)[0] - 2.0 * loss).abs() < 1e-6);
    let expected: Vec<f64> = gradient.iter().map(|value| 0.75 * value).collect();
    alike(&of(&confused.gradients["x"]), &expected, 1e-5, "the reversed loss");
}

#[test]
fn a_loss_that_does_not_fit_says_what_it_reads() {
    let loss = CrossEntropy { logits: "y".to_owned(), smoothing: 0.0 };
    let made =
        differentiate(&handing_on("N,L,3", element::FLOAT), &loss, &["x"], &Runtime, &Options::default());
    let message = made.unwrap_err().to_string();
    assert_eq!(message, "the loss does not fit `y`: it reads floats of 2 axes, the value has 3");
    let free =
        differentiate(&handing_on("N,L", element::FLOAT), &loss, &["x"], &Runtime, &Options::default());
    assert!(matches!(free, Err(GradError::Loss { .. })));
}
