//! The penalty that `linear_probe` chooses on few rows, against scikit-learn's choice on the same problems.
#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod support;

use headstart_methods::{
    FitData, Unattended,
    data::{Examples, Targets},
    method,
    rng::Rng,
};
use ndarray::Array2;
use serde::Deserialize;
use serde_json::Map;
use support::{BACKBONE, accuracy, examples};

const CLASSES: usize = 6;
const DIM: usize = 48;
/// Columns that are loud and say nothing.
const LOUD: usize = 6;
const HELD_OUT: usize = 600;
/// Half a point.
const MARGIN: f64 = 0.005;

/// What scikit-learn chose by `tools/golden/penalty.py`, and how it did on the rows held out.
#[derive(Deserialize)]
struct Case {
    size: usize,
    seed: u64,
    c: f64,
    accuracy: f64,
}

/// The rows of `problem` in `tools/golden/penalty.py`.
fn small_problem(rows: usize, seed: u64) -> Examples {
    let mut rng = Rng::new(7);
    let centres = Array2::from_shape_simple_fn((CLASSES, DIM), || rng.unit() - 0.5);
    let mut rng = Rng::new(seed);
    let mut x = Array2::from_shape_fn((rows, DIM), |(row, column)| {
        let noise = rng.unit() + rng.unit() - 1.0;
        if column < LOUD { 4.0 * noise } else { noise + 0.6 * centres[[row % CLASSES, column]] }
    });
    for mut row in x.outer_iter_mut() {
        let length = row.dot(&row).sqrt();
        row /= length;
    }
    let labels = (0..rows).map(|row| (row % CLASSES) as u32).collect();
    examples(x.mapv(|value| value as f32), Targets::Single(labels), CLASSES)
}

fn mean(of: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = of.len() as f64;
    of.sum::<f64>() / count
}

#[test]
fn few_rows_get_a_penalty_as_good_as_scikit_learns() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/penalty.json")).unwrap();
    let probe = method("linear_probe").unwrap();
    let params = probe.check(&Map::new()).unwrap();
    for size in [10, 20, 32, 40] {
        let cases: Vec<&Case> = cases.iter().filter(|case| case.size == size).collect();
        assert_eq!(cases.len(), 12);
        let fits: Vec<(f64, f64)> = cases
            .iter()
            .map(|case| {
                let train = small_problem(size * CLASSES, 1000 * size as u64 + case.seed);
                let data = FitData { train: &train, validation: None, backbone: BACKBONE(), threads: 2 };
                let fitted = probe.fit(&data, &params, case.seed, &mut Unattended).unwrap();
                let right = accuracy(&fitted.head, &small_problem(HELD_OUT, 500_000 + case.seed));
                (fitted.metrics["c"], right)
            })
            .collect();
        let (ours, theirs) =
            (mean(fits.iter().map(|fit| fit.1)), mean(cases.iter().map(|case| case.accuracy)));
        assert!(ours >= theirs - MARGIN, "{size} rows a class: {ours} against {theirs}");
        for ((c, right), case) in fits.iter().zip(cases) {
            // Where accuracy is flat, C is below 0.04; there scikit-learn chose none of them.
            assert!(*c > 0.04, "{size} rows, seed {}: C = {c}, theirs {}", case.seed, case.c);
            assert!(*right > case.accuracy - 0.08, "{size} rows, seed {}: {right}", case.seed);
        }
    }
}

#[test]
fn scores_of_few_rows_are_no_shrug() {
    for seed in 0..12 {
        let train = small_problem(40 * CLASSES, 40_000 + seed);
        let probe = method("linear_probe").unwrap();
        let data = FitData { train: &train, validation: None, backbone: BACKBONE(), threads: 2 };
        let params = probe.check(&Map::new()).unwrap();
        let head = probe.fit(&data, &params, seed, &mut Unattended).unwrap().head;
        let scores = head.probabilities(small_problem(HELD_OUT, 500_000 + seed).features()).unwrap();
        let best = mean(scores.outer_iter().map(|row| row.iter().copied().fold(0.0f32, f32::max).into()));
        assert!(best > 0.5, "seed {seed}: the best score is {best} on average, where 1/6 says nothing");
    }
}
