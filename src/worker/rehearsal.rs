//! How long a training will take, by a few of its steps on a few of its rows.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart_methods::{Control, MethodError};

use crate::worker::control::Halt;
use crate::worker::prefix;
use crate::worker::training::{self, Subjects};

/// Steps that are measured, behind a first one in which memory is taken.
const MEASURED: usize = 3;

/// Steps that a rehearsal needs rows for.
pub(super) const STEPS: usize = MEASURED + 1;

/// Begins a training of `subjects` and stops it; what so many steps would take, and so many rows taken through what is not
/// trained. Blocking. Says nothing where `halt` is set.
///
/// # Errors
/// [`MethodError`], as the training says.
pub(super) fn took(
    subjects: &Subjects,
    (steps, rows): (f64, usize),
    halt: Arc<Halt>,
) -> Result<Duration, MethodError> {
    let mut rehearsal = Rehearsal { halt, began: Instant::now(), passes: Vec::new(), steps: Vec::new() };
    match training::train(subjects, &mut rehearsal, None) {
        Ok(_) | Err(MethodError::Cancelled) => {
            Ok(rehearsal.believed(steps, rows.div_ceil(prefix::BATCH) as f64))
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
        if self.steps.len() > MEASURED || self.halt.check().is_err() {
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
}
