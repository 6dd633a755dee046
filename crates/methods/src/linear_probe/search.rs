//! The penalty by cross-validation: one path from strong to weak for every fold, each fit started from the last.

use std::ops::{ControlFlow, Range};

use ndarray::{Array2, ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};

use super::{
    objective::{Answers, Loss, logits},
    weights::ClassWeight,
};
use crate::{
    container::{Reader, Writer},
    data::Targets,
    error::MethodError,
    method::{Checkpoint, Control},
    optim::lbfgs::{Ended, Options, minimise},
    parallel,
    score::Score,
};

/// A long path ends after this many points in a row that bring neither more right answers nor less loss.
const PATIENCE: usize = 2;

/// Rows × columns × outputs up to which every value is tried: the path is cheap, and on few rows it goes up and down.
const SMALL: usize = 4_000_000;

/// The problem in coordinates where it is quick to solve; rows are ordered so that each fold's are neighbours.
pub(super) struct Problem<'a> {
    pub(super) x: ArrayView2<'a, f32>,
    pub(super) answers: Answers,
    /// The same answers, for scores.
    pub(super) targets: Targets,
    pub(super) classes: &'a [String],
    pub(super) class_weight: &'a ClassWeight,
    pub(super) variances: &'a [f64],
    pub(super) outputs: usize,
    pub(super) options: Options,
    pub(super) threads: usize,
}

/// One fold: the rows to learn from and the rows to judge on.
pub(super) struct Fold {
    pub(super) train: Vec<Range<usize>>,
    pub(super) held_out: Range<usize>,
}

/// What the search found.
pub(super) struct Found {
    pub(super) best: usize,
    pub(super) scores: Vec<Score>,
    /// Held-out logits at the best C, in the problem's order of rows, `n × outputs`.
    pub(super) logits: Array2<f32>,
    /// Each fold's parameters at the best C.
    pub(super) parameters: Vec<Vec<f64>>,
}

#[derive(Serialize, Deserialize)]
struct State {
    cs: Vec<f64>,
    scores: Vec<Score>,
    steps: usize,
}

impl Problem<'_> {
    /// Fits rows in `ranges` with inverse penalty `c`, from `start`.
    pub(super) fn fit(
        &self,
        ranges: &[Range<usize>],
        c: f64,
        start: &mut [f64],
        on_step: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<(), MethodError> {
        let weights = self.class_weight.of(&self.answers, self.classes, ranges);
        let mut loss = Loss::new(self.x, &self.answers, weights, ranges, self.outputs, self.variances, c);
        let outcome = minimise(&mut loss, start, self.options, &mut |_, _| on_step());
        match outcome.ended {
            Ended::Converged | Ended::Steps => Ok(()),
            Ended::Stopped => Err(MethodError::Cancelled),
            Ended::Diverged => Err(MethodError::Diverged),
        }
    }

    /// Parameters of zeros.
    pub(super) fn zeros(&self) -> Vec<f64> {
        vec![0.0; self.outputs * (self.x.ncols() + 1)]
    }

    /// Walks `cs` (ascending) on `folds`. A checkpoint is handed out after each value.
    pub(super) fn search(
        &self,
        cs: &[f64],
        folds: &[Fold],
        steps: &mut usize,
        control: &mut dyn Control,
    ) -> Result<Found, MethodError> {
        let mut found = Found {
            best: 0,
            scores: Vec::new(),
            logits: Array2::zeros((self.x.nrows(), self.outputs)),
            parameters: vec![self.zeros(); folds.len()],
        };
        let mut current = found.parameters.clone();
        if let Some(state) = control.resume() {
            self.restore(&state, cs, folds, (&mut found, &mut current), steps)?;
        }
        let expected = cs.len() * folds.len() * 20;
        let patience = if self.x.len().saturating_mul(self.outputs) <= SMALL { cs.len() } else { PATIENCE };
        while found.scores.len() < cs.len() && idle(&found.scores) < patience {
            let Some(&c) = cs.get(found.scores.len()) else { break };
            let started = &current;
            let mut on_step = || {
                *steps += 1;
                control.progress(*steps, expected.max(*steps), &[("c", c)])
            };
            current = parallel::run(folds.len(), self.threads, &mut on_step, |index, step| {
                let (Some(fold), Some(start)) = (folds.get(index), started.get(index)) else {
                    return Ok(vec![]);
                };
                let mut parameters = start.clone();
                self.fit(&fold.train, c, &mut parameters, step)?;
                Ok(parameters)
            })?;
            let mut held_out = Array2::zeros((self.x.nrows(), self.outputs));
            for (fold, parameters) in folds.iter().zip(&current) {
                let rows = s![fold.held_out.clone(), ..];
                held_out.slice_mut(rows).assign(&logits(self.x.slice(rows), parameters, self.outputs));
            }
            found.scores.push(self.score(&held_out, folds));
            let newest = found.scores.len() - 1;
            if newest == 0 || replaces(&found.scores, found.best, self.answered(folds)) {
                found.best = newest;
                found.logits = held_out;
                found.parameters.clone_from(&current);
            }
            self.checkpoint(cs, &found, &current, *steps, control)?;
        }
        Ok(found)
    }

    /// Held-out answers that an accuracy is the mean of.
    fn answered(&self, folds: &[Fold]) -> usize {
        let each = if self.targets.is_multi() { self.outputs } else { 1 };
        folds.iter().map(|fold| fold.held_out.len()).sum::<usize>() * each
    }

    fn score(&self, logits: &Array2<f32>, folds: &[Fold]) -> Score {
        let rows: Vec<usize> = folds.iter().flat_map(|fold| fold.held_out.clone()).collect();
        let logits = super::expand(&logits.select(Axis(0), &rows), self.classes.len());
        let targets = self.targets.select(&rows);
        let weights = self.class_weight.for_scores(&targets, self.classes);
        Score::of(logits.view(), &targets, weights.as_deref())
    }

    fn checkpoint(
        &self,
        cs: &[f64],
        found: &Found,
        current: &[Vec<f64>],
        steps: usize,
        control: &mut dyn Control,
    ) -> Result<(), MethodError> {
        let mut writer = Writer::default();
        writer.matrix("logits", found.logits.view());
        for (fold, (current, best)) in current.iter().zip(&found.parameters).enumerate() {
            writer.doubles(&format!("current.{fold}"), current);
            writer.doubles(&format!("best.{fold}"), best);
        }
        let state = State { cs: cs.to_vec(), scores: found.scores.clone(), steps };
        let state = writer.finish("checkpoint", &state)?;
        let last = found.scores.last().map_or((0.0, 0.0), |last| (last.accuracy, last.loss));
        let c = cs.get(found.scores.len().saturating_sub(1)).copied().unwrap_or_default();
        let metrics = vec![("c", c), ("accuracy", last.0), ("loss", last.1)];
        control.checkpoint(Checkpoint { step: steps, state, head: None, metrics });
        Ok(())
    }

    fn restore(
        &self,
        bytes: &[u8],
        cs: &[f64],
        folds: &[Fold],
        (found, current): (&mut Found, &mut [Vec<f64>]),
        steps: &mut usize,
    ) -> Result<(), MethodError> {
        let reader = Reader::new("checkpoint", bytes)?;
        let state: State = reader.document()?;
        let logits = reader.matrix("logits")?;
        if state.cs != cs || logits.dim() != found.logits.dim() || state.scores.len() > cs.len() {
            return Err(reader.error("of another fit"));
        }
        let length = self.zeros().len();
        for (fold, (current, best)) in current.iter_mut().zip(&mut found.parameters).enumerate() {
            *current = reader.doubles(&format!("current.{fold}"))?;
            *best = reader.doubles(&format!("best.{fold}"))?;
            if current.len() != length || best.len() != length {
                return Err(reader.error("of another fit"));
            }
        }
        let answered = self.answered(folds);
        found.best = (1..state.scores.len()).fold(0, |best, newest| {
            let so_far = state.scores.get(..=newest).unwrap_or_default();
            if replaces(so_far, best, answered) { newest } else { best }
        });
        found.scores = state.scores;
        found.logits = logits;
        *steps = state.steps;
        Ok(())
    }
}

/// Whether the newest score takes the place of the best before it. Accuracies within one standard error of the highest
/// so far (Breiman et al. 1984, "Classification and regression trees", §3.4.3) cannot be told apart on `answered`
/// answers; among these the least loss decides.
fn replaces(scores: &[Score], best: usize, answered: usize) -> bool {
    let (Some(newest), Some(best)) = (scores.last(), scores.get(best)) else { return false };
    let most = scores.iter().map(Score::judged).fold(0.0, f64::max);
    let enough = most - (most * (1.0 - most) / answered.max(1) as f64).sqrt();
    newest.judged() >= enough && (best.judged() < enough || newest.loss < best.loss)
}

/// How many of the newest scores bring nothing: accuracy stays flat for long where the penalty is strong, and loss falls
/// all the same.
fn idle(scores: &[Score]) -> usize {
    let (mut most, mut least, mut idle) = (f64::NEG_INFINITY, f64::INFINITY, 0);
    for score in scores {
        idle = if score.judged() > most || score.loss < least { 0 } else { idle + 1 };
        (most, least) = (most.max(score.judged()), least.min(score.loss));
    }
    idle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(of: &[(f64, f64)]) -> Vec<Score> {
        let score =
            |&(accuracy, loss): &(f64, f64)| Score { accuracy, weighted: None, loss, temperature: 1.0 };
        of.iter().map(score).collect()
    }

    fn chosen(of: &[(f64, f64)], answered: usize) -> usize {
        let scores = path(of);
        (1..scores.len())
            .fold(0, |best, newest| if replaces(&scores[..=newest], best, answered) { newest } else { best })
    }

    #[test]
    fn a_path_that_starts_flat_is_walked_past_its_plateau() {
        let scores = path(&[
            (0.43, 1.8),
            (0.44, 1.79),
            (0.43, 1.78),
            (0.43, 1.7),
            (0.54, 1.2),
            (0.5, 1.3),
            (0.5, 1.4),
        ]);
        let after: Vec<usize> = (1..=scores.len()).map(|length| idle(&scores[..length])).collect();
        assert_eq!(after, [0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn accuracies_that_cannot_be_told_apart_are_told_apart_by_loss() {
        let few = [(0.60, 1.2), (0.62, 0.9), (0.63, 1.1)];
        assert_eq!(chosen(&few, 100), 1);
        assert_eq!(chosen(&few, 1_000_000), 2);
        assert_eq!(chosen(&[(0.5, 0.1), (0.9, 0.5)], 100), 1, "less loss does not make up for wrong answers");
        assert_eq!(chosen(&[(0.6, 0.9), (0.6, 0.9)], 100), 0, "of equals the stronger penalty");
    }
}
