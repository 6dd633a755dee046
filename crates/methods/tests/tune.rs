//! A small classifier tuned by ONNX Runtime, beside the same arithmetic in 64 bits.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::ops::ControlFlow;
use std::path::Path;

use headstart_engine::{Device, Runtime, Workbench};
use headstart_methods::data::Targets;
use headstart_methods::rng::Rng;
use headstart_methods::tune::{
    Choice, Delta, Feed, Goal, LowRank, OptimiserKind, Prefix, Recipe, Role, Tunable, Tuned, What, Work,
    prepare, train,
};
use headstart_methods::{Checkpoint, Control, METHODS, MethodError, Needs, Unattended, method};
use headstart_onnx::proto::{
    Attribute, Dimension, Graph, Model, Node, OperatorSet, Tensor as Constant, ValueInfo, element,
};
use headstart_types::runner::{Form, Runners as _, Trained};
use headstart_types::tensor::{DataType, Tensor, Values};
use prost::Message as _;
use serde_json::{Map, Value, json};

mod prepared;
mod served;
mod steps;

const WIDTH: usize = 4;
const HIDDEN: usize = 6;
const CLASSES: usize = 3;

fn drawn(seed: u64, count: usize) -> Vec<f32> {
    let mut chance = Rng::new(seed);
    (0..count).map(|_| (chance.unit() * 2.0 - 1.0) as f32).collect()
}

/// `x [N, 4]` → a layer with tanh, the features → a head, the logits.
fn classifier() -> Vec<u8> {
    with_layers(Vec::new(), "x", Vec::new())
}

/// The same behind another layer with tanh.
fn deeper_classifier() -> Vec<u8> {
    let transposed = vec![Attribute::int("transB", 1)];
    let nodes = vec![
        Node::new("Gemm", &["x", "first.weight", "first.bias"], &["first"], transposed),
        Node::new("Tanh", &["first"], &["between"], Vec::new()),
    ];
    let weights = vec![
        Constant::floats("first.weight", &[WIDTH, WIDTH], drawn(5, WIDTH * WIDTH)),
        Constant::floats("first.bias", &[WIDTH], drawn(6, WIDTH)),
    ];
    with_layers(nodes, "between", weights)
}

fn with_layers(mut nodes: Vec<Node>, given: &str, mut weights: Vec<Constant>) -> Vec<u8> {
    let transposed = || vec![Attribute::int("transB", 1)];
    nodes.extend([
        Node::new("Gemm", &[given, "layer.weight", "layer.bias"], &["hidden"], transposed()),
        Node::new("Tanh", &["hidden"], &["features"], Vec::new()),
        Node::new("Gemm", &["features", "rows", "bias"], &["logits"], transposed()),
    ]);
    weights.extend([
        Constant::floats("layer.weight", &[HIDDEN, WIDTH], drawn(1, HIDDEN * WIDTH)),
        Constant::floats("layer.bias", &[HIDDEN], drawn(2, HIDDEN)),
        Constant::floats("rows", &[CLASSES, HIDDEN], drawn(3, CLASSES * HIDDEN)),
        Constant::floats("bias", &[CLASSES], drawn(4, CLASSES)),
    ]);
    let graph = Graph {
        name: Some("classifier".to_owned()),
        node: nodes,
        initializer: weights,
        input: vec![ValueInfo::tensor(
            "x",
            element::FLOAT,
            vec![Dimension::named("N"), Dimension::of(WIDTH)],
        )],
        output: vec![ValueInfo { name: Some("logits".to_owned()), ..ValueInfo::default() }],
        ..Graph::default()
    };
    let opset_import = vec![OperatorSet { domain: None, version: Some(18) }];
    Model { ir_version: Some(8), graph: Some(graph), opset_import, ..Model::default() }.encode_to_vec()
}

/// Points whose class is the sector of the plane that a hidden rotation puts them in.
struct Points(Vec<[f32; WIDTH]>);

impl Points {
    fn drawn(count: usize) -> (Self, Vec<u32>) {
        let values = drawn(9, count * WIDTH);
        let points: Vec<[f32; WIDTH]> = values.as_chunks::<WIDTH>().0.to_vec();
        let sector = |point: &[f32; WIDTH]| {
            let (a, b) = (point[0] - point[2], point[1] * point[3] * 3.0);
            if a * a + b * b < 0.3 {
                0
            } else if a > b {
                1
            } else {
                2
            }
        };
        let labels = points.iter().map(sector).collect();
        (Self(points), labels)
    }
}

impl Feed for Points {
    fn length(&self, _: usize) -> usize {
        1
    }

    fn batch(&self, rows: &[usize], _: Option<&mut Rng>) -> Result<Vec<(String, Tensor)>, MethodError> {
        let bytes: Vec<u8> = rows.iter().flat_map(|row| self.0[*row]).flat_map(f32::to_le_bytes).collect();
        let values = Values::Fixed { datatype: DataType::Fp32, bytes: bytes.into() };
        Ok(vec![("x".to_owned(), Tensor { shape: vec![rows.len(), WIDTH], values })])
    }
}

fn workbench() -> Workbench {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vendor/onnxruntime");
    let name = if cfg!(target_os = "macos") { "libonnxruntime.1.dylib" } else { "libonnxruntime.so.1" };
    let target = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let mut versions: Vec<_> = std::fs::read_dir(root)
        .expect("`make setup` fetches ONNX Runtime")
        .map(|entry| entry.unwrap().path().join(&target).join(name))
        .filter(|path| path.is_file())
        .collect();
    versions.sort();
    Workbench::new(Runtime::load(versions.last().map(|path| path.as_path())).unwrap(), 1)
}

const ALL: Choice =
    Choice { what: What::All, prefix: false, embeddings: false, goal: Goal::Classes { smoothing: 0.0 } };

fn tunable(bench: &Workbench) -> Tunable {
    prepare(&classifier(), ("features", "logits"), &ALL, bench, None).unwrap()
}

fn recipe() -> Recipe {
    Recipe {
        epochs: 12,
        batch_size: 16,
        learning_rate: 0.02,
        head_rate: 1.0,
        layer_decay: 1.0,
        weight_decay: 0.0,
        clip: 1e6,
        patience: 12,
        checkpoint_steps: 7,
        ..Recipe::default()
    }
}

struct Data {
    points: Points,
    targets: Targets,
    learn: Vec<usize>,
    tune: Vec<usize>,
}

impl Data {
    fn new() -> Self {
        let (points, labels) = Points::drawn(400);
        Self {
            points,
            targets: Targets::Single(labels),
            learn: (0..300).collect(),
            tune: (300..400).collect(),
        }
    }

    fn work(&self, bench: &Workbench) -> Work<'_> {
        Work {
            tunable: tunable(bench),
            feed: &self.points,
            targets: &self.targets,
            classes: CLASSES,
            class_weights: None,
            learn: &self.learn,
            tune: &self.tune,
            seed: 5,
            threads: 1,
        }
    }
}

fn bits(tuned: &Tuned) -> Vec<Vec<u32>> {
    tuned.weights.iter().map(|weight| weight.values.iter().map(|value| value.to_bits()).collect()).collect()
}

/// The mean cross-entropy of some rows in 64 bits, each counted as its class is, for weights in the order layer, its bias,
/// rows, bias.
fn loss(weights: &[Vec<f64>], points: &[[f32; WIDTH]], labels: &[u32], counts: &[[f32; 2]; CLASSES]) -> f64 {
    let layer = |given: &[f64], rows: &[f64], bias: &[f64]| -> Vec<f64> {
        let dot = |row: &[f64]| row.iter().zip(given).map(|(weight, value)| weight * value).sum::<f64>();
        rows.chunks(given.len()).zip(bias).map(|(row, bias)| dot(row) + bias).collect()
    };
    let of = |(point, label): (&[f32; WIDTH], &u32)| {
        let given: Vec<f64> = point.iter().map(|value| f64::from(*value)).collect();
        let hidden: Vec<f64> = layer(&given, &weights[0], &weights[1]).iter().map(|sum| sum.tanh()).collect();
        let logits = layer(&hidden, &weights[2], &weights[3]);
        let count = f64::from(counts[*label as usize][1]);
        let loss = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[*label as usize];
        (count * loss, count)
    };
    let sums: Vec<(f64, f64)> = points.iter().zip(labels).map(of).collect();
    sums.iter().map(|(loss, _)| loss).sum::<f64>() / sums.iter().map(|(_, count)| count).sum::<f64>()
}

#[test]
fn one_step_moves_every_weight_against_its_gradient() {
    moves_against_the_gradient(None, [[1.0; 2]; CLASSES]);
    let counts = [[9.0, 2.0], [9.0, 0.5], [9.0, 4.0]];
    moves_against_the_gradient(Some(&counts), counts);
}

fn moves_against_the_gradient(class_weights: Option<&[[f32; 2]]>, counts: [[f32; 2]; CLASSES]) {
    let bench = workbench();
    let data = Data::new();
    let work = Work { learn: &data.learn[..16], class_weights, ..data.work(&bench) };
    let rate = 0.1;
    let one =
        Recipe { epochs: 1, learning_rate: rate, optimiser: OptimiserKind::Sgd, warm_up: 0.0, ..recipe() };
    let names: Vec<&str> = work.tunable.weights.iter().map(|weight| weight.name.as_str()).collect();
    assert_eq!(names, ["layer.weight", "layer.bias", "rows", "bias"]);
    let roles = [Role::Backbone(0.0), Role::Backbone(1.0), Role::Head, Role::Head];
    assert_eq!(work.tunable.roles, roles);
    let before: Vec<Vec<f64>> = work
        .tunable
        .weights
        .iter()
        .map(|weight| weight.values.iter().map(|value| f64::from(*value)).collect())
        .collect();
    let tuned = train(&work, &one, &bench, &mut Unattended).unwrap();
    let Targets::Single(labels) = &data.targets else { panic!() };
    let (points, labels) = (&data.points.0[..16], &labels[..16]);
    assert!((tuned.epochs[0].loss - loss(&before, points, labels, &counts)).abs() < 1e-5);
    let share = f64::from(tuned.share);
    for (at, weight) in tuned.weights.iter().enumerate() {
        for (place, found) in weight.values.iter().enumerate() {
            let moved = |by: f64| {
                let mut weights = before.clone();
                weights[at][place] += by;
                loss(&weights, points, labels, &counts)
            };
            let gradient = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let expected = before[at][place] - share * f64::from(rate) * gradient;
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{} {place}", weight.name);
        }
    }
}

#[test]
fn balanced_weights_let_a_rare_class_count_as_much_as_a_frequent_one() {
    let bench = workbench();
    let data = Data::new();
    let Targets::Single(labels) = &data.targets else { panic!() };
    let (rare, others): (Vec<usize>, Vec<usize>) = (0..400).partition(|row| labels[*row] == 1);
    let learn: Vec<usize> = others.iter().chain(&rare[..8]).copied().collect();
    let given = Map::from_iter([("class_weight".to_owned(), json!("balanced"))]);
    let full = method("full").unwrap();
    let plan = full.plan(&full.check(&given).unwrap(), 5).unwrap().unwrap();
    let classes = ["a", "b", "c"].map(str::to_owned);
    let learned = data.targets.select(&learn);
    let weights = plan.class_weights(&learned, &classes).unwrap().unwrap();
    for ([_, weight], count) in weights.iter().zip(learned.counts(CLASSES)) {
        assert!((weight * count as f32 - learn.len() as f32 / 3.0).abs() < 1e-3, "{weight} for {count} rows");
    }
    let lost = |class_weights| {
        let work = Work { learn: &learn, tune: &rare[8..], class_weights, ..data.work(&bench) };
        let tuned = train(&work, &recipe(), &bench, &mut Unattended).unwrap();
        tuned.epochs.last().unwrap().held_out.unwrap().log_loss
    };
    let (alike, balanced) = (lost(None), lost(Some(&weights)));
    assert!(balanced < 0.7 * alike, "loss of the rare class {balanced}, {alike} where all rows count alike");
}

#[test]
fn of_several_labels_each_side_of_each_label_has_its_weight() {
    let full = method("full").unwrap();
    let classes = ["a", "b"].map(str::to_owned);
    let targets = Targets::Multi(vec![vec![0], vec![0, 1], vec![0], vec![]]);
    let weights = |given: Value| {
        let given = Map::from_iter([("class_weight".to_owned(), given)]);
        let plan = full.plan(&full.check(&given).unwrap(), 5).unwrap().unwrap();
        plan.class_weights(&targets, &classes).unwrap()
    };
    assert_eq!(weights(json!(null)), None);
    assert_eq!(weights(json!({"b": 3})), Some(vec![[1.0, 1.0], [1.0, 3.0]]));
    assert_eq!(weights(json!("balanced")), Some(vec![[2.0, 2.0 / 3.0], [2.0 / 3.0, 2.0]]));
    let given = Map::from_iter([("class_weight".to_owned(), json!({"c": 3}))]);
    let refused = full.check_classes(&full.check(&given).unwrap(), &classes).unwrap_err().to_string();
    assert!(refused.contains("hyperparameters.class_weight.c"), "{refused}");
}

#[test]
fn tuning_gets_more_rows_right_than_the_head_it_began_with() {
    let bench = workbench();
    let data = Data::new();
    let tuned = train(&data.work(&bench), &recipe(), &bench, &mut Unattended).unwrap();
    let (first, last) = (&tuned.mixes[0], tuned.mixes.last().unwrap());
    assert_eq!((first.share, last.share), (0.0, 1.0));
    assert!(last.held_out.accuracy > first.held_out.accuracy + 0.2, "{first:?} {last:?}");
    assert!(tuned.epochs.last().unwrap().loss < tuned.epochs[0].loss);
    assert_eq!(Some(last.held_out), tuned.epochs[tuned.best].held_out, "the best epoch's weights");
}

/// Stops after so many steps, and keeps what the run can go on from.
struct Stops {
    after: usize,
    kept: Option<Vec<u8>>,
}

impl Control for Stops {
    fn progress(&mut self, step: usize, _: usize, _: &[(&'static str, f64)]) -> ControlFlow<()> {
        if step >= self.after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        self.kept = Some(checkpoint.state);
    }

    fn resume(&mut self) -> Option<Vec<u8>> {
        self.kept.take()
    }
}

#[test]
fn a_run_that_is_resumed_ends_with_the_same_bytes() {
    let bench = workbench();
    let data = Data::new();
    let undisturbed = train(&data.work(&bench), &recipe(), &bench, &mut Unattended).unwrap();
    let mut control = Stops { after: 25, kept: None };
    let stopped = train(&data.work(&bench), &recipe(), &bench, &mut control);
    assert!(matches!(stopped, Err(MethodError::Cancelled)));
    assert!(control.kept.is_some());
    control.after = usize::MAX;
    let resumed = train(&data.work(&bench), &recipe(), &bench, &mut control).unwrap();
    assert_eq!(bits(&resumed), bits(&undisturbed));
    assert_eq!(resumed.epochs, undisturbed.epochs);
}

#[test]
fn parts_of_a_step_add_up_to_it() {
    let bench = workbench();
    let data = Data::new();
    let weights = [[1.0, 1.0], [1.0, 3.0], [1.0, 0.5]];
    let work = Work { class_weights: Some(&weights), ..data.work(&bench) };
    let whole = train(&work, &Recipe { epochs: 2, ..recipe() }, &bench, &mut Unattended).unwrap();
    let parts = Recipe { epochs: 2, accumulate: 3, ..recipe() };
    let parts = train(&work, &parts, &bench, &mut Unattended).unwrap();
    for (one, two) in whole.weights.iter().zip(&parts.weights) {
        for (a, b) in one.values.iter().zip(&two.values) {
            assert!((a - b).abs() < 2e-3, "{} {a} {b}", one.name);
        }
    }
    assert!((whole.epochs[0].loss - parts.epochs[0].loss).abs() < 1e-4);
}

#[test]
fn an_operator_without_a_derivative_is_named_before_anything_is_trained() {
    let bench = workbench();
    let mut model = Model::decode(classifier().as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.node[1] = Node::new("Hardmax", &["hidden"], &["features"], Vec::new());
    let refused = prepare(&model.encode_to_vec(), ("features", "logits"), &ALL, &bench, None);
    let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(message.contains("`Hardmax` (node `features`, operator set 18)"), "{message}");
    let (_, free) = message.split_once("need no gradient: ").unwrap();
    for method in METHODS {
        let named = free.contains(&format!("`{}`", method.name()));
        assert_eq!(named, method.needs() == Needs::Features, "{}: {message}", method.name());
    }
}

/// The features that the classifier's backbone gives, and its logits, for all points.
/// The classifier's graph up to its features with what tuning changed.
fn whole(delta: &Delta) -> Vec<u8> {
    delta.graft(&classifier(), "features", "weights.bin").unwrap().whole().unwrap()
}

fn answers(bench: &Workbench, file: &[u8], points: &Points, output: &str) -> Vec<f32> {
    let mut runner = headstart_types::runner::Runners::runner(bench, file, Form::Optimised).unwrap();
    let rows: Vec<usize> = (0..points.0.len()).collect();
    let batch = points.batch(&rows, None).unwrap();
    let given: Vec<(&str, &Tensor)> = batch.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let Values::Fixed { bytes, .. } = &runner.run(&given, &[output]).unwrap()[0].values else { panic!() };
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn farthest(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Features of the classifier with what a run changed, once by its own weights put into the file and once by its delta.
fn both_ways(what: What) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let bench = workbench();
    let data = Data::new();
    let tunable =
        prepare(&classifier(), ("features", "logits"), &Choice { what, ..ALL }, &bench, None).unwrap();
    let work = Work { tunable, ..data.work(&bench) };
    let tuned = train(&work, &Recipe { epochs: 4, ..recipe() }, &bench, &mut Unattended).unwrap();
    let delta = Delta::between(&work.tunable, &tuned.weights).unwrap();
    let bytes = delta.to_bytes().unwrap();
    assert_eq!(Delta::from_bytes(&bytes).unwrap(), delta);
    let grafted = whole(&delta);
    let features = |file: &[u8]| {
        let mut model = Model::decode(file).unwrap();
        let output = ValueInfo { name: Some("features".to_owned()), ..ValueInfo::default() };
        model.graph.as_mut().unwrap().output = vec![output];
        model
    };
    let mut forward = features(&work.tunable.graphs.forward);
    let graph = forward.graph.as_mut().unwrap();
    for weight in &tuned.weights {
        graph.input.retain(|input| input.name.as_ref() != Some(&weight.name));
        graph.initializer.push(Constant::floats(&weight.name, &weight.shape, weight.values.iter().copied()));
    }
    let before = answers(&bench, &features(&classifier()).encode_to_vec(), &data.points, "features");
    let direct = answers(&bench, &forward.encode_to_vec(), &data.points, "features");
    (before, direct, answers(&bench, &grafted, &data.points, "features"))
}

#[test]
fn a_backbone_with_a_delta_gives_what_the_tuned_weights_give() {
    let low_rank = LowRank { rank: 2, alpha: 4.0, targets: Vec::new(), seed: 1 };
    for what in [What::All, What::LastBlocks(1), What::LowRank(low_rank)] {
        let (before, direct, grafted) = both_ways(what.clone());
        assert!(farthest(&before, &direct) > 0.05, "{what:?} moved nothing");
        assert!(farthest(&direct, &grafted) < 1e-3, "{what:?}: {}", farthest(&direct, &grafted));
    }
}

#[test]
fn factors_of_low_rank_alone_are_trained_and_start_from_nothing() {
    let bench = workbench();
    let what = What::LowRank(LowRank { rank: 2, alpha: 4.0, targets: Vec::new(), seed: 1 });
    let tunable =
        prepare(&classifier(), ("features", "logits"), &Choice { what, ..ALL }, &bench, None).unwrap();
    let shapes: Vec<&[usize]> = tunable.weights.iter().map(|weight| weight.shape.as_slice()).collect();
    assert_eq!(shapes, [&[WIDTH, 2][..], &[2, HIDDEN], &[CLASSES, HIDDEN], &[CLASSES]]);
    assert!(matches!(tunable.roles[0], Role::Down { transposed: true, .. }) && tunable.roles[1] == Role::Up);
    assert!(tunable.weights[1].values.iter().all(|value| *value == 0.0));
}

#[test]
fn more_blocks_than_there_are_is_refused_with_their_number() {
    let choice = Choice { what: What::LastBlocks(2), ..ALL };
    let refused = prepare(&classifier(), ("features", "logits"), &choice, &workbench(), None).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "`hyperparameters.blocks`: must be at most 1, which is how many blocks the backbone has"
    );
}

#[test]
fn rows_of_several_classes_are_learnt_one_class_by_one() {
    let bench = workbench();
    let data = Data::new();
    let Targets::Single(labels) = &data.targets else { panic!() };
    // Class 2 comes along with class 1.
    let rows = labels.iter().map(|label| if *label == 1 { vec![1, 2] } else { vec![*label] }).collect();
    let targets = Targets::Multi(rows);
    let choice = Choice { goal: Goal::Labels { smoothing: 0.0 }, ..ALL };
    let tunable = prepare(&classifier(), ("features", "logits"), &choice, &bench, None).unwrap();
    let work = Work { tunable, targets: &targets, ..data.work(&bench) };
    let tuned = train(&work, &recipe(), &bench, &mut Unattended).unwrap();
    assert!(
        tuned.mixes.last().unwrap().held_out.accuracy > tuned.mixes[0].held_out.accuracy + 0.1,
        "{:?}",
        tuned.mixes
    );
}

/// Rows as what stands before the last block gave them.
struct Through<'a> {
    prefix: &'a Prefix,
    values: Vec<f32>,
}

impl Feed for Through<'_> {
    fn length(&self, _: usize) -> usize {
        1
    }

    fn batch(&self, rows: &[usize], _: Option<&mut Rng>) -> Result<Vec<(String, Tensor)>, MethodError> {
        let of = |row: &usize| &self.values[row * WIDTH..(row + 1) * WIDTH];
        let bytes: Vec<u8> = rows.iter().flat_map(of).flat_map(|value| value.to_le_bytes()).collect();
        let shape = self.prefix.of_rows(vec![WIDTH], rows.len());
        let values = Values::Fixed { datatype: DataType::Fp32, bytes: bytes.into() };
        Ok(vec![(self.prefix.value.clone(), Tensor { shape, values })])
    }
}

#[test]
fn blocks_trained_behind_what_was_computed_once_end_as_those_trained_behind_the_whole_graph() {
    let bench = workbench();
    let data = Data::new();
    let prepared = |prefix| {
        let choice = Choice { what: What::LastBlocks(1), prefix, ..ALL };
        prepare(&deeper_classifier(), ("features", "logits"), &choice, &bench, None).unwrap()
    };
    let (whole, mut parted) = (prepared(false), prepared(true));
    assert_eq!(whole.prefix, None);
    let prefix = parted.prefix.take().unwrap();
    assert_eq!((prefix.value.as_str(), prefix.joined, prefix.rest.len()), ("between", false, 0));
    let values = answers(&bench, &prefix.model, &data.points, "between");
    let feed = Through { prefix: &prefix, values };
    let recipe = Recipe { epochs: 3, ..recipe() };
    let run = |tunable, feed: &dyn Feed| {
        let work = Work { tunable, feed, ..data.work(&bench) };
        train(&work, &recipe, &bench, &mut Unattended).unwrap()
    };
    let (whole, parted) = (run(whole, &data.points), run(parted, &feed));
    let names: Vec<&str> = parted.weights.iter().map(|weight| weight.name.as_str()).collect();
    assert_eq!(names, ["layer.weight", "layer.bias", "rows", "bias"]);
    for (one, other) in whole.weights.iter().zip(&parted.weights) {
        assert_eq!(one.name, other.name);
        assert!(farthest(&one.values, &other.values) < 1e-5, "{}", one.name);
    }
}

#[test]
fn pairs_bring_rows_of_one_class_together_and_others_apart() {
    let bench = workbench();
    let data = Data::new();
    let choice = Choice { goal: Goal::Pairs, ..ALL };
    let tunable = prepare(&classifier(), ("features", "logits"), &choice, &bench, None).unwrap();
    assert!(!tunable.roles.contains(&Role::Head), "the head has no part in it");
    let delta = |weights: &[Trained]| Delta::between(&tunable, weights).unwrap();
    let work = Work { tunable: tunable.clone(), tune: &[], ..data.work(&bench) };
    let recipe = Recipe { epochs: 8, batch_size: 24, ..recipe() };
    let tuned = train(&work, &recipe, &bench, &mut Unattended).unwrap();
    assert!(tuned.mixes.is_empty() && tuned.best == 7 && tuned.epochs[0].held_out.is_none());
    assert!(tuned.epochs[7].loss < 0.8 * tuned.epochs[0].loss, "{:?}", tuned.epochs);
    let Targets::Single(labels) = &data.targets else { panic!() };
    // The gap between mean cosines of pairs of one class and of two, on rows that were not learnt from.
    let gap = |file: &[u8]| {
        let features = answers(&bench, file, &data.points, "features");
        let cosine = |a: usize, b: usize| {
            let row = |at: usize| &features[at * HIDDEN..(at + 1) * HIDDEN];
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            dot(row(a), row(b)) / (dot(row(a), row(a)) * dot(row(b), row(b))).sqrt()
        };
        let (mut same, mut other) = ((0.0, 0), (0.0, 0));
        for a in 300..400 {
            for b in a + 1..400 {
                let sum = if labels[a] == labels[b] { &mut same } else { &mut other };
                *sum = (sum.0 + cosine(a, b), sum.1 + 1);
            }
        }
        same.0 / same.1 as f32 - other.0 / other.1 as f32
    };
    let before = gap(&whole(&delta(&tunable.weights)));
    let after = gap(&whole(&delta(&tuned.weights)));
    assert!(after > 1.5 * before, "{before} {after}");
}

#[test]
fn without_a_usable_gpu_training_stays_on_the_cpu_unless_the_gpu_is_required() {
    let cuda = |required| Device::Cuda { id: 0, required };
    let bench = workbench();
    let kernels = bench.has_kernels();
    let bench = bench.on(cuda(false)).unwrap();
    assert_eq!(bench.has_kernels(), kernels, "it goes on as before");
    let refused = bench.on(cuda(true)).err().unwrap().to_string();
    assert!(refused.starts_with("cuda is required but not usable: "), "{refused}");
}
