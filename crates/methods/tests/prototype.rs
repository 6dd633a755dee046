//! Several labels a row by nearest means, against numpy's numbers.
#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod support;

use headstart_methods::{
    FitData, Unattended,
    data::{Examples, Targets},
    head::Head,
    method, prototype,
};
use ndarray::{Array2, s};
use serde_json::{Value, json};
use support::{BACKBONE, examples, two_labels};

/// Examples, what cosines are multiplied with, and the logits that numpy gives them.
fn golden() -> (Examples, f64, Array2<f64>) {
    let case: Value = serde_json::from_str(include_str!("golden/prototype.json")).unwrap();
    let matrix = |of: &Value| {
        let rows: Vec<Vec<f64>> = serde_json::from_value(of.clone()).unwrap();
        Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
    };
    let (features, logits) = (matrix(&case["features"]), matrix(&case["logits"]));
    let targets = Targets::Multi(serde_json::from_value(case["targets"].clone()).unwrap());
    let train = examples(features.mapv(|value| value as f32), targets, logits.ncols());
    (train, case["scale"].as_f64().unwrap(), logits)
}

fn fit(train: &Examples, scale: f64) -> Head {
    let method = method("prototype").unwrap();
    let params = method.check(json!({ "scale": scale }).as_object().unwrap()).unwrap();
    let data = FitData { train, validation: None, backbone: BACKBONE(), threads: 1 };
    method.fit(&data, &params, 1, &mut Unattended).unwrap().head
}

fn assert_close(head: &Head, on: &Examples, expected: &Array2<f64>) {
    let logits = head.logits(on.features()).unwrap().mapv(f64::from);
    let off = (&logits - expected).iter().fold(0.0, |most: f64, off| most.max(off.abs()));
    assert!(off < 1e-4, "a logit is {off} off");
}

#[test]
fn each_label_is_decided_by_the_nearer_of_the_means_with_and_without_it() {
    let (train, scale, expected) = golden();
    assert_close(&fit(&train, scale), &train, &expected);
}

#[test]
fn examples_of_several_labels_added_a_few_at_a_time_give_the_head_that_all_at_once_would() {
    let (train, scale, expected) = golden();
    // Some labels have no example yet, and some rows have no label.
    let mut grown = fit(&train.select(&[0, 1]), scale);
    assert!(prototype::is(&grown));
    for start in (2..train.len()).step_by(7) {
        let rows: Vec<usize> = (start..train.len().min(start + 7)).collect();
        let features = train.features().slice_move(s![start..start + rows.len(), ..]);
        let labels = rows.iter().map(|&row| train.targets().of(row).to_vec()).collect();
        grown = prototype::add_examples(&grown, features, &prototype::targets(&grown, labels)).unwrap();
    }
    assert_close(&grown, &train, &expected);
}

#[test]
fn a_label_that_no_row_or_every_row_has_is_said_of_none_or_of_all() {
    let plain = two_labels(40, 1);
    let labels = (0..plain.len()).map(|row| if row % 2 == 0 { vec![0, 2] } else { vec![2] });
    let train = examples(plain.features().to_owned(), Targets::Multi(labels.collect()), 3);
    let logits = fit(&train, 20.0).logits(train.features()).unwrap();
    let sides = |label: usize| logits.column(label).iter().filter(|logit| **logit > 0.0).count();
    assert_eq!((sides(1), sides(2)), (0, 40));
}
