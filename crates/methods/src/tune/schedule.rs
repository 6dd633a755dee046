//! How the step size changes over a run.

use std::f64::consts::PI;

/// The share of the full step size at `step` of `total`: rises in a line over the first `warm_up` of them, then falls as
/// half a cosine to 0 (Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts).
pub(super) fn factor(step: usize, total: usize, warm_up: f64) -> f64 {
    let (step, total) = (step as f64, total.max(1) as f64);
    let rising = (warm_up * total).ceil();
    if step < rising {
        return (step + 1.0) / (rising + 1.0);
    }
    let share = (step - rising) / (total - rising).max(1.0);
    (1.0 + (PI * share.min(1.0)).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_then_falls_to_nothing() {
        let factors: Vec<f64> = (0..100).map(|step| factor(step, 100, 0.1)).collect();
        assert!(factors[0] > 0.0 && factors[..10].windows(2).all(|pair| pair[0] < pair[1]));
        assert!((factors[10] - 1.0).abs() < 1e-9);
        assert!(factors[10..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!((factors[55] - 0.5).abs() < 1e-9 && factors[99] < 0.001);
    }

    #[test]
    fn without_warm_up_it_starts_in_full() {
        assert!((factor(0, 10, 0.0) - 1.0).abs() < 1e-9);
        assert!(factor(0, 1, 0.0) > 0.0);
    }
}
