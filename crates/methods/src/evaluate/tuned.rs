//! A backbone that was trained beside the same backbone as it came, on the same held-out items.

use headstart_types::report::{Difference, Estimate, FromRandom, Tuning, Verdict};
use ndarray::Array2;

use super::intervals::{beyond_doubt, bootstrap};
use super::learning_curve::qualities;
use super::transfer::{interval, points, verdict, with_sign};
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

/// A run from pretrained weights beside one from random weights, whose accuracies are given from before the first pass on.
pub fn compared(pretrained: &Tuning, random: Vec<f64>) -> FromRandom {
    let first = pretrained.mixtures.first().map(|mixture| mixture.held_out_accuracy);
    let passes = pretrained.epochs.iter().filter_map(|pass| pass.held_out_accuracy);
    let pretrained: Vec<f64> = first.into_iter().chain(passes).collect();
    let at = |of: &[f64], at: usize| of.get(at).or(of.last()).copied().unwrap_or_default();
    let best = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let start = at(&pretrained, 0) - at(&random, 0);
    let slope = (at(&pretrained, 1) - at(&pretrained, 0)) - (at(&random, 1) - at(&random, 0));
    let asymptote = best(&pretrained) - best(&random);
    let sentence = format!(
        "Against random weights of the same graph: start {} points, gain over the first pass {} points, best pass {} points.",
        with_sign(start),
        with_sign(slope),
        with_sign(asymptote)
    );
    FromRandom { pretrained, random, start, slope, asymptote, sentence }
}

#[cfg(test)]
mod tests {
    use headstart_types::report::{Mixture, Pass};

    use super::*;

    #[test]
    fn a_gain_is_weighed_row_by_row() {
        let row = |right: bool| if right { [0.9, 0.1] } else { [0.2, 0.8] };
        // The second classifier is right wherever the first is, and in ten rows more.
        let rows = |right: usize| Array2::from_shape_fn((100, 2), |(at, class)| row(at < right)[class]);
        let targets = Targets::Single(vec![0; 100]);
        let (frozen, gain) = gain(&rows(70), &rows(80), &targets, 1);
        assert!((frozen.value - 0.7).abs() < 1e-9 && (gain.estimate.value - 0.1).abs() < 1e-9);
        assert_eq!(gain.verdict, Verdict::Helped);
        assert!(gain.estimate.low > 0.03 && gain.estimate.high < 0.18, "{:?}", gain.estimate);
        let (_, back) = super::gain(&rows(80), &rows(70), &targets, 1);
        assert_eq!(back.verdict, Verdict::Hurt);
        assert!(back.sentence.contains("hurt: 10.0 points worse"), "{}", back.sentence);
    }

    #[test]
    fn start_slope_and_asymptote_are_differences_to_random_weights() {
        let pass = |accuracy| Pass { loss: 0.0, held_out_accuracy: Some(accuracy), held_out_loss: None };
        let tuning = Tuning {
            weights: 1,
            stored_bytes: 1,
            learned_from: 1,
            stopped_by: 1,
            epochs: vec![pass(0.85), pass(0.87), pass(0.86)],
            kept_epoch: 2,
            mixtures: vec![Mixture { share: 0.0, held_out_accuracy: 0.80, held_out_loss: 0.0 }],
            share: 1.0,
            frozen: None,
            gain: None,
            from_random: None,
        };
        let found = compared(&tuning, vec![0.5, 0.52, 0.6]);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(
            near(found.start, 0.3) && near(found.slope, 0.03) && near(found.asymptote, 0.27),
            "{found:?}"
        );
    }
}
