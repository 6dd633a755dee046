//! L-BFGS with a diagonal preconditioner, in f64.

use std::{collections::VecDeque, ops::ControlFlow};

/// A smooth function to be minimised.
pub trait Objective {
    /// The value at `x`; its gradient goes to `gradient`, which has the same length.
    fn evaluate(&mut self, x: &[f64], gradient: &mut [f64]) -> f64;

    /// The diagonal of an approximate inverse Hessian near the start, or `None` for the identity.
    ///
    /// Asked for once, after the first evaluation.
    fn inverse_diagonal(&self) -> Option<Vec<f64>> {
        None
    }
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Pairs of steps and gradient changes kept.
    pub history: usize,
    /// Steps at most.
    pub max_steps: usize,
    /// Done when no component of the gradient is larger.
    pub tolerance: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { history: 10, max_steps: 200, tolerance: 1e-4 }
    }
}

/// How a minimisation ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ended {
    /// The gradient is within tolerance, or rounding allows no better point.
    Converged,
    /// `max_steps` were made.
    Steps,
    /// The caller broke off.
    Stopped,
    /// The value or the gradient is not finite at the start.
    Diverged,
}

/// Where a minimisation ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The value there.
    pub value: f64,
    /// Steps made.
    pub steps: usize,
    /// Why.
    pub ended: Ended,
}

struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    rho: f64,
}

/// Relative rounding of a value that was summed from f32 terms; differences below it say nothing.
const ROUNDING: f64 = 1e-8;

/// Minimises from `x`, which holds the best point at the end (Nocedal and Wright, *Numerical Optimization*, 2006,
/// algorithm 7.5, started from the objective's diagonal). `on_step` is told the steps made and the value.
///
/// The line search only asks for sufficient decrease: for convex objectives every pair then has positive curvature.
pub fn minimise(
    objective: &mut dyn Objective,
    x: &mut [f64],
    options: Options,
    on_step: &mut dyn FnMut(usize, f64) -> ControlFlow<()>,
) -> Outcome {
    let mut gradient = vec![0.0; x.len()];
    let mut value = objective.evaluate(x, &mut gradient);
    let diagonal = objective.inverse_diagonal();
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    let (mut trial, mut trial_gradient) = (x.to_vec(), gradient.clone());
    let outcome = |value, steps, ended| Outcome { value, steps, ended };
    if !value.is_finite() || gradient.iter().any(|g| !g.is_finite()) {
        return outcome(value, 0, Ended::Diverged);
    }
    for steps in 0..options.max_steps {
        if largest(&gradient) <= options.tolerance {
            return outcome(value, steps, Ended::Converged);
        }
        let mut direction = direction(&gradient, &pairs, diagonal.as_deref());
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            pairs.clear();
            direction = self::direction(&gradient, &pairs, diagonal.as_deref());
            slope = dot(&direction, &gradient);
        }
        let mut length = 1.0;
        let mut tries = 0;
        let reached = loop {
            for ((to, &from), &by) in trial.iter_mut().zip(x.iter()).zip(&direction) {
                *to = from + length * by;
            }
            let reached = objective.evaluate(&trial, &mut trial_gradient);
            if reached.is_finite() && reached <= value + 1e-4 * length * slope + ROUNDING * value.abs() {
                break reached;
            }
            tries += 1;
            if tries == 20 {
                return outcome(value, steps, Ended::Converged);
            }
            // The minimum of the parabola through both values and the slope, kept within sane bounds.
            let parabola = -slope * length * length / (2.0 * (reached - value - slope * length));
            length =
                if parabola.is_finite() { parabola.clamp(0.1 * length, 0.5 * length) } else { 0.1 * length };
        };
        let step: Vec<f64> = trial.iter().zip(x.iter()).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = trial_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&step, &change);
        if curvature > 1e-14 * dot(&change, &change).sqrt() * dot(&step, &step).sqrt() {
            if pairs.len() == options.history {
                pairs.pop_front();
            }
            pairs.push_back(Pair { step, change, rho: 1.0 / curvature });
        }
        x.copy_from_slice(&trial);
        std::mem::swap(&mut gradient, &mut trial_gradient);
        value = reached;
        if on_step(steps + 1, value).is_break() {
            return outcome(value, steps + 1, Ended::Stopped);
        }
    }
    outcome(value, options.max_steps, Ended::Steps)
}

/// The two-loop recursion: minus the approximate inverse Hessian times the gradient.
fn direction(gradient: &[f64], pairs: &VecDeque<Pair>, diagonal: Option<&[f64]>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let alpha = pair.rho * dot(&pair.step, &q);
        add(&mut q, -alpha, &pair.change);
        alphas.push(alpha);
    }
    let scale = pairs.back().map_or(1.0, |last| {
        let bent: f64 = match diagonal {
            Some(diagonal) => last.change.iter().zip(diagonal).map(|(y, d)| y * y * d).sum(),
            None => dot(&last.change, &last.change),
        };
        1.0 / (last.rho * bent)
    });
    match diagonal {
        Some(diagonal) => q.iter_mut().zip(diagonal).for_each(|(value, d)| *value *= scale * d),
        None => q.iter_mut().for_each(|value| *value *= scale),
    }
    for (pair, alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = pair.rho * dot(&pair.change, &q);
        add(&mut q, alpha - beta, &pair.step);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    let mut lanes = [0.0; 8];
    for (a, b) in a8.zip(b8) {
        for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f64>() + tail
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    for (to, &what) in to.iter_mut().zip(what) {
        *to += factor * what;
    }
}

fn largest(of: &[f64]) -> f64 {
    of.iter().fold(0.0, |most, value| most.max(value.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ½ Σ i·(x_i − i)² with curvatures from 1 to 1,000.
    struct Bowl {
        preconditioned: bool,
        evaluations: usize,
    }

    impl Objective for Bowl {
        fn evaluate(&mut self, x: &[f64], gradient: &mut [f64]) -> f64 {
            self.evaluations += 1;
            let mut value = 0.0;
            for (i, (x, g)) in x.iter().zip(gradient).enumerate() {
                let (bend, off) = (1.0 + i as f64, x - i as f64);
                value += 0.5 * bend * off * off;
                *g = bend * off;
            }
            value
        }

        fn inverse_diagonal(&self) -> Option<Vec<f64>> {
            self.preconditioned.then(|| (0..1000).map(|i| 1.0 / (1.0 + f64::from(i))).collect())
        }
    }

    #[test]
    fn finds_the_minimum_and_the_right_diagonal_makes_it_one_step() {
        for (preconditioned, most) in [(false, 500), (true, 3)] {
            let mut bowl = Bowl { preconditioned, evaluations: 0 };
            let mut x = vec![0.0; 1000];
            let options = Options { max_steps: 1000, tolerance: 1e-6, ..Options::default() };
            let outcome = minimise(&mut bowl, &mut x, options, &mut |_, _| ControlFlow::Continue(()));
            assert_eq!(outcome.ended, Ended::Converged);
            assert!(x.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-5));
            assert!(bowl.evaluations <= most, "{} evaluations", bowl.evaluations);
        }
    }

    #[test]
    fn stops_at_the_step_where_it_is_told_to() {
        let mut x = vec![0.0; 1000];
        let mut bowl = Bowl { preconditioned: false, evaluations: 0 };
        let outcome = minimise(&mut bowl, &mut x, Options::default(), &mut |steps, _| {
            if steps == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((outcome.ended, outcome.steps), (Ended::Stopped, 3));
    }
}
