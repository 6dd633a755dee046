//! Whether scores mean what they say: expected calibration error and the reliability diagram.

use headstart_types::report::{Reliability, ReliabilityBin};
use ndarray::{Array2, ArrayView1, ArrayView2};

use super::metrics::{best_classes, log_loss, mean, ratio};
use crate::rng::Rng;

/// Bins of the reliability diagram. Source: Guo et al. 2017, "On calibration of modern neural networks", §2.
pub const BINS: usize = 15;

/// Draws of [`by_chance`].
const DRAWS: usize = 400;

/// Items of a bin that are drawn one by one; of more the sum is drawn at once, as every label of every item counts and
/// there may be many millions.
const ONE_BY_ONE: usize = 2_000;

/// Logits `[n, classes]` divided by `temperature` and turned into probabilities that sum to 1 in each row.
pub fn softmax(logits: ArrayView2<'_, f32>, temperature: f64) -> Array2<f64> {
    let mut scores = logits.mapv(|logit| f64::from(logit) / temperature);
    for mut row in scores.outer_iter_mut() {
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.mapv_inplace(|score| (score - top).exp());
        let sum = row.sum();
        row.mapv_inplace(|score| score / sum);
    }
    scores
}

/// Logits `[n, labels]` divided by `temperature` and turned into probabilities one by one.
pub fn sigmoid(logits: ArrayView2<'_, f32>, temperature: f64) -> Array2<f64> {
    logits.mapv(|logit| 1.0 / (1.0 + (-f64::from(logit) / temperature).exp()))
}

/// The reliability of probabilities `[n, classes]`: items in [`BINS`] bins of equal width by their best score, each
/// bin open below and closed above; the expected calibration error weighs the gaps by items.
pub fn reliability(probabilities: ArrayView2<'_, f64>, targets: &[u32]) -> Reliability {
    let best = best_classes(probabilities);
    let score = |(row, best): (ArrayView1<'_, f64>, &u32)| row.get(*best as usize).copied().unwrap_or(0.0);
    let scores = probabilities.outer_iter().zip(&best).map(score);
    let right = best.iter().zip(targets).map(|(said, target)| said == target);
    binned(scores.zip(right), log_loss(probabilities, targets))
}

/// The same of probabilities `[n, labels]` where a row has any number of labels: every label of every item is in a bin by
/// its score, and counts as right where the item has it.
pub fn label_reliability(probabilities: ArrayView2<'_, f64>, rows: &[Vec<u32>]) -> Reliability {
    let pairs = || label_scores(probabilities, rows);
    let cost = |(score, has): (f64, bool)| -(if has { score } else { 1.0 - score }).max(f64::EPSILON).ln();
    binned(pairs(), mean(pairs().map(cost)))
}

/// The score of every label of every item, and whether the item has it.
fn label_scores<'a>(
    probabilities: ArrayView2<'a, f64>,
    rows: &'a [Vec<u32>],
) -> impl Iterator<Item = (f64, bool)> + 'a {
    probabilities.into_iter().enumerate().map(move |(place, score)| {
        let (row, label) = (place / probabilities.ncols(), place % probabilities.ncols());
        (*score, rows.get(row).is_some_and(|has| has.binary_search(&(label as u32)).is_ok()))
    })
}

fn bin(score: f64) -> usize {
    ((score * BINS as f64).ceil() as usize).clamp(1, BINS) - 1
}

fn binned(pairs: impl Iterator<Item = (f64, bool)>, log_loss: f64) -> Reliability {
    let (mut items, mut right, mut confidence) = ([0usize; BINS], [0usize; BINS], [0.0; BINS]);
    for (score, is_right) in pairs {
        let bin = bin(score);
        items[bin] += 1;
        right[bin] += usize::from(is_right);
        confidence[bin] += score;
    }
    let all = items.iter().sum();
    let bins: Vec<ReliabilityBin> = (0..BINS)
        .map(|bin| ReliabilityBin {
            low: ratio(bin, BINS),
            high: ratio(bin + 1, BINS),
            items: items[bin],
            confidence: (items[bin] > 0).then(|| confidence[bin] / items[bin] as f64),
            accuracy: (items[bin] > 0).then(|| ratio(right[bin], items[bin])),
        })
        .collect();
    let gap = |bin: &ReliabilityBin| {
        (bin.confidence.unwrap_or(0.0) - bin.accuracy.unwrap_or(0.0)).abs() * ratio(bin.items, all)
    };
    Reliability { expected_calibration_error: bins.iter().map(gap).sum(), chance: None, log_loss, bins }
}

/// The calibration error that scores which mean what they say stay below in 95 of 100 sets as large: each answer is drawn
/// to be right as often as its score says, and the error of such draws is not 0, with few items far from it (Bröcker and
/// Smith 2007, "Increasing the reliability of reliability diagrams"; Vaicenavicius et al. 2019, "Evaluating model
/// calibration in classification"). The sum over a bin of more than `ONE_BY_ONE` items is drawn as normal with its
/// variance (Lyapunov's theorem), so that the time does not grow with the items.
pub fn by_chance(scores: &[f64], seed: u64) -> f64 {
    let (mut items, mut variance) = ([0usize; BINS], [0.0; BINS]);
    for &score in scores {
        items[bin(score)] += 1;
        variance[bin(score)] += score * (1.0 - score);
    }
    let few: Vec<f64> = scores.iter().copied().filter(|score| items[bin(*score)] <= ONE_BY_ONE).collect();
    let deviations: Vec<f64> = items
        .iter()
        .zip(variance)
        .filter(|(items, _)| **items > ONE_BY_ONE)
        .map(|(_, variance): (_, f64)| variance.max(0.0).sqrt())
        .collect();
    let mut rng = Rng::new(seed);
    let error = |rng: &mut Rng| {
        let mut gaps = [0.0; BINS];
        for &score in &few {
            gaps[bin(score)] += score - f64::from(u8::from(rng.unit() < score));
        }
        let drawn: f64 = deviations.iter().map(|deviation| (deviation * normal(rng)).abs()).sum();
        (gaps.iter().map(|gap: &f64| gap.abs()).sum::<f64>() + drawn) / scores.len().max(1) as f64
    };
    let mut errors: Vec<f64> = (0..DRAWS).map(|_| error(&mut rng)).collect();
    errors.sort_unstable_by(f64::total_cmp);
    errors.get(DRAWS * 95 / 100).copied().unwrap_or(0.0)
}

/// A draw of the standard normal distribution (Box and Muller 1958, "A note on the generation of random normal deviates").
fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.unit()).cos()
}

/// The scores that [`reliability`] and [`label_reliability`] look at.
pub(crate) fn judged(probabilities: ArrayView2<'_, f64>, several: bool) -> Vec<f64> {
    if several { probabilities.iter().copied().collect() } else { confidences(probabilities) }
}

/// The best score of each row.
pub(crate) fn confidences(probabilities: ArrayView2<'_, f64>) -> Vec<f64> {
    probabilities.outer_iter().map(|row| row.iter().copied().fold(0.0, f64::max)).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_certain_score_that_is_always_right_has_no_error() {
        let sure = array![[1.0, 0.0], [0.0, 1.0]];
        assert_eq!(reliability(sure.view(), &[0, 1]).expected_calibration_error, 0.0);
        assert_eq!(reliability(sure.view(), &[1, 0]).expected_calibration_error, 1.0);
    }

    #[test]
    fn scores_that_mean_what_they_say_seldom_leave_what_chance_makes_of_them() {
        let mut rng = Rng::new(11);
        for n in [48, 500] {
            let mut beyond = 0;
            for trial in 0..200 {
                let scores: Vec<f64> = (0..n).map(|_| 0.2 + 0.8 * rng.unit()).collect();
                let rows =
                    Array2::from_shape_fn((n, 2), |(row, class)| if class == 0 { scores[row] } else { -1.0 });
                let targets: Vec<u32> = scores.iter().map(|score| u32::from(rng.unit() >= *score)).collect();
                let found = reliability(rows.view(), &targets).expected_calibration_error;
                beyond += usize::from(found > by_chance(&scores, trial));
            }
            assert!((1..=22).contains(&beyond), "{beyond} of 200 with {n} items");
        }
    }

    #[test]
    fn what_chance_makes_of_many_scores_is_what_drawing_each_would_say() {
        let mut rng = Rng::new(5);
        // Most labels of most items are far from it, as where there are many labels.
        let scores: Vec<f64> = (0..60_000).map(|_| rng.unit().powi(6)).collect();
        let mut errors: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let mut gaps = [0.0; BINS];
                for &score in &scores {
                    gaps[bin(score)] += score - f64::from(u8::from(rng.unit() < score));
                }
                gaps.iter().map(|gap: &f64| gap.abs()).sum::<f64>() / scores.len() as f64
            })
            .collect();
        errors.sort_unstable_by(f64::total_cmp);
        let (drawn, found) = (errors[DRAWS * 95 / 100], by_chance(&scores, 7));
        assert!((found / drawn - 1.0).abs() < 0.1, "{found} is not {drawn}");
    }

    #[test]
    fn labels_of_an_item_are_judged_one_by_one() {
        let scores = array![[0.9, 0.2], [0.8, 0.1]];
        let found = label_reliability(scores.view(), &[vec![0], vec![]]);
        assert!((found.expected_calibration_error - (0.1 + 0.2 + 0.8 + 0.1) / 4.0).abs() < 1e-12);
        let loss = -(0.9f64.ln() + 0.8f64.ln() + 0.2f64.ln() + 0.9f64.ln()) / 4.0;
        assert!((found.log_loss - loss).abs() < 1e-12);
    }

    #[test]
    fn a_high_temperature_makes_scores_even_and_leaves_the_order() {
        let logits = array![[3.0f32, 1.0, -800.0]];
        let (cold, hot) = (softmax(logits.view(), 1.0), softmax(logits.view(), 1e6));
        assert!((cold[[0, 0]] - 0.880_797_077_977_882_3).abs() < 1e-12);
        assert!((hot[[0, 0]] - 1.0 / 3.0).abs() < 1e-3 && hot[[0, 0]] > hot[[0, 1]]);
    }
}
