//! A backbone that was trained beside the same backbone as it came, on the same held-out items.

use headstart_types::report::{Difference, Estimate, Verdict};
use ndarray::Array2;

use super::intervals::{beyond_doubt, bootstrap};
use super::learning_curve::qualities;
use super::transfer::{interval, points, verdict};
use crate::data::Targets;

/// Quality of the linear probe, and what was gained over it, from probabilities `[n, classes]` of the same rows. Each row
/// is weighed against itself.
pub fn gain(
    frozen: &Array2<f32>,
    tuned: &Array2<f32>,
    targets: &Targets,
    seed: u64,
) -> (Estimate, Difference) {
    let (frozen, tuned) = (qualities(frozen, targets), qualities(tuned, targets));
    let rows = frozen.len().min(tuned.len());
    let mean = |of: &[f64], rows: &[usize]| {
        rows.iter().filter_map(|row| of.get(*row)).sum::<f64>() / rows.len().max(1) as f64
    };
    let [before, difference] = bootstrap(rows, seed, |rows| {
        let (before, after) = (mean(&frozen, rows), mean(&tuned, rows));
        [before, after - before]
    });
    let verdict = verdict(difference);
    let size = points(difference.value.abs());
    let says = match verdict {
        Verdict::Helped => format!("Training the backbone helped: {size} better than a linear probe on it"),
        Verdict::NoDifference => {
            format!("Training the backbone made no difference to a linear probe on it: {size} apart")
        }
        Verdict::Hurt => format!("Training the backbone hurt: {size} worse than a linear probe on it"),
    };
    let sentence = format!("{says} ({}).", interval(difference));
    (beyond_doubt(before, rows), Difference { estimate: difference, verdict, sentence })
}
