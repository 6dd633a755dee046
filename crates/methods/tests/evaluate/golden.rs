//! Metrics equal those of scikit-learn, statsmodels, cleanlab and scikit-image: `tools/golden/evaluate.py` asked them.

use headstart_methods::data::Targets;
use headstart_methods::evaluate::baseline::hog::hog;
use headstart_methods::evaluate::baseline::tf_idf::Texts;
use headstart_methods::evaluate::curves::Ranking;
use headstart_methods::evaluate::intervals::Discordance;
use headstart_methods::evaluate::suspicious::suspicious;
use headstart_types::report::Metrics;
use ndarray::Array2;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::evidence::Case;

/// Differences that rounding alone makes.
const ROUNDING: f64 = 1e-9;

fn golden(part: &str) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/evaluate.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    all[part].clone()
}

fn get<T: DeserializeOwned>(value: &Value, key: &str) -> T {
    serde_json::from_value(value[key].clone()).unwrap_or_else(|error| panic!("{key}: {error}"))
}

fn matrix<T: DeserializeOwned>(value: &Value, key: &str) -> Array2<T> {
    let rows: Vec<Vec<T>> = get(value, key);
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.into_iter().flatten().collect()).unwrap()
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
}

#[track_caller]
fn assert_all_near(found: impl IntoIterator<Item = f64>, expected: &[f64], tolerance: f64) {
    let found: Vec<f64> = found.into_iter().collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_near(*found, *expected, tolerance);
    }
}

#[test]
fn one_class_an_item() {
    let golden = golden("single_label");
    let number = |key: &str| get::<f64>(&golden, key);
    let numbers = |key: &str| get::<Vec<f64>>(&golden, key);
    let case = Case::new(matrix(&golden, "logits"), Targets::Single(get(&golden, "labels")));
    let report = case.report(|evidence| evidence.temperature = Some(0.5));
    let plain = case.report(|_| {});
    let Metrics::SingleLabel(metrics) = &plain.metrics else { panic!("not of one class an item") };
    for (estimate, key) in [
        (metrics.accuracy, "accuracy"),
        (metrics.balanced_accuracy, "balanced_accuracy"),
        (metrics.macro_f1, "macro_f1"),
    ] {
        assert_near(estimate.value, number(key), ROUNDING);
        assert!(estimate.low < estimate.value && estimate.value < estimate.high, "{key}: {estimate:?}");
    }
    assert_near(metrics.log_loss, number("log_loss"), ROUNDING);
    assert_all_near(metrics.classes.iter().map(|c| c.precision), &numbers("precision"), ROUNDING);
    assert_all_near(metrics.classes.iter().map(|c| c.recall), &numbers("recall"), ROUNDING);
    assert_all_near(metrics.classes.iter().map(|c| c.f1), &numbers("f1"), ROUNDING);
    assert_eq!(
        metrics.classes.iter().map(|c| c.support).collect::<Vec<_>>(),
        get::<Vec<usize>>(&golden, "support")
    );
    assert_eq!(plain.confusion.unwrap().matrix.unwrap(), get::<Vec<Vec<usize>>>(&golden, "confusion"));
    let calibration = report.calibration.unwrap();
    assert_near(calibration.before.expected_calibration_error, number("calibration_error"), ROUNDING);
    let after = calibration.after.unwrap().expected_calibration_error;
    assert_near(after, number("calibration_error_halved"), ROUNDING);
    // Drawn a few hundred times here and many thousand times there.
    assert_near(calibration.before.chance.unwrap(), number("calibration_error_by_chance"), 0.01);
}

#[test]
fn curves_of_two_classes() {
    let golden = golden("binary");
    let ranking = Ranking::new(get(&golden, "scores"), get(&golden, "positive"));
    assert_near(ranking.roc_auc().unwrap(), get(&golden, "roc_auc"), ROUNDING);
    assert_near(ranking.average_precision().unwrap(), get(&golden, "average_precision"), ROUNDING);
    let roc: Vec<[f64; 3]> = get(&golden, "roc");
    let found = ranking.roc();
    assert_eq!(found.len(), roc.len() + 1);
    for (found, expected) in found[1..].iter().zip(&roc) {
        let found = [found.threshold.unwrap(), found.false_positive_rate, found.true_positive_rate];
        assert_all_near(found, expected, ROUNDING);
    }
    let expected: Vec<[f64; 3]> = get(&golden, "precision_recall");
    let found = ranking.precision_recall();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_all_near([found.threshold, found.precision, found.recall], expected, ROUNDING);
    }
}

#[test]
fn several_labels_an_item() {
    let golden = golden("multi_label");
    let numbers = |key: &str| get::<Vec<f64>>(&golden, key);
    let thresholds = numbers("thresholds");
    let case = Case::new(matrix(&golden, "logits"), Targets::Multi(get(&golden, "has")));
    let report = case.report(|evidence| {
        evidence.thresholds = Some(&thresholds);
        evidence.held_out.groups = Some(&case.one_group);
    });
    let Metrics::MultiLabel(metrics) = &report.metrics else { panic!("not of several labels") };
    assert_near(metrics.micro_f1.value, get(&golden, "micro_f1"), ROUNDING);
    assert_near(metrics.macro_f1.value, get(&golden, "macro_f1"), ROUNDING);
    assert_near(metrics.exact_match.value, get(&golden, "exact_match"), ROUNDING);
    assert_near(report.groups.unwrap().groups[0].quality.value, get(&golden, "items_f1"), ROUNDING);
    assert_all_near(metrics.labels.iter().map(|l| l.precision), &numbers("precision"), ROUNDING);
    assert_all_near(metrics.labels.iter().map(|l| l.recall), &numbers("recall"), ROUNDING);
    assert_all_near(metrics.labels.iter().map(|l| l.f1), &numbers("f1"), ROUNDING);
    let precisions = metrics.labels.iter().map(|l| l.average_precision.unwrap());
    assert_all_near(precisions, &numbers("average_precision"), ROUNDING);

    let before = report.calibration.unwrap().before;
    assert_near(before.expected_calibration_error, get(&golden, "calibration_error"), ROUNDING);
    assert_near(before.log_loss, get(&golden, "pooled_log_loss"), ROUNDING);
    for expected in get::<Vec<[f64; 5]>>(&golden, "one_threshold") {
        let point = report.thresholds.iter().find(|point| point.threshold == expected[0]).unwrap();
        let found = [point.threshold, point.precision, point.recall, point.f1, point.coverage];
        assert_all_near(found, &expected, ROUNDING);
    }
    let coverage = report.coverage.unwrap();
    assert_near(coverage.points[0].accuracy, get(&golden, "best_right"), ROUNDING);
    let [share, right]: [f64; 2] = get(&golden, "half");
    let half = coverage.points.iter().find(|point| (point.coverage - share).abs() < ROUNDING).unwrap();
    assert_near(half.accuracy, right, ROUNDING);
}

#[test]
fn mcnemar() {
    for case in golden("mcnemar").as_array().unwrap() {
        let counts = Discordance { first: get(case, "first"), second: get(case, "second") };
        assert_near(counts.mid_p(), get(case, "mid"), ROUNDING);
        assert_near(counts.second_worse_p(), get(case, "worse"), ROUNDING);
    }
}

#[test]
fn suspicious_labels() {
    let golden = golden("suspicious");
    let scores: Array2<f64> = matrix(&golden, "scores");
    let found = suspicious(scores.view(), &Targets::Single(get(&golden, "labels")));
    let mut rows: Vec<usize> = found.iter().map(|suspect| suspect.row).collect();
    rows.sort_unstable();
    assert_eq!(rows, get::<Vec<usize>>(&golden, "rows"));
}

#[test]
fn logistic_regression_on_texts() {
    let golden = golden("tf_idf");
    let texts = Texts::new(&get::<Vec<String>>(&golden, "texts"), &get::<Vec<String>>(&golden, "held_out"));
    let scores = texts.scores(&[0, 1, 2, 3, 4, 5], &Targets::Single(get(&golden, "labels")), 3, 1);
    let expected: Array2<f64> = matrix(&golden, "probabilities");
    assert_all_near(scores.iter().map(|score| f64::from(*score)), expected.as_slice().unwrap(), 0.01);
}

#[test]
fn oriented_gradients() {
    let golden = golden("hog");
    let grey: Array2<f64> = matrix(&golden, "grey") / 255.0;
    assert_all_near(hog(grey.view()), &get::<Vec<f64>>(&golden, "descriptor"), 1e-7);
}
