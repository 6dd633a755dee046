//! Labels for pictures without a picture-text model: the source head's classes, bridged to the labels by text vectors.
//!
//! ConSE (Norouzi et al. 2014) averages the text vectors of the likeliest source classes and looks for the nearest
//! label. Here the bridge is soft and belongs to the label: each label spreads over all source classes by the
//! similarity of their texts, and its score is the probability that the source head gives to that spread.

use crate::npy::Table;

/// Keeps the logarithm finite where a label has no support.
const FLOOR: f64 = 1e-12;

/// Bisection steps for the spread's temperature: the interval of 0.001 to 2 shrinks below a thousandth of a percent.
const STEPS: usize = 30;

/// A label's weights over the source classes, adding up to one: a softmax of the cosines to the classes' text vectors
/// whose temperature is such that the weights have the given perplexity (van der Maaten & Hinton 2008, §2).
///
/// `classes` is `[source classes, dimension]` of unit vectors, `label` a unit vector of `dimension`.
pub(super) fn class_weights(classes: &Table, label: &[f32], perplexity: f64) -> Vec<f32> {
    let cosines: Vec<f64> = (0..classes.rows)
        .map(|row| classes.row(row).iter().zip(label).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
        .collect();
    let (mut low, mut high) = (1e-3f64, 2.0f64);
    for _ in 0..STEPS {
        let middle = (low * high).sqrt();
        if entropy(&spread(&cosines, middle)).exp() < perplexity { low = middle } else { high = middle }
    }
    spread(&cosines, (low * high).sqrt()).into_iter().map(|weight| weight as f32).collect()
}

/// Log-probability that the source head gives to a label's weights.
pub(super) fn score(class_probabilities: &[f64], weights: &[f32]) -> f64 {
    let support: f64 =
        class_probabilities.iter().zip(weights).map(|(p, weight)| p * f64::from(*weight)).sum();
    (support + FLOOR).ln()
}

/// The score of an item whose class probabilities are the label's own weights, `ln Σ w²`. A label that spreads over many
/// classes can never score as high as a narrow one.
pub(super) fn own_score(weights: &[f32]) -> f64 {
    weights.iter().map(|weight| f64::from(*weight).powi(2)).sum::<f64>().ln()
}

/// The source head's probabilities of its classes.
pub(super) fn class_probabilities(logits: &[f32], temperature: f64) -> Vec<f64> {
    let logits: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
    spread(&logits, temperature)
}

/// Softmax at a temperature.
pub(super) fn spread(values: &[f64], temperature: f64) -> Vec<f64> {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = values.iter().map(|value| ((value - most) / temperature).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / total).collect()
}

fn entropy(weights: &[f64]) -> f64 {
    -weights.iter().map(|weight| weight * weight.max(f64::MIN_POSITIVE).ln()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Table {
        let angles = (0..50).map(|step| f64::from(step) * 0.06);
        let values = angles.flat_map(|angle| [angle.cos() as f32, angle.sin() as f32]).collect();
        Table { rows: 50, columns: 2, values }
    }

    #[test]
    fn a_labels_weights_have_the_perplexity_asked_for() {
        for perplexity in [2.0, 10.0, 40.0] {
            let weights = class_weights(&classes(), &[1.0, 0.0], perplexity);
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-5);
            assert!((entropy(&weights).exp() - perplexity).abs() < 0.05 * perplexity, "{perplexity}");
            assert!(weights.windows(2).all(|pair| pair[0] >= pair[1]), "nearer classes weigh more");
        }
    }

    #[test]
    fn a_narrow_label_can_score_higher_than_a_broad_one() {
        let own = |perplexity| own_score(&class_weights(&classes(), &[1.0, 0.0], perplexity));
        assert!(own(2.0) > own(10.0) && own(10.0) > own(40.0));
        assert!((own_score(&[0.25; 4]) - 0.25f64.ln()).abs() < 1e-9, "evenly over n classes: -ln n");
    }

    #[test]
    fn the_label_nearest_to_the_likely_classes_scores_best() {
        let classes = classes();
        let mut logits = vec![0.0; 50];
        logits[0] = 9.0;
        let probabilities = class_probabilities(&logits, 1.0);
        let near = score(&probabilities, &class_weights(&classes, &[1.0, 0.0], 5.0));
        let far = score(&probabilities, &class_weights(&classes, &[0.0, 1.0], 5.0));
        assert!(near > far + 1.0, "{near} {far}");
    }
}
