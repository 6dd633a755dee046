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

/// Logits at the temperatures looked at have a spread of one over this at least, and of this at most.
const SPREAD: f64 = 1e3;

/// Logits that differ by less are taken as equal.
const LEAST_SPREAD: f64 = 1e-30;

/// The temperature with the least [`loss`] on held-out logits (Guo et al., "On calibration of modern neural networks",
/// ICML 2017). 1 for no rows, and for logits that say nothing.
///
/// The loss is convex in the inverse temperature: Newton's method, kept inside a bracket that shrinks. The bracket follows
/// the spread of the logits, which a strong penalty makes as small as it likes.
///
/// Where every held-out row is told apart the loss has no least value. Then rows count as if one more had been seen that
/// was not, after Platt, "Probabilistic outputs for support vector machines", 1999, §2.2; with that it always has one. Where
/// the logits point away from the answers, what is left of them is a thousandth: all scores are nearly equal.
pub fn temperature(logits: ArrayView2<'_, f32>, targets: &Targets) -> f32 {
    let spread = spread(logits, targets.is_multi());
    if !(LEAST_SPREAD..f64::INFINITY).contains(&spread) {
        return 1.0;
    }
    let bracket = (1.0 / (SPREAD * spread), SPREAD / spread);
    let mut inverse = least(bracket, |inverse| derivatives(logits, targets, inverse, 0.0));
    if inverse >= bracket.1 * (1.0 - NEAR) {
        let doubt = 1.0 / (logits.nrows() as f64 + 2.0);
        inverse = least(bracket, |inverse| derivatives(logits, targets, inverse, doubt));
    }
    (1.0 / inverse) as f32
}

/// How exactly the temperature is found, as a share of it.
const NEAR: f64 = 1e-5;

/// Where in the bracket a convex function is least, by its first and second derivative.
fn least((mut low, mut high): (f64, f64), derivatives: impl Fn(f64) -> (f64, f64)) -> f64 {
    let (bottom, top) = (low, high);
    if derivatives(top).0 <= 0.0 {
        return top;
    }
    if derivatives(bottom).0 >= 0.0 {
        return bottom;
    }
    let mut at = 1f64.clamp(low, high);
    for _ in 0..100 {
        let (slope, bend) = derivatives(at);
        if slope > 0.0 {
            high = at;
        } else {
            low = at;
        }
        let newton = at - slope / bend;
        // The middle in the logarithm, where Newton's step leads out of the bracket.
        let next = if newton > low && newton < high { newton } else { (low * high).sqrt() };
        let moved = (next / at).ln().abs();
        at = next;
        if moved < NEAR {
            break;
        }
    }
    at
}

/// How far logits lie from what says nothing: in the mean square, from the mean of their row; of several labels, from 0.
fn spread(logits: ArrayView2<'_, f32>, several: bool) -> f64 {
    let mut sum = 0.0;
    for row in logits.outer_iter() {
        let count = row.len().max(1) as f64;
        let mean = if several { 0.0 } else { row.iter().copied().map(f64::from).sum::<f64>() / count };
        sum += row.iter().map(|&z| (f64::from(z) - mean).powi(2)).sum::<f64>() / count;
    }
    (sum / logits.nrows().max(1) as f64).sqrt()
}

/// The first and second derivative of the summed loss by the inverse temperature. The share `doubt` of every answer is
/// taken from the right side and spread over the others.
fn derivatives(logits: ArrayView2<'_, f32>, targets: &Targets, inverse: f64, doubt: f64) -> (f64, f64) {
    let (mut slope, mut bend) = (0.0, 0.0);
    for (row, z) in logits.outer_iter().enumerate() {
        let of = targets.of(row);
        if targets.is_multi() {
            for (class, &z) in z.iter().enumerate() {
                let z = f64::from(z);
                let p = 1.0 / (1.0 + (-z * inverse).exp());
                slope += z * (p - if of.contains(&(class as u32)) { 1.0 - doubt } else { doubt });
                bend += z * z * p * (1.0 - p);
            }
            continue;
        }
        let most = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (mut sum, mut first, mut second, mut all) = (0.0, 0.0, 0.0, 0.0);
        for &z in z {
            let below = f64::from(z - most);
            let weight = (below * inverse).exp();
            sum += weight;
            first += weight * below;
            second += weight * below * below;
            all += below;
        }
        let (mean, square) = (first / sum, second / sum);
        let right = of.first().and_then(|&class| z.get(class as usize)).map_or(0.0, |&z| f64::from(z - most));
        let others = (all - right) / (z.len().max(2) - 1) as f64;
        slope += mean - (1.0 - doubt) * right - doubt * others;
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
        let leaning = |row: usize| (0..4).max_by(|&a, &b| logits[[row, a]].total_cmp(&logits[[row, b]]));
        let of = |row| if row % 3 == 0 { row as u32 % 4 } else { leaning(row).unwrap_or(0) as u32 };
        let single = Targets::Single((0..300).map(of).collect());
        let best = (0..300).map(|row| u32::from(logits[[row, 1]] > logits[[row, 0]])).collect();
        let label = |row| if logits[[row, 2]] > 9.0 { vec![2] } else { vec![0] };
        let several = Targets::Multi((0..300).map(label).collect());
        for targets in [single, Targets::Single(best), several] {
            let t = f64::from(temperature(logits.view(), &targets));
            let found = loss(logits.view(), &targets, t);
            for other in [0.5, 0.9, 0.99, 1.01, 1.1, 2.0].map(|factor| t * factor) {
                assert!(found <= loss(logits.view(), &targets, other) + 1e-6, "{t} against {other}");
            }
        }
    }

    #[test]
    fn logits_of_any_size_come_to_the_same_scores() {
        let mut rng = Rng::new(8);
        let logits = Array2::from_shape_fn((400, 3), |_| (rng.unit() * 4.0 - 2.0) as f32);
        let leaning = |row: usize| (0..3).max_by(|&a, &b| logits[[row, a]].total_cmp(&logits[[row, b]]));
        let of = |row| if rng.unit() < 0.7 { leaning(row).unwrap_or(0) as u32 } else { rng.below(3) as u32 };
        let targets = Targets::Single((0..400).map(of).collect());
        let plain = temperature(logits.view(), &targets);
        for size in [1e-8f32, 1e-4, 1e4] {
            let t = temperature((&logits * size).view(), &targets);
            assert!((t / (plain * size) - 1.0).abs() < 1e-3, "{size}: {t} against {plain}");
        }
    }

    #[test]
    fn rows_that_are_all_told_apart_leave_some_doubt() {
        for n in [10, 1000] {
            let logits =
                Array2::from_shape_fn((n, 3), |(row, class)| if row % 3 == class { 0.01 } else { 0.0 });
            let targets = Targets::Single((0..n as u32).map(|row| row % 3).collect());
            let t = temperature(logits.view(), &targets);
            let weight = (0.01 / f64::from(t)).exp();
            let score = weight / (weight + 2.0);
            let expected = 1.0 - 1.0 / (n as f64 + 2.0);
            assert!((score - expected).abs() < 1e-4, "{n} rows: {score} against {expected}");
        }
    }

    #[test]
    fn logits_that_say_nothing_or_the_contrary_are_not_believed() {
        let targets = Targets::Single((0..30).map(|row| row % 3).collect());
        assert_eq!(temperature(Array2::zeros((30, 3)).view(), &targets), 1.0);
        let away = Array2::from_shape_fn((30, 3), |(row, class)| if row % 3 == class { -5.0 } else { 5.0 });
        let t = f64::from(temperature(away.view(), &targets));
        assert!((loss(away.view(), &targets, t) - 3f64.ln()).abs() < 0.01, "{t}");
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
