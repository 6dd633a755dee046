//! How long a training will take, by a few of its steps on a few of its rows.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart_methods::tune::Plan;
use headstart_methods::{Control, MethodError};

use crate::worker::control::Halt;
use crate::worker::prefix;
use crate::worker::training::{self, Subjects};

/// Steps that are measured, behind a first one in which memory is taken.
const STEPS: usize = 3;

/// Rows for these steps, from all over the file: lengths may differ from part to part.
pub(super) fn rows(learn: &[usize], plan: &Plan) -> Vec<usize> {
    let count = (STEPS + 1) * plan.recipe.batch_size;
    learn.iter().step_by((learn.len() / count.max(1)).max(1)).take(count).copied().collect()
}

/// Begins a training of `subjects` and stops it; what one of `learn` rows, and `stop` rows that stop it, would take.
/// Blocking. Says nothing where `halt` is set.
///
/// # Errors
/// [`MethodError`], as the training says.
pub(super) fn took(
    subjects: &Subjects,
    (learn, stop): (usize, usize),
    halt: Arc<Halt>,
) -> Result<Duration, MethodError> {
    let mut rehearsal = Rehearsal { halt, began: Instant::now(), passes: Vec::new(), steps: Vec::new() };
    match training::train(subjects, &mut rehearsal, None) {
        Ok(_) | Err(MethodError::Cancelled) => {
            let passes = (learn + stop).div_ceil(prefix::BATCH) as f64;
            Ok(rehearsal.believed(subjects.plan.steps(learn, stop), passes))
        }
        Err(error) => Err(error),
    }
}

/// When things were done.
struct Rehearsal {
    halt: Arc<Halt>,
    began: Instant,
    /// Some rows begun to be taken through what is not trained.
    passes: Vec<Instant>,
    /// Steps.
    steps: Vec<Instant>,
}

impl Rehearsal {
    /// What so many steps take, and so many passes through what is not trained, if there are any.
    fn believed(&self, steps: f64, passes: f64) -> Duration {
        let set_up = self.steps.first().map_or_else(|| self.began.elapsed(), |first| *first - self.began);
        set_up + each(&self.steps).mul_f64(steps) + each(&self.passes).mul_f64(passes)
    }
}

/// The mean time from one to the next.
fn each(times: &[Instant]) -> Duration {
    match (times, times.len().saturating_sub(1)) {
        ([first, .., last], between) if between > 0 => (*last - *first).div_f64(between as f64),
        _ => Duration::ZERO,
    }
}

impl Control for Rehearsal {
    fn progress(&mut self, step: usize, _: usize, _: &[(&'static str, f64)]) -> ControlFlow<()> {
        if step == 0 {
            self.passes.push(Instant::now())
        } else {
            self.steps.push(Instant::now())
        };
        if self.steps.len() > STEPS || self.halt.check().is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_passes_to_come_are_believed_to_take_what_those_behind_took() {
        let began = Instant::now();
        let at = |tenths: u64| began + Duration::from_millis(100 * tenths);
        let halt = Arc::default();
        let rehearsal = Rehearsal {
            halt,
            began,
            passes: vec![at(1), at(2), at(3)],
            steps: [10, 12, 14, 16].map(at).to_vec(),
        };
        assert_eq!(rehearsal.believed(50.0, 20.0), Duration::from_secs(1 + 10 + 2));
    }

    #[test]
    fn rows_are_of_all_parts_of_the_file() {
        let learn: Vec<usize> = (0..10_000).collect();
        let plan = |batch_size: usize| {
            let recipe = headstart_methods::tune::Recipe { batch_size, ..Default::default() };
            Plan { recipe, what: headstart_methods::tune::What::All, contrast: false }
        };
        let some = rows(&learn, &plan(32));
        assert_eq!((some.len(), some.first(), some.last()), (128, Some(&0), Some(&(127 * 78))));
        assert_eq!(rows(&learn[..100], &plan(32)), learn[..100]);
    }
}
