//! From held-out logits to a temperature and to thresholds.

use ndarray::{ArrayView1, ArrayView2};

use crate::data::Targets;

/// The mean negative log-likelihood of `logits / temperature` (`n × classes`) under `targets`, in nats a row
/// (a row and class for several labels a row). 0 for no rows.
pub fn loss(logits: ArrayView2<'_, f32>, targets: &Targets, temperature: f64) -> f64 {
    let mut sum = 0.0;
    for (row, z) in logits.outer_iter().enumerate() {
        sum += match targets {
            Targets::Single(of) => {
                of.get(row).map_or(0.0, |&class| softmax_loss(z, class as usize, temperature))
            }
            Targets::Multi(_) => {
                let of = targets.of(row);
                let label = |(class, &z): (usize, &f32)| {
                    let z = f64::from(z) / temperature;
                    let z = if of.binary_search(&(class as u32)).is_ok() { -z } else { z };
                    z.max(0.0) + (-z.abs()).exp().ln_1p()
                };
                z.iter().enumerate().map(label).sum::<f64>() / z.len().max(1) as f64
            }
        };
    }
    sum / logits.nrows().max(1) as f64
}

fn softmax_loss(z: ArrayView1<'_, f32>, class: usize, temperature: f64) -> f64 {
    let most = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scaled = |value: f32| f64::from(value - most) / temperature;
    let sum: f64 = z.iter().map(|&value| scaled(value).exp()).sum();
    sum.ln() - z.get(class).map_or(0.0, |&value| scaled(value))
}

/// The temperature between 1/50 and 50 with the least [`loss`] on held-out logits (Guo et al., "On calibration of
/// modern neural networks", ICML 2017). 1 for no rows.
///
/// The loss is convex in the inverse temperature: Newton's method, kept inside a bracket that shrinks.
pub fn temperature(logits: ArrayView2<'_, f32>, targets: &Targets) -> f32 {
    if logits.nrows() == 0 {
        return 1.0;
    }
    let (mut low, mut high, mut inverse) = (0.02f64, 50.0f64, 1.0f64);
    for _ in 0..60 {
        let (slope, bend) = derivatives(logits, targets, inverse);
        if slope > 0.0 {
            high = inverse;
        } else {
            low = inverse;
        }
        let newton = inverse - slope / bend;
        // The middle in the logarithm, where Newton's step leads out of the bracket.
        let next = if newton > low && newton < high { newton } else { (low * high).sqrt() };
        let moved = (next / inverse).ln().abs();
        inverse = next;
        if moved < 1e-5 {
            break;
        }
    }
    (1.0 / inverse) as f32
}

/// The first and second derivative of the summed loss by the inverse temperature.
fn derivatives(logits: ArrayView2<'_, f32>, targets: &Targets, inverse: f64) -> (f64, f64) {
    let (mut slope, mut bend) = (0.0, 0.0);
    for (row, z) in logits.outer_iter().enumerate() {
        let of = targets.of(row);
        if targets.is_multi() {
            for (class, &z) in z.iter().enumerate() {
                let z = f64::from(z);
                let p = 1.0 / (1.0 + (-z * inverse).exp());
                slope += z * (p - if of.contains(&(class as u32)) { 1.0 } else { 0.0 });
                bend += z * z * p * (1.0 - p);
            }
            continue;
        }
        let most = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
        for &z in z {
            let below = f64::from(z - most);
            let weight = (below * inverse).exp();
            sum += weight;
            first += weight * below;
            second += weight * below * below;
        }
        let (mean, square) = (first / sum, second / sum);
        let right = of.first().and_then(|&class| z.get(class as usize)).map_or(0.0, |&z| f64::from(z - most));
        slope += mean - right;
        bend += square - mean * mean;
    }
    (slope, bend)
}

/// For each class the threshold on held-out probabilities (`n × classes`) with the largest F1, midway between the
/// neighbouring scores; ½ where a class has no positive or no negative row. Ties go to the threshold nearest ½.
pub fn thresholds(probabilities: ArrayView2<'_, f32>, targets: &Targets) -> Vec<f32> {
    (0..probabilities.ncols())
        .map(|class| {
            let column = probabilities.column(class);
            let positive = |row: usize| targets.of(row).contains(&(class as u32));
            let scored = column.iter().enumerate().map(|(row, &score)| (score, positive(row)));
            best_threshold(scored.collect())
        })
        .collect()
}

fn best_threshold(mut scored: Vec<(f32, bool)>) -> f32 {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    if positives == 0 || positives == scored.len() {
        return 0.5;
    }
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut best, mut threshold, mut hits) = (0.0, 0.5f32, 0usize);
    for (index, &(score, positive)) in scored.iter().enumerate() {
        hits += usize::from(positive);
        let below = scored.get(index + 1).map_or(0.0, |next| next.0);
        if below == score {
            continue;
        }
        let f1 = 2.0 * hits as f64 / (index + 1 + positives) as f64;
        let midway = f32::midpoint(score, below).clamp(0.0, 1.0);
        if f1 > best || (f1 == best && (midway - 0.5).abs() < (threshold - 0.5).abs()) {
            (best, threshold) = (f1, midway);
        }
    }
    threshold
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn recovers_the_factor_that_logits_were_blown_up_by() {
        let mut rng = Rng::new(5);
        let mut labels = Vec::new();
        let logits = Array2::from_shape_fn((4000, 3), |_| (rng.unit() * 6.0 - 3.0) as f32);
        for row in logits.outer_iter() {
            let weights: Vec<f64> = row.iter().map(|&z| f64::from(z).exp()).collect();
            let mut left = rng.unit() * weights.iter().sum::<f64>();
            let drawn = weights.iter().position(|w| {
                left -= w;
                left <= 0.0
            });
            labels.push(drawn.unwrap_or(2) as u32);
        }
        let t = temperature((&logits * 3.0).view(), &Targets::Single(labels));
        assert!((t - 3.0).abs() < 0.2, "{t}");
    }

    #[test]
    fn no_other_temperature_has_less_loss() {
        let mut rng = Rng::new(6);
        let logits = Array2::from_shape_fn((300, 4), |_| (rng.unit() * 30.0 - 15.0) as f32);
        let single = Targets::Single((0..300).map(|_| rng.below(4) as u32).collect());
        let best = (0..300).map(|row| u32::from(logits[[row, 1]] > logits[[row, 0]])).collect();
        let label = |row| if logits[[row, 2]] > 9.0 { vec![2] } else { vec![0] };
        let several = Targets::Multi((0..300).map(label).collect());
        for targets in [single, Targets::Single(best), several] {
            let t = f64::from(temperature(logits.view(), &targets));
            let found = loss(logits.view(), &targets, t);
            for other in [0.5, 0.9, 0.99, 1.01, 1.1, 2.0].map(|factor| (t * factor).clamp(0.02, 50.0)) {
                assert!(found <= loss(logits.view(), &targets, other) + 1e-6, "{t} against {other}");
            }
        }
    }

    #[test]
    fn thresholds_maximise_f1() {
        let p = array![[0.9f32, 0.2], [0.8, 0.1], [0.3, 0.3], [0.2, 0.4]];
        let targets = Targets::Multi(vec![vec![0], vec![0], vec![0], vec![]]);
        let found = thresholds(p.view(), &targets);
        assert!((found[0] - 0.25).abs() < 1e-6);
        assert_eq!(found[1], 0.5);
    }

    #[test]
    fn the_loss_is_the_mean_negative_log_probability() {
        let z = array![[0.0f32, 2f32.ln()]];
        assert!((loss(z.view(), &Targets::Single(vec![1]), 1.0) - (1.5f64).ln()).abs() < 1e-6);
        assert!(
            (loss(z.view(), &Targets::Multi(vec![vec![1]]), 1.0) - (2f64.ln() + 1.5f64.ln()) / 2.0).abs()
                < 1e-6
        );
    }
}
