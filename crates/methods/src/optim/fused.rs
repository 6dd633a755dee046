//! Optimisers of many large tensors: one pass over weights, gradients and moments, on several threads.
//!
//! A first pass measures the gradient, so that its norm can be clipped and a step that is not finite left out. Both cut
//! the tensors into the same pieces whatever the number of threads, and sum in their order: the same bytes come out on
//! one thread and on many.

use std::thread;

use headstart_types::runner::Weight;
use multiversion::multiversion;

/// Elements that a thread takes at a time: small enough for the second cache, large enough to be worth taking.
const PIECE: usize = 1 << 15;

/// What decides how a step is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Adam with weight decay apart from the gradient (Loshchilov and Hutter, "Decoupled weight decay regularization",
    /// ICLR 2019).
    AdamW {
        /// Decay of the running means of gradients and of their squares.
        betas: (f32, f32),
        /// Added to the root of the second mean.
        epsilon: f32,
    },
    /// Stochastic gradient descent with heavy-ball momentum (Sutskever et al., ICML 2013, in PyTorch's form); decay apart
    /// from the gradient as well.
    Sgd {
        /// Share of the last direction that is kept.
        momentum: f32,
    },
}

/// How one tensor is moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Step size.
    pub learning_rate: f32,
    /// Share of a weight that a step of size 1 takes away.
    pub weight_decay: f32,
}

/// What a step saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stepped {
    /// The gradient's norm over all tensors, before it was clipped.
    pub norm: f64,
    /// Whether weights were moved: a gradient that is not finite moves none.
    pub moved: bool,
}

/// The state of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimiser {
    rule: Rule,
    /// Steps made.
    steps: u32,
    /// Running means of the gradients, a tensor each.
    first: Vec<Vec<f32>>,
    /// Running means of their squares; empty where the rule has none.
    second: Vec<Vec<f32>>,
}

impl Optimiser {
    /// For tensors of these sizes.
    pub fn new(rule: Rule, sizes: &[usize]) -> Self {
        let zeros = || sizes.iter().map(|size| vec![0.0; *size]).collect();
        let second = match rule {
            Rule::AdamW { .. } => zeros(),
            Rule::Sgd { .. } => sizes.iter().map(|_| Vec::new()).collect(),
        };
        Self { rule, steps: 0, first: zeros(), second }
    }

    /// What [`Optimiser::of`] takes: steps made, means of gradients, means of their squares.
    pub fn parts(&self) -> (u32, &Vec<Vec<f32>>, &Vec<Vec<f32>>) {
        (self.steps, &self.first, &self.second)
    }

    /// One that goes on from where another was.
    pub fn of(rule: Rule, steps: u32, first: Vec<Vec<f32>>, second: Vec<Vec<f32>>) -> Self {
        Self { rule, steps, first, second }
    }

    /// Steps made.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Moves every tensor by its pace, along the gradient scaled down to the norm `clip` where it is longer. `None` when
    /// the tensors are not those it was made for.
    pub fn step(
        &mut self,
        weights: Vec<Weight<'_>>,
        paces: &[Pace],
        clip: Option<f32>,
        threads: usize,
    ) -> Option<Stepped> {
        let fits = weights.len() == self.first.len() && paces.len() == weights.len();
        let same = weights.iter().zip(&self.first).all(|(weight, first)| {
            weight.values.len() == first.len() && weight.gradient.len() == first.len()
        });
        if !fits || !same {
            return None;
        }
        let norm = norm(&weights, threads);
        if !norm.is_finite() {
            return Some(Stepped { norm, moved: false });
        }
        self.steps += 1;
        let scale = clip.map_or(1.0, |most| (f64::from(most) / norm.max(f64::MIN_POSITIVE)).min(1.0) as f32);
        let mut pieces = Vec::new();
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((weight, pace), (first, second)) in weights.into_iter().zip(paces).zip(moments) {
            let mut seconds = second.chunks_mut(PIECE);
            let parts = weight.values.chunks_mut(PIECE).zip(weight.gradient.chunks(PIECE));
            for ((values, gradient), first) in parts.zip(first.chunks_mut(PIECE)) {
                let second = seconds.next().unwrap_or_default();
                pieces.push(Piece { values, gradient, first, second, pace: *pace });
            }
        }
        let (rule, steps) = (self.rule, self.steps);
        share(pieces, threads, |piece| piece.step(rule, steps, scale));
        Some(Stepped { norm, moved: true })
    }
}

/// A run of elements of one tensor.
struct Piece<'a> {
    values: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    pace: Pace,
}

impl Piece<'_> {
    fn step(self, rule: Rule, steps: u32, scale: f32) {
        let Self { values, gradient, first, second, pace } = self;
        let keep = 1.0 - pace.learning_rate * pace.weight_decay;
        match rule {
            Rule::AdamW { betas: (beta1, beta2), epsilon } => {
                let steps = f64::from(steps);
                let rate = f64::from(pace.learning_rate) / (1.0 - f64::from(beta1).powf(steps));
                let root = (1.0 - f64::from(beta2).powf(steps)).sqrt();
                let told =
                    Adam { keep, scale, beta1, beta2, epsilon, rate: rate as f32, root: root.recip() as f32 };
                adam(values, gradient, first, second, told);
            }
            Rule::Sgd { momentum } => {
                sgd(values, gradient, first, [keep, scale, momentum, pace.learning_rate]);
            }
        }
    }
}

/// The numbers of one step of Adam.
#[derive(Clone, Copy)]
struct Adam {
    keep: f32,
    scale: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    rate: f32,
    root: f32,
}

// Rounding does not depend on which of these is taken: no operation is contracted or reordered.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn adam(values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], told: Adam) {
    for (((w, g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
        let g = g * told.scale;
        *m = told.beta1 * *m + (1.0 - told.beta1) * g;
        *v = told.beta2 * *v + (1.0 - told.beta2) * g * g;
        *w = told.keep * *w - told.rate * *m / (v.sqrt() * told.root + told.epsilon);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn sgd(values: &mut [f32], gradient: &[f32], first: &mut [f32], [keep, scale, momentum, rate]: [f32; 4]) {
    for ((w, g), m) in values.iter_mut().zip(gradient).zip(first) {
        *m = momentum * *m + g * scale;
        *w = keep * *w - rate * *m;
    }
}

/// The norm of all gradients together.
fn norm(weights: &[Weight<'_>], threads: usize) -> f64 {
    let pieces: Vec<&[f32]> = weights.iter().flat_map(|weight| weight.gradient.chunks(PIECE)).collect();
    let mut sums = vec![0.0f64; pieces.len()];
    share(pieces.into_iter().zip(&mut sums).collect(), threads, |(piece, sum)| *sum = squares(piece));
    sums.iter().sum::<f64>().sqrt()
}

/// Sums in eight columns, so that the processor adds several at once, in an order that is always the same.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn squares(values: &[f32]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for eight in eights {
        for (sum, value) in sums.iter_mut().zip(eight) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>()
}

/// Deals pieces out to threads, each a run of neighbours.
fn share<T: Send>(mut pieces: Vec<T>, threads: usize, work: impl Fn(T) + Sync) {
    let each = pieces.len().div_ceil(threads.max(1)).max(1);
    if pieces.len() <= each {
        return pieces.into_iter().for_each(work);
    }
    thread::scope(|scope| {
        while pieces.len() > each {
            let part = pieces.split_off(pieces.len() - each);
            let work = &work;
            scope.spawn(move || part.into_iter().for_each(work));
        }
        pieces.into_iter().for_each(&work);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAM: Rule = Rule::AdamW { betas: (0.9, 0.999), epsilon: 1e-8 };

    struct Tensors {
        values: Vec<Vec<f32>>,
        gradients: Vec<Vec<f32>>,
    }

    impl Tensors {
        fn of(sizes: &[usize]) -> Self {
            let wave = |of: &usize, by: f32| (0..*of).map(|at| (at as f32 * by).sin()).collect();
            Self {
                values: sizes.iter().map(|size| wave(size, 0.7)).collect(),
                gradients: sizes.iter().map(|size| wave(size, 1.3)).collect(),
            }
        }

        fn weights(&mut self) -> Vec<Weight<'_>> {
            let pairs = self.values.iter_mut().zip(&mut self.gradients);
            pairs.map(|(values, gradient)| Weight { values, gradient }).collect()
        }
    }

    fn paces(count: usize) -> Vec<Pace> {
        (0..count)
            .map(|at| Pace { learning_rate: 0.01 * (at + 1) as f32, weight_decay: 0.1 * at as f32 })
            .collect()
    }

    #[test]
    fn adam_makes_the_steps_that_the_paper_defines() {
        let mut tensors = Tensors::of(&[5, 3]);
        let mut expected: Vec<Vec<f64>> = tensors
            .values
            .iter()
            .map(|tensor| tensor.iter().map(|value| f64::from(*value)).collect())
            .collect();
        let (mut m, mut v) = (vec![vec![0.0f64; 5]; 2], vec![vec![0.0f64; 5]; 2]);
        let mut optimiser = Optimiser::new(ADAM, &[5, 3]);
        for t in 1..=3 {
            optimiser.step(tensors.weights(), &paces(2), None, 1).unwrap();
            for tensor in 0..2 {
                for at in 0..expected[tensor].len() {
                    let g = f64::from(tensors.gradients[tensor][at]);
                    m[tensor][at] = 0.9 * m[tensor][at] + 0.1 * g;
                    v[tensor][at] = 0.999 * v[tensor][at] + 0.001 * g * g;
                    let (m_hat, v_hat) =
                        (m[tensor][at] / (1.0 - 0.9f64.powi(t)), v[tensor][at] / (1.0 - 0.999f64.powi(t)));
                    let (rate, decay) = (0.01 * (tensor + 1) as f64, 0.1 * tensor as f64);
                    expected[tensor][at] -=
                        rate * (m_hat / (v_hat.sqrt() + 1e-8) + decay * expected[tensor][at]);
                    let found = f64::from(tensors.values[tensor][at]);
                    assert!((found - expected[tensor][at]).abs() < 1e-5, "{found} {}", expected[tensor][at]);
                }
            }
        }
    }

    #[test]
    fn momentum_adds_up_and_decay_stays_apart() {
        let mut tensors = Tensors { values: vec![vec![1.0]], gradients: vec![vec![2.0]] };
        let mut optimiser = Optimiser::new(Rule::Sgd { momentum: 0.5 }, &[1]);
        let pace = [Pace { learning_rate: 0.1, weight_decay: 0.5 }];
        optimiser.step(tensors.weights(), &pace, None, 1).unwrap();
        assert!((tensors.values[0][0] - 0.75).abs() < 1e-6, "1 · (1 − 0.1 · 0.5) − 0.1 · 2");
        optimiser.step(tensors.weights(), &pace, None, 1).unwrap();
        assert!((tensors.values[0][0] - 0.4125).abs() < 1e-6, "0.75 · 0.95 − 0.1 · (0.5 · 2 + 2)");
    }

    #[test]
    fn a_long_gradient_is_cut_to_the_norm_asked_for() {
        let mut tensors =
            Tensors { values: vec![vec![0.0], vec![0.0]], gradients: vec![vec![3.0], vec![4.0]] };
        let mut optimiser = Optimiser::new(Rule::Sgd { momentum: 0.0 }, &[1, 1]);
        let pace = [Pace { learning_rate: 1.0, weight_decay: 0.0 }; 2];
        let stepped = optimiser.step(tensors.weights(), &pace, Some(1.0), 1).unwrap();
        assert_eq!(stepped, Stepped { norm: 5.0, moved: true });
        assert!((tensors.values[0][0] + 0.6).abs() < 1e-6 && (tensors.values[1][0] + 0.8).abs() < 1e-6);
    }

    #[test]
    fn a_gradient_that_is_not_finite_moves_nothing() {
        let mut tensors = Tensors::of(&[4]);
        tensors.gradients[0][2] = f32::NAN;
        let before = tensors.values.clone();
        let mut optimiser = Optimiser::new(ADAM, &[4]);
        let stepped = optimiser.step(tensors.weights(), &paces(1), Some(1.0), 1).unwrap();
        assert!(!stepped.moved && optimiser.steps() == 0);
        assert_eq!(tensors.values, before);
    }

    #[test]
    fn threads_change_no_bit() {
        let sizes = [3 * PIECE + 17, 5, 2 * PIECE];
        let run = |threads| {
            let mut tensors = Tensors::of(&sizes);
            let mut optimiser = Optimiser::new(ADAM, &sizes);
            let norms: Vec<f64> = (0..3)
                .map(|_| optimiser.step(tensors.weights(), &paces(3), Some(1.0), threads).unwrap().norm)
                .collect();
            (tensors.values, norms)
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(7));
    }
}
