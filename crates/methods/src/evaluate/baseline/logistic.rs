//! Logistic regression on sparse rows, by dual coordinate ascent.
//!
//! Minimises `c · Σ loss + ½ ‖W‖²`, the loss that of softmax (one class a row) or of one sigmoid a label (several).
//! The intercept is a column of ones, so it is shrunk as the weights are.
//!
//! Source: Shalev-Shwartz and Zhang 2013, "Stochastic dual coordinate ascent methods for regularized loss
//! minimization", with the step for smooth losses of their 2016 paper on its accelerated proximal form (option V):
//! the dual of a row is its residual `y − q`, and moves towards `y − p` by a share that the curvature allows. It needs
//! the weights and one residual a row, no history of gradients, and touches a row's own columns alone.

use ndarray::{Array2, ArrayViewMut1};

use super::sparse::SparseRows;
use crate::data::Targets;
use crate::rng::Rng;

/// Passes over the rows, at most.
const PASSES: usize = 200;

/// Passes between two looks at the duality gap, which cost one pass each.
const BETWEEN_LOOKS: usize = 10;

/// The gap, as a share of the objective, below which the fit is done.
const GAP: f64 = 1e-3;

/// Fitted weights.
#[derive(Debug, Clone)]
pub struct Logistic {
    /// `[columns + 1, classes]`, the intercept last.
    weights: Array2<f32>,
    link: Link,
}

/// What turns sums into probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Softmax,
    Sigmoid,
}

impl Link {
    /// The inverse of the loss's largest curvature.
    fn smoothness(self) -> f32 {
        match self {
            Self::Softmax => 2.0,
            Self::Sigmoid => 4.0,
        }
    }

    fn apply(self, mut sums: ArrayViewMut1<'_, f32>) {
        match self {
            Self::Softmax => {
                let top = sums.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                sums.mapv_inplace(|sum| (sum - top).exp());
                let total = sums.sum();
                sums.mapv_inplace(|sum| sum / total);
            }
            Self::Sigmoid => sums.mapv_inplace(|sum| 1.0 / (1.0 + (-sum).exp())),
        }
    }

    /// The entropy that the dual of the loss is, in nats.
    fn entropy(self, q: f32) -> f64 {
        let part = |q: f32| if q > 0.0 { -f64::from(q) * f64::from(q).ln() } else { 0.0 };
        match self {
            Self::Softmax => part(q),
            Self::Sigmoid => part(q) + part(1.0 - q),
        }
    }

    /// The loss of a probability `p` where the truth is `y`, 0 or 1.
    fn loss(self, y: f32, p: f32) -> f64 {
        let nats = |p: f32| -f64::from(p.max(f32::MIN_POSITIVE)).ln();
        match (self, y > 0.5) {
            (_, true) => nats(p),
            (Self::Softmax, false) => 0.0,
            (Self::Sigmoid, false) => nats(1.0 - p),
        }
    }
}

/// A fit under way.
struct Fit<'a> {
    rows: &'a SparseRows,
    y: Array2<f32>,
    /// The dual state: `y − q`.
    q: Array2<f32>,
    model: Logistic,
    c: f32,
}

impl Logistic {
    /// Fits `rows` `[n, columns]` to `targets` of `classes` classes. `c` is the inverse strength of the shrinkage, as in
    /// scikit-learn; `seed` orders the passes.
    pub fn fit(rows: &SparseRows, targets: &Targets, classes: usize, c: f32, seed: u64) -> Self {
        let n = rows.len().min(targets.len());
        let mut y = Array2::zeros((n, classes));
        for row in 0..n {
            for &class in targets.of(row) {
                if let Some(cell) = y.get_mut((row, class as usize)) {
                    *cell = 1.0;
                }
            }
        }
        let link = if targets.is_multi() { Link::Sigmoid } else { Link::Softmax };
        let model = Self { weights: Array2::zeros((rows.width() + 1, classes)), link };
        let mut fit = Fit { rows, q: y.clone(), y, model, c };
        let mut order: Vec<usize> = (0..n).collect();
        for pass in 1..=PASSES {
            Rng::stream(seed, pass as u64).shuffle(&mut order);
            order.iter().for_each(|&row| fit.step(row));
            if pass % BETWEEN_LOOKS == 0 && fit.gap() < GAP {
                break;
            }
        }
        fit.model
    }

    /// Probabilities of the rows: `[n, columns]` → `[n, classes]`.
    pub fn probabilities(&self, rows: &SparseRows) -> Array2<f32> {
        let mut scores = Array2::zeros((rows.len(), self.weights.ncols()));
        for (row, mut scores) in scores.outer_iter_mut().enumerate() {
            self.sums(rows, row, scores.view_mut());
            self.link.apply(scores);
        }
        scores
    }

    fn sums(&self, rows: &SparseRows, row: usize, mut sums: ArrayViewMut1<'_, f32>) {
        sums.assign(&self.weights.row(self.weights.nrows() - 1));
        for (column, value) in rows.row(row) {
            sums.scaled_add(value, &self.weights.row(column));
        }
    }
}

impl Fit<'_> {
    /// Moves one row's dual towards the residual it should be, and the weights with it.
    fn step(&mut self, row: usize) {
        let link = self.model.link;
        let mut p = ndarray::Array1::zeros(self.y.ncols());
        self.model.sums(self.rows, row, p.view_mut());
        link.apply(p.view_mut());
        let square = self.rows.square(row) + 1.0;
        let share = link.smoothness() / (link.smoothness() + self.c * square);
        let mut q = self.q.row_mut(row);
        p -= &q;
        p *= share;
        q += &p;
        let intercept = self.model.weights.nrows() - 1;
        for (column, value) in self.rows.row(row).chain([(intercept, 1.0)]) {
            self.model.weights.row_mut(column).scaled_add(-self.c * value, &p);
        }
    }

    /// How far the objective can be above its minimum at most, as a share of it.
    fn gap(&self) -> f64 {
        let c = f64::from(self.c);
        let penalty = self.model.weights.iter().map(|w| f64::from(*w) * f64::from(*w)).sum::<f64>() / 2.0;
        let mut loss = 0.0;
        let mut p = ndarray::Array1::zeros(self.y.ncols());
        for (row, y) in self.y.outer_iter().enumerate() {
            self.model.sums(self.rows, row, p.view_mut());
            self.model.link.apply(p.view_mut());
            loss += y.iter().zip(&p).map(|(y, p)| self.model.link.loss(*y, *p)).sum::<f64>();
        }
        let entropy: f64 = self.q.iter().map(|q| self.model.link.entropy(*q)).sum();
        let primal = c * loss + penalty;
        let dual = c * entropy - penalty;
        (primal - dual) / primal.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(dense: &[&[f32]]) -> SparseRows {
        let mut rows = SparseRows::new(dense[0].len());
        for row in dense {
            rows.push((0u32..).zip(row.iter().copied()));
        }
        rows
    }

    #[test]
    fn the_gradient_vanishes_at_the_fit() {
        let x = rows(&[&[1.0, 0.0], &[0.8, 0.2], &[0.0, 1.0], &[0.3, 0.9]]);
        let model = Logistic::fit(&x, &Targets::Single(vec![0, 0, 1, 1]), 2, 1.0, 1);
        let p = model.probabilities(&x);
        // d/dw0 of the objective: Σ (p − y) x + w.
        let y = [1.0, 1.0, 0.0, 0.0f32];
        let slope: f32 = (0..4)
            .map(|r| (p[[r, 0]] - y[r]) * x.row(r).find(|(c, _)| *c == 0).map_or(0.0, |(_, v)| v))
            .sum();
        assert!((slope + model.weights[[0, 0]]).abs() < 1e-2, "{slope} {:?}", model.weights);
    }

    #[test]
    fn several_labels_are_learnt_side_by_side() {
        let x = rows(&[&[1.0, 0.0], &[0.0, 1.0], &[1.0, 1.0], &[0.0, 0.0]]);
        let y = Targets::Multi(vec![vec![0], vec![1], vec![0, 1], vec![]]);
        let p = Logistic::fit(&x, &y, 2, 100.0, 1).probabilities(&x);
        let said: Vec<Vec<bool>> =
            p.outer_iter().map(|row| row.iter().map(|p| *p >= 0.5).collect()).collect();
        assert_eq!(said, [[true, false], [false, true], [true, true], [false, false]]);
    }
}
