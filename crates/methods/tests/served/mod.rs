//! What is served and told of a run: probabilities that are no surer than those of the loss, and shares of right answers.

use headstart_methods::data::Targets;
use headstart_methods::head::{Backbone, Head, HeadParts, Tail};
use headstart_methods::tune::{self, Delta, Recipe, Tuned, Work, prepare, train};
use headstart_methods::{Unattended, method};
use headstart_onnx::proto::{Model, Node, Tensor as Constant, ValueInfo};
use ndarray::Array2;
use prost::Message as _;
use serde_json::Map;

use crate::{ALL, CLASSES, Data, HIDDEN, answers, classifier, drawn, recipe, workbench};

/// The classifier whose logits come over a temperature, as the export of a calibrated head has it.
fn over_a_temperature(temperature: f32) -> Vec<u8> {
    let mut model = Model::decode(classifier().as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.node.last_mut().unwrap().output = vec!["raw".to_owned()];
    graph.node.push(Node::new("Div", &["raw", "temperature"], &["logits"], Vec::new()));
    graph.initializer.push(Constant::floats("temperature", &[], [temperature]));
    model.encode_to_vec()
}

fn head(rows: Array2<f32>, bias: Vec<f32>, temperature: f32) -> Head {
    let classes: Vec<String> = (0..rows.nrows()).map(|class| format!("class {class}")).collect();
    Head::new(HeadParts {
        method: "linear_probe".to_owned(),
        hyperparameters: Map::new(),
        backbone: backbone(),
        classes: classes.into(),
        multi_label: false,
        normalise: false,
        rows: rows.into_shared(),
        bias: bias.into(),
        tail: Tail::Identity,
        temperature,
        thresholds: None,
    })
    .unwrap()
}

fn backbone() -> Backbone {
    Backbone { id: "small".to_owned(), sha256: "00".repeat(32) }
}

/// The logits that a run's graph gives all points with the weights it ended with.
fn logits(work: &Work<'_>, data: &Data, tuned: &Tuned) -> Array2<f32> {
    let mut forward = Model::decode(work.tunable.graphs.forward.as_slice()).unwrap();
    let graph = forward.graph.as_mut().unwrap();
    for weight in &tuned.weights {
        graph.input.retain(|input| input.name.as_ref() != Some(&weight.name));
        graph.initializer.push(Constant::floats(&weight.name, &weight.shape, weight.values.iter().copied()));
    }
    graph.output = vec![ValueInfo { name: Some("logits".to_owned()), ..ValueInfo::default() }];
    let logits = answers(&workbench(), &forward.encode_to_vec(), &data.points, "logits");
    Array2::from_shape_vec((logits.len() / CLASSES, CLASSES), logits).unwrap()
}

#[test]
fn without_rows_to_calibrate_by_probabilities_are_those_that_the_loss_saw() {
    assert_served_over(2.0, 2.0);
}

#[test]
fn a_temperature_that_makes_answers_surer_is_not_served_without_rows_to_judge_by() {
    assert_served_over(0.2, 1.0);
}

/// What a run that began with a head of one temperature serves are its logits over the other.
fn assert_served_over(began: f32, expected: f32) {
    let bench = workbench();
    let data = Data::new();
    let file = over_a_temperature(began);
    let rows = Array2::from_shape_vec((CLASSES, HIDDEN), drawn(3, CLASSES * HIDDEN)).unwrap();
    let first = head(rows, drawn(4, CLASSES), began);
    let tunable = prepare(&file, ("features", "logits"), &ALL, &bench, None).unwrap();
    let work = Work { tunable, tune: &[], ..data.work(&bench) };
    let tuned = train(&work, &Recipe { epochs: 3, ..recipe() }, &bench, &mut Unattended).unwrap();
    let full = method("full").unwrap();
    let params = full.check(&Map::new()).unwrap();
    let served = tune::tuned_head(&first, (&work.tunable, &tuned), backbone(), (full, &params)).unwrap();
    let served = tune::uncalibrated(served).unwrap();
    let delta = Delta::between(&work.tunable, &tuned.weights).unwrap();
    let grafted = delta.graft(&file, "features", "weights.bin").unwrap().whole().unwrap();
    let features = answers(&bench, &grafted, &data.points, "features");
    let features = Array2::from_shape_vec((features.len() / HIDDEN, HIDDEN), features).unwrap();
    let found = served.probabilities(features.view()).unwrap();
    for (logits, found) in logits(&work, &data, &tuned).outer_iter().zip(found.outer_iter()) {
        let parts = logits.mapv(|logit| (logit * began / expected).exp());
        for (part, found) in parts.iter().zip(found) {
            let wanted = part / parts.sum();
            assert!((wanted - found).abs() < 5e-3, "{wanted} is served as {found}");
        }
    }
}

#[test]
fn passes_and_mixtures_tell_the_share_of_right_answers_however_much_a_class_weighs() {
    let bench = workbench();
    let data = Data::new();
    let weights = [[1.0, 1.0], [1.0, 100.0], [1.0, 1.0]];
    let work = Work { class_weights: Some(&weights), ..data.work(&bench) };
    let recipe = Recipe { epochs: 2, share: Some(1.0), ..recipe() };
    let tuned = train(&work, &recipe, &bench, &mut Unattended).unwrap();
    let told = tuned.mixes.last().unwrap().held_out;
    let Targets::Single(labels) = &data.targets else { panic!("of several labels") };
    let logits = logits(&work, &data, &tuned);
    let right = |row: &usize| {
        let label = labels[*row] as usize;
        logits.row(*row).iter().all(|logit| *logit <= logits[[*row, label]])
    };
    let share = data.tune.iter().filter(|row| right(row)).count() as f64 / data.tune.len() as f64;
    assert!((told.accuracy - share).abs() < 1e-9, "{told:?}, {share} are right");
    assert_ne!(told.weighted, Some(told.accuracy), "by the weighted share it chooses");
    assert_eq!(tuned.epochs[tuned.best].held_out, Some(told));
}

#[test]
fn ninety_five_of_a_hundred_right_are_told_as_that_where_the_others_weigh_a_hundredfold() {
    // Every row is taken for the first class; the last five are of the other.
    let head = head(Array2::from_shape_vec((2, 1), vec![1.0, -1.0]).unwrap(), vec![0.0; 2], 1.0);
    let targets = Targets::Single((0..100).map(|row| u32::from(row >= 95)).collect());
    let weights = [[1.0, 1.0], [1.0, 100.0]];
    let features = Array2::ones((100, 1));
    let rows = (0..100).collect();
    let (_, _, accuracy) = tune::calibrated(head, features.view(), (&targets, Some(&weights)), rows).unwrap();
    assert_eq!(accuracy, 0.95);
}
