//! A backbone that was trained beside the same backbone as it came, on the same held-out items.

use headstart_types::report::{Difference, Estimate, FromRandom, Tuning, Verdict};
use ndarray::ArrayView2;

use super::intervals::{Units, beyond_doubt, bootstrap, doubted};
use super::quality::by_row;
use super::transfer::{interval, points, verdict, with_sign};
use crate::data::Targets;

/// What a head says of rows.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// `[n, classes]`.
    pub probabilities: ArrayView2<'a, f64>,
    /// With several labels a row: from which probability on it gives each label; ½ where absent.
    pub thresholds: Option<&'a [f64]>,
}

/// Quality of the linear probe, and what was gained over it, on the same rows. Each row is weighed against itself.
pub fn gain(
    frozen: Said<'_>,
    tuned: Said<'_>,
    targets: &Targets,
    (units, seed): (&Units, u64),
) -> (Estimate, Difference) {
    let qualities = |of: Said<'_>| by_row(of.probabilities, targets, of.thresholds);
    let (frozen, tuned) = (qualities(frozen), qualities(tuned));
    let mean = |of: &[f64], rows: &[usize]| {
        rows.iter().filter_map(|row| of.get(*row)).sum::<f64>() / rows.len().max(1) as f64
    };
    let [before, difference] = bootstrap(units, seed, |rows| {
        let (before, after) = (mean(&frozen, rows), mean(&tuned, rows));
        [before, after - before]
    });
    let differences: Vec<f64> = tuned.iter().zip(&frozen).map(|(after, before)| after - before).collect();
    let difference = doubted(difference, &differences, units);
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
    (beyond_doubt(before, units.count()), Difference { estimate: difference, verdict, sentence })
}

/// A run from pretrained weights beside one from random weights, whose accuracies are given from before the first pass on. Each
/// has the best of its own passes: the run from random weights is not stopped early, and of more passes the best is luckier.
pub fn compared(pretrained: &Tuning, random: Vec<f64>) -> FromRandom {
    let first = pretrained.mixtures.first().map(|mixture| mixture.held_out_accuracy);
    let passes = pretrained.epochs.iter().filter_map(|pass| pass.held_out_accuracy);
    let pretrained: Vec<f64> = first.into_iter().chain(passes).collect();
    let at = |of: &[f64], at: usize| of.get(at).or(of.last()).copied().unwrap_or_default();
    let best = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let start = at(&pretrained, 0) - at(&random, 0);
    let slope = (at(&pretrained, 1) - at(&pretrained, 0)) - (at(&random, 1) - at(&random, 0));
    let asymptote = best(&pretrained) - best(&random);
    let passes = |of: &[f64]| of.len().saturating_sub(1);
    let sentence = format!(
        "Against random weights of the same graph: start {} points, gain over the first pass {} points, best pass {} points \
         (the best of {} passes against that of {} from random weights).",
        with_sign(start),
        with_sign(slope),
        with_sign(asymptote),
        passes(&pretrained),
        passes(&random)
    );
    FromRandom { pretrained, random, start, slope, asymptote, sentence }
}

#[cfg(test)]
mod tests {
    use headstart_types::report::{Mixture, Pass};
    use ndarray::Array2;

    use super::*;

    fn gained(frozen: &Array2<f64>, tuned: &Array2<f64>, targets: &Targets) -> (Estimate, Difference) {
        let said = |of| Said { probabilities: of, thresholds: None };
        gain(said(frozen.view()), said(tuned.view()), targets, (&Units::rows(targets.len()), 1))
    }

    /// A hundred rows of the first class, of which so many are taken for it.
    fn right(rows: usize) -> Array2<f64> {
        let row = |right: bool| if right { [0.9, 0.1] } else { [0.2, 0.8] };
        Array2::from_shape_fn((100, 2), |(at, class)| row(at < rows)[class])
    }

    #[test]
    fn a_gain_is_weighed_row_by_row() {
        // The second classifier is right wherever the first is, and in ten rows more.
        let targets = Targets::Single(vec![0; 100]);
        let (frozen, gain) = gained(&right(70), &right(80), &targets);
        assert!((frozen.value - 0.7).abs() < 1e-9 && (gain.estimate.value - 0.1).abs() < 1e-9);
        assert_eq!(gain.verdict, Verdict::Helped);
        assert!(gain.estimate.low > 0.03 && gain.estimate.high < 0.18, "{:?}", gain.estimate);
        let (_, back) = gained(&right(80), &right(70), &targets);
        assert_eq!(back.verdict, Verdict::Hurt);
        assert!(back.sentence.contains("hurt: 10.0 points worse"), "{}", back.sentence);
    }

    #[test]
    fn four_rows_more_and_none_less_are_no_proof_of_help() {
        let targets = Targets::Single(vec![0; 100]);
        let (_, gain) = gained(&right(70), &right(74), &targets);
        assert_eq!(gain.verdict, Verdict::NoDifference, "{gain:?}");
        assert!(gain.estimate.low <= 0.0 && gain.estimate.high > 0.04, "{:?}", gain.estimate);
        let (_, same) = gained(&right(70), &right(70), &targets);
        assert!(same.estimate.low < 0.0 && same.estimate.high > 0.0, "{:?}", same.estimate);
    }

    #[test]
    fn heads_that_decide_alike_by_their_own_thresholds_gain_nothing() {
        // Both give every row its label; the second's scores are all below a half.
        let targets = Targets::Multi((0..40).map(|row| vec![row % 2]).collect());
        let scores = |high: f64, low: f64| {
            Array2::from_shape_fn((40, 2), |(row, class)| if row % 2 == class { high } else { low })
        };
        let (frozen, tuned) = (scores(0.9, 0.6), scores(0.4, 0.1));
        let frozen = Said { probabilities: frozen.view(), thresholds: Some(&[0.7; 2]) };
        let tuned = Said { probabilities: tuned.view(), thresholds: Some(&[0.3; 2]) };
        let (before, gain) = gain(frozen, tuned, &targets, (&Units::rows(40), 1));
        assert_eq!((before.value, gain.estimate.value, gain.verdict), (1.0, 0.0, Verdict::NoDifference));
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
        assert!(found.sentence.contains("the best of 3 passes against that of 2"), "{}", found.sentence);
    }
}
