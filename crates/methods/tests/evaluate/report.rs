//! The report as a whole: what it holds, what it refuses, what it says.

use headstart_methods::data::Targets;
use headstart_methods::evaluate::learning_curve::{Curve, Ground, Learners, measure};
use headstart_methods::evaluate::transfer::Names;
use headstart_methods::evaluate::{EvaluateError, OutOfSample};
use headstart_methods::rng::Rng;
use headstart_types::report::{Duplicates, Metrics, Report, Row, Verdict};
use ndarray::Array2;

use crate::evidence::Case;

/// `n` rows of two classes; the head is right in four of five.
pub(crate) fn two_classes(n: usize) -> Case {
    let labels: Vec<u32> = (0..n as u32).map(|row| row % 2).collect();
    let mut chance = Rng::new(3);
    let logits = Array2::from_shape_fn((n, 2), |(row, class)| {
        let lean = if (row % 2 == class) == (row % 5 != 0) { 2.0 } else { 0.0 };
        lean + chance.unit() as f32
    });
    Case::new(logits, Targets::Single(labels))
}

#[test]
fn the_same_evidence_gives_the_same_bytes_and_reads_back_as_itself() {
    let case = two_classes(200);
    let json = || {
        serde_json::to_string(&case.report(|evidence| {
            evidence.temperature = Some(1.5);
            evidence.held_out.groups = Some(&case.one_group);
        }))
        .unwrap()
    };
    let once = json();
    assert_eq!(once, json());
    let read: Report = serde_json::from_str(&once).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), once);
}

#[test]
fn two_classes_have_curves_coverage_and_a_verdict_against_the_commonest_class() {
    let case = two_classes(200);
    let report = case.report(|_| {});
    assert!(report.verdict.starts_with("80.0 % of 200 held-out items are named right"), "{}", report.verdict);
    assert!(report.verdict.contains("against 50.0 % by always naming the commonest class"));
    assert_eq!(report.curves.as_ref().unwrap().positive, "class 1");
    assert_eq!(report.coverage.as_ref().unwrap().points[0].coverage, 1.0);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(value["metrics"]["problem"], "single_label");
    assert!(value.get("suspicious").is_none() && value.get("transfer").is_none());
}

#[test]
fn what_weakens_the_figures_is_warned_of() {
    let mut case = two_classes(40);
    case.train_counts = vec![200, 5];
    case.targets = Targets::Single(vec![0; 40]);
    let duplicates = Duplicates { exact: 2, near: 0, across_splits: 2, conflicting: 0, pairs: Vec::new() };
    let report = case.report(|evidence| evidence.duplicates = Some(duplicates));
    let codes: Vec<&str> = report.warnings.iter().map(|note| note.code.as_str()).collect();
    let expected = [
        "few_examples",
        "imbalance",
        "few_held_out",
        "class_not_held_out",
        "leakage",
        "no_better_than_majority",
        "miscalibrated",
    ];
    assert_eq!(codes, expected);
    assert!(report.curves.is_none(), "one class has no curve");
}

#[test]
fn scores_that_mean_what_they_say_are_not_called_miscalibrated_where_few_rows_are_held_out() {
    let mut chance = Rng::new(17);
    let (mut wrongly, mut rightly) = (0, 0);
    for _ in 0..100 {
        let sure: Vec<f64> = (0..48).map(|_| 0.5 + 0.5 * chance.unit()).collect();
        let logits = Array2::from_shape_fn((48, 2), |(row, class)| {
            let share = if class == 0 { sure[row] } else { 1.0 - sure[row] };
            share.max(1e-6).ln() as f32
        });
        let honest = sure.iter().map(|share| u32::from(chance.unit() >= *share)).collect();
        let guessed = sure.iter().map(|_| u32::from(chance.unit() >= 0.5)).collect();
        let warned = |labels: Vec<u32>| {
            let report = Case::new(logits.clone(), Targets::Single(labels)).report(|_| {});
            report.warnings.iter().any(|note| note.code == "miscalibrated")
        };
        wrongly += usize::from(warned(honest));
        rightly += usize::from(warned(guessed));
    }
    assert!(wrongly <= 12, "{wrongly} of 100 calibrated ones");
    assert!(rightly >= 80, "{rightly} of 100 that only guess");
}

#[test]
fn without_time_for_a_curve_the_report_says_that_nobody_knows_whether_transfer_helped() {
    let case = two_classes(200);
    let curve = level_curve(&case, 0);
    let names = Names { learner: "probe", baseline: "counting words" };
    let report = case.report(|evidence| evidence.curve = Some((&curve, names)));
    assert!(report.transfer.is_none() && report.left_out.len() > 3);
    let note = report.warnings.iter().find(|note| note.code == "transfer_not_measured").unwrap();
    assert!(headstart_methods::evaluate::page::render(&report).contains(&note.message));
}

/// A curve of 64 training rows: with transfer at once as good as ever, without only with all rows. Time is up after
/// `draws` draws.
pub(crate) fn level_curve(case: &Case, draws: usize) -> Curve {
    let train = Targets::Single((0..64).map(|row| row % 2).collect());
    let rows = case.targets.len();
    let answers = |good: bool| {
        Array2::from_shape_fn((rows, 2), |(row, class)| {
            f32::from(u8::from(if good || row % 4 < 2 { row % 2 == class } else { row % 2 != class }))
        })
    };
    let looks = std::cell::Cell::new(0);
    let time_is_up = || looks.replace(looks.get() + 1) >= draws;
    let mut transfer = |_: &[usize], _: u64| Ok::<_, std::convert::Infallible>(answers(true));
    let mut no_transfer = |rows: &[usize], _: u64| Ok(answers(rows.len() == 64));
    let mut learners = Learners { transfer: &mut transfer, no_transfer: &mut no_transfer };
    let ground = Ground { train: &train, held_out: &case.targets, classes: 2, seed: 1 };
    measure(&ground, &mut learners, &time_is_up).unwrap()
}

#[test]
fn a_curve_that_ends_level_is_reported_as_no_difference_and_missing_points_are_named() {
    let case = two_classes(200);
    let curve = level_curve(&case, 11);
    let names = Names { learner: "probe", baseline: "counting words" };
    let report = case.report(|evidence| evidence.curve = Some((&curve, names)));
    let transfer = report.transfer.unwrap();
    assert_eq!(transfer.start.unwrap().verdict, Verdict::Helped);
    assert_eq!(transfer.asymptote.unwrap().verdict, Verdict::NoDifference);
    assert!(
        report.verdict.contains("Transfer made no difference with all examples; it helped with the fewest.")
    );
    let parts: Vec<&str> = report.left_out.iter().map(|left| left.part.as_str()).collect();
    assert_eq!(parts, [4, 8, 16].map(|k| format!("learning curve at {k} examples a class")));
}

#[test]
fn suspicious_labels_carry_their_rows() {
    let case = two_classes(40);
    let mut labels: Vec<u32> = (0..40).map(|row| row % 2).collect();
    labels[6] = 1;
    let targets = Targets::Single(labels);
    let probabilities =
        Array2::from_shape_fn((40, 2), |(row, class)| if row % 2 == class { 0.9 } else { 0.1 });
    let rows: Vec<Row> = (0..40).map(|row| Row { split: None, line: Some(row + 2), path: None }).collect();
    let report = case.report(|evidence| {
        evidence.out_of_sample =
            Some(OutOfSample { probabilities: probabilities.view(), targets: &targets, rows: &rows });
    });
    let suspicious = report.suspicious.unwrap();
    assert_eq!((suspicious.examined, suspicious.found), (40, 1));
    let found = &suspicious.rows[0];
    assert_eq!((found.row.line, found.label.as_deref()), (Some(8), Some("class 1")));
    assert_eq!(found.suggested.as_deref(), Some("class 0"));
}

#[test]
fn evidence_that_does_not_fit_together_is_refused() {
    let case = two_classes(40);
    let short = [Some("a".to_owned())];
    let found = case.try_report(|evidence| evidence.held_out.groups = Some(&short));
    assert_eq!(found, Err(EvaluateError::Size { part: "groups", given: 1, expected: 40 }));
    let found = case.try_report(|evidence| evidence.temperature = Some(0.0));
    assert_eq!(found, Err(EvaluateError::NotFinite("temperature")));
    let mut wrong = two_classes(4);
    wrong.targets = Targets::Single(vec![0, 1, 2, 0]);
    assert_eq!(wrong.try_report(|_| {}), Err(EvaluateError::UnknownClass { class: 2, classes: 2 }));
    let none = Case::new(Array2::zeros((0, 2)), Targets::Single(vec![]));
    assert_eq!(none.try_report(|_| {}), Err(EvaluateError::Empty));
}

#[test]
fn rows_of_a_few_groups_leave_wide_intervals_and_are_warned_of() {
    let case = two_classes(200);
    let groups: Vec<Option<String>> = (0..200).map(|row| Some(format!("g{}", row / 50))).collect();
    let (plain, grouped) =
        (case.report(|_| {}), case.report(|evidence| evidence.held_out.groups = Some(&groups)));
    let warned = |report: &Report| report.warnings.iter().any(|note| note.code == "few_groups");
    assert!(warned(&grouped) && !warned(&plain));
    let alike: Vec<Option<String>> =
        (0..200).map(|row| Some(format!("g{}", row % 5 * 4 + row / 50))).collect();
    let alike = case.report(|evidence| evidence.held_out.groups = Some(&alike));
    let width = |report: &Report| {
        let Metrics::SingleLabel(metrics) = &report.metrics else { panic!("of several labels") };
        metrics.accuracy.high - metrics.accuracy.low
    };
    assert!(width(&alike) > 1.5 * width(&plain), "four of twenty groups are wrong throughout");
    assert!(!warned(&alike));
}

#[test]
fn rows_without_a_group_count_for_themselves_where_groups_are_few() {
    let case = two_classes(280);
    let warning = |groups: Vec<Option<String>>| {
        let report = case.report(|evidence| evidence.held_out.groups = Some(&groups));
        report.warnings.into_iter().find(|note| note.code == "few_groups").map(|note| note.message)
    };
    let of = |rows: std::ops::Range<usize>| rows.map(|row| Some(format!("g{}", row % 3)));
    let mostly_none = of(0..30).chain((30..280).map(|_| None)).collect();
    assert_eq!(warning(mostly_none), None, "250 rows say something of their own");
    assert_eq!(warning((0..280).map(|_| Some("all".to_owned())).collect()), None, "one group is none");
    let message = warning(of(0..276).chain((276..280).map(|_| None)).collect()).unwrap();
    assert!(message.contains("7 parts, 4 of them of no group"), "{message}");
}
