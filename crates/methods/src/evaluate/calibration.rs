//! Whether scores mean what they say: expected calibration error and the reliability diagram.

use headstart_types::report::{Reliability, ReliabilityBin};
use ndarray::{Array2, ArrayView2};

use super::metrics::{best_classes, log_loss, ratio};

/// Bins of the reliability diagram. Source: Guo et al. 2017, "On calibration of modern neural networks", §2.
pub const BINS: usize = 15;

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
    let mut items = [0usize; BINS];
    let mut right = [0usize; BINS];
    let mut confidence = [0.0; BINS];
    for ((row, &target), best) in probabilities.outer_iter().zip(targets).zip(best_classes(probabilities)) {
        let score = row.get(best as usize).copied().unwrap_or(0.0);
        let bin = ((score * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        items[bin] += 1;
        right[bin] += usize::from(best == target);
        confidence[bin] += score;
    }
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
        (bin.confidence.unwrap_or(0.0) - bin.accuracy.unwrap_or(0.0)).abs() * ratio(bin.items, targets.len())
    };
    Reliability {
        expected_calibration_error: bins.iter().map(gap).sum(),
        log_loss: log_loss(probabilities, targets),
        bins,
    }
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
    fn a_high_temperature_makes_scores_even_and_leaves_the_order() {
        let logits = array![[3.0f32, 1.0, -800.0]];
        let (cold, hot) = (softmax(logits.view(), 1.0), softmax(logits.view(), 1e6));
        assert!((cold[[0, 0]] - 0.880_797_077_977_882_3).abs() < 1e-12);
        assert!((hot[[0, 0]] - 1.0 / 3.0).abs() < 1e-3 && hot[[0, 0]] > hot[[0, 1]]);
    }
}
