//! How held-out logits do, the same for every method, so that methods can be compared.

use ndarray::{Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{
    calibrate,
    data::Targets,
    error::MethodError,
    head::{Head, squash},
};

/// How one candidate did on held-out rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    /// The share of answers that are right.
    pub(crate) accuracy: f64,
    /// The same where rows weigh as their class does.
    #[serde(default)]
    pub(crate) weighted: Option<f64>,
    /// The mean negative log-likelihood at `temperature`.
    pub(crate) loss: f64,
    /// The temperature with the least loss.
    pub(crate) temperature: f32,
}

impl Score {
    /// The score of `logits` (`n × classes`); rows weigh as their class does, where weights are given.
    pub(crate) fn of(logits: ArrayView2<'_, f32>, targets: &Targets, weights: Option<&[f64]>) -> Self {
        let temperature = calibrate::temperature(logits, targets);
        let loss = calibrate::loss(logits, targets, temperature.into());
        let weighted = weights.map(|weights| accuracy(logits, targets, Some(weights)));
        Self { accuracy: accuracy(logits, targets, None), weighted, loss, temperature }
    }

    /// The accuracy to choose by.
    pub(crate) fn judged(&self) -> f64 {
        self.weighted.unwrap_or(self.accuracy)
    }

    /// Higher accuracy, or the same with less loss.
    pub(crate) fn beats(&self, other: &Self) -> bool {
        self.judged() > other.judged() || (self.judged() == other.judged() && self.loss < other.loss)
    }
}

/// The share of rows whose largest logit is the right class; for several labels, of rows and labels on the right
/// side of ½.
pub(crate) fn accuracy(logits: ArrayView2<'_, f32>, targets: &Targets, weights: Option<&[f64]>) -> f64 {
    let (mut right, mut total) = (0.0, 0.0);
    for (row, z) in logits.outer_iter().enumerate() {
        let of = targets.of(row);
        if targets.is_multi() {
            let sides =
                z.iter().enumerate().filter(|(class, z)| (**z > 0.0) == of.contains(&(*class as u32)));
            right += sides.count() as f64;
            total += z.len() as f64;
        } else {
            let class = of.first().map_or(0, |&class| class as usize);
            let weight = weights.and_then(|weights| weights.get(class).copied()).unwrap_or(1.0);
            right += if largest(z) == class { weight } else { 0.0 };
            total += weight;
        }
    }
    if total > 0.0 { right / total } else { 0.0 }
}

/// The index of the largest number, the first of equals.
pub(crate) fn largest(row: ArrayView1<'_, f32>) -> usize {
    let most = |best: (usize, f32), (index, &z): (usize, &f32)| if z > best.1 { (index, z) } else { best };
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), most).0
}

/// The head with its temperature, and thresholds for several labels, from held-out logits.
pub(crate) fn calibrated(
    head: Head,
    logits: &Array2<f32>,
    targets: &Targets,
    temperature: f32,
) -> Result<Head, MethodError> {
    let thresholds = targets.is_multi().then(|| {
        let mut probabilities = logits.clone();
        squash(&mut probabilities, temperature, true);
        calibrate::thresholds(probabilities.view(), targets)
    });
    head.calibrated(temperature, thresholds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_the_share_of_right_answers_however_much_a_class_weighs() {
        // Five rows of a class that weighs a hundred times as much are all wrong.
        let targets = Targets::Single((0..100).map(|row| u32::from(row >= 95)).collect());
        let logits = Array2::from_shape_fn((100, 2), |(_, class)| if class == 0 { 1.0 } else { 0.0 });
        let score = Score::of(logits.view(), &targets, Some(&[1.0, 100.0]));
        assert_eq!(score.accuracy, 0.95);
        assert!((score.judged() - 95.0 / 595.0).abs() < 1e-12, "{score:?}");
        assert_eq!(Score::of(logits.view(), &targets, None).judged(), 0.95);
    }
}
