//! The penalised log-likelihood, its gradient, and a diagonal close to its inverse Hessian.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis, linalg::general_mat_mul, s};

use crate::optim::lbfgs::Objective;

/// Rows that are multiplied in f32 before their sum goes on in f64; their logits stay in the cache.
const CHUNK: usize = 256;

/// The right answers as the loss needs them.
#[derive(Debug)]
pub(super) enum Answers {
    /// One class a row, against the others.
    Softmax(Vec<u32>),
    /// `n × outputs` zeros and ones, each output on its own.
    Sigmoids(Array2<f32>),
}

/// What one mistake weighs.
#[derive(Debug, Clone)]
pub(super) enum Weights {
    /// By the row's class.
    Class(Vec<f32>),
    /// By output: rows without and rows with the label.
    Label(Vec<[f32; 2]>),
}

/// `mean of weighted losses + ½ penalty · |W|²` over some ranges of rows. Parameters are `outputs × rank` weights,
/// row-major, and then `outputs` intercepts, which bear no penalty.
pub(super) struct Loss<'a> {
    x: ArrayView2<'a, f32>,
    answers: &'a Answers,
    weights: Weights,
    chunks: Vec<Range<usize>>,
    outputs: usize,
    /// One over the sum of weights.
    share: f64,
    penalty: f64,
    variances: &'a [f64],
    /// The mean second derivative of the loss by each output, from the last evaluation.
    curvature: Vec<f64>,
    part: Array2<f32>,
}

impl<'a> Loss<'a> {
    /// The loss over `ranges` of the rows of `x` with scikit-learn's inverse penalty `c`.
    pub(super) fn new(
        x: ArrayView2<'a, f32>,
        answers: &'a Answers,
        weights: Weights,
        ranges: &[Range<usize>],
        outputs: usize,
        variances: &'a [f64],
        c: f64,
    ) -> Self {
        let chunks: Vec<Range<usize>> = ranges
            .iter()
            .flat_map(|range| {
                let end = range.end;
                range.clone().step_by(CHUNK).map(move |start| start..(start + CHUNK).min(end))
            })
            .collect();
        let rows = chunks.iter().map(ExactSizeIterator::len).sum::<usize>() as f64;
        let total = match (&weights, answers) {
            (Weights::Class(of), Answers::Softmax(classes)) => chunks
                .iter()
                .flat_map(|chunk| classes.get(chunk.clone()).unwrap_or_default())
                .map(|&class| f64::from(of.get(class as usize).copied().unwrap_or(1.0)))
                .sum::<f64>(),
            (Weights::Class(_) | Weights::Label(_), _) => rows,
        };
        let share = 1.0 / total.max(f64::MIN_POSITIVE);
        let part = Array2::zeros((outputs, x.ncols()));
        let curvature = vec![0.25; outputs];
        Self { x, answers, weights, chunks, outputs, share, penalty: share / c, variances, curvature, part }
    }

    /// Turns a chunk's logits into derivatives by the logits; gives the chunk's loss and adds up curvature.
    fn differentiate(&self, chunk: &Range<usize>, z: &mut Array2<f32>, bend: &mut [f64]) -> f64 {
        let mut loss = 0.0;
        match (self.answers, &self.weights) {
            (Answers::Softmax(classes), Weights::Class(weights)) => {
                let classes = classes.get(chunk.clone()).unwrap_or_default();
                for (mut row, &class) in z.outer_iter_mut().zip(classes) {
                    let weight = weights.get(class as usize).copied().unwrap_or(1.0);
                    if let Some(row) = row.as_slice_mut() {
                        loss += softmax(row, class as usize, weight, bend);
                    }
                }
            }
            (Answers::Sigmoids(labels), Weights::Label(weights)) => {
                let labels = labels.slice(s![chunk.clone(), ..]);
                for (mut row, labels) in z.outer_iter_mut().zip(labels.outer_iter()) {
                    let columns = row.iter_mut().zip(labels).zip(weights).zip(bend.iter_mut());
                    for (((z, &label), weight), bend) in columns {
                        let weight = if label > 0.5 { weight[1] } else { weight[0] };
                        let away = (-z.abs()).exp();
                        loss += f64::from(weight * (z.max(0.0) + away.ln_1p() - label * *z));
                        let p = if *z >= 0.0 { 1.0 / (1.0 + away) } else { away / (1.0 + away) };
                        *bend += f64::from(weight * p * (1.0 - p));
                        *z = weight * (p - label);
                    }
                }
            }
            (Answers::Softmax(_) | Answers::Sigmoids(_), _) => {}
        }
        loss
    }
}

/// One row: logits to weighted `p − y`; gives the weighted loss.
fn softmax(row: &mut [f32], class: usize, weight: f32, bend: &mut [f64]) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let right = row.get(class).map_or(0.0, |z| z - most);
    let mut sum = 0.0f32;
    for z in row.iter_mut() {
        *z = (*z - most).exp();
        sum += *z;
    }
    for (z, bend) in row.iter_mut().zip(bend) {
        let p = *z / sum;
        *bend += f64::from(weight * p * (1.0 - p));
        *z = weight * p;
    }
    if let Some(p) = row.get_mut(class) {
        *p -= weight;
    }
    f64::from(weight) * (f64::from(sum).ln() - f64::from(right))
}

/// The logits of `x` (`n × rank`) under the parameters, `n × outputs`.
pub(super) fn logits(x: ArrayView2<'_, f32>, parameters: &[f64], outputs: usize) -> Array2<f32> {
    let (weights, bias) = split(parameters, outputs, x.ncols());
    affine(x, &weights, &bias)
}

fn split(parameters: &[f64], outputs: usize, rank: usize) -> (Array2<f32>, Array1<f32>) {
    let at = |index: usize| parameters.get(index).map_or(0.0, |&value| value as f32);
    // Transposed here once, so that every product reads both operands along their rows.
    let weights = Array2::from_shape_fn((rank, outputs), |(column, output)| at(output * rank + column));
    (weights, Array1::from_shape_fn(outputs, |output| at(outputs * rank + output)))
}

fn affine(x: ArrayView2<'_, f32>, weights: &Array2<f32>, bias: &Array1<f32>) -> Array2<f32> {
    let mut z = Array2::zeros((x.nrows(), bias.len()));
    z.outer_iter_mut().for_each(|mut row| row.assign(bias));
    general_mat_mul(1.0, &x, weights, 1.0, &mut z);
    z
}

impl Objective for Loss<'_> {
    fn evaluate(&mut self, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        let rank = self.x.ncols();
        let (weights, bias) = split(parameters, self.outputs, rank);
        let (on_weights, on_bias) = gradient.split_at_mut(self.outputs * rank);
        on_weights.fill(0.0);
        on_bias.fill(0.0);
        let mut bend = vec![0.0; self.outputs];
        let mut loss = 0.0;
        for chunk in &self.chunks {
            let x = self.x.slice(s![chunk.clone(), ..]);
            let mut z = affine(x, &weights, &bias);
            loss += self.differentiate(chunk, &mut z, &mut bend);
            general_mat_mul(1.0, &z.t(), &x, 0.0, &mut self.part);
            for (sum, &part) in on_weights.iter_mut().zip(self.part.iter()) {
                *sum += f64::from(part);
            }
            for (sum, column) in on_bias.iter_mut().zip(z.axis_iter(Axis(1))) {
                *sum += column.iter().map(|&value| f64::from(value)).sum::<f64>();
            }
        }
        let mut square = 0.0;
        for (gradient, &weight) in on_weights.iter_mut().zip(parameters) {
            *gradient = *gradient * self.share + self.penalty * weight;
            square += weight * weight;
        }
        on_bias.iter_mut().for_each(|gradient| *gradient *= self.share);
        self.curvature = bend.into_iter().map(|bend| bend * self.share).collect();
        loss * self.share + 0.5 * self.penalty * square
    }

    fn inverse_diagonal(&self) -> Option<Vec<f64>> {
        let mut diagonal = Vec::with_capacity(self.outputs * (self.variances.len() + 1));
        // A saturated start would promise less curvature than there is nearby.
        let bends: Vec<f64> = self.curvature.iter().map(|&bend| bend.max(1e-4)).collect();
        for bend in &bends {
            diagonal.extend(self.variances.iter().map(|variance| 1.0 / (bend * variance + self.penalty)));
        }
        diagonal.extend(bends.iter().map(|bend| 1.0 / bend));
        Some(diagonal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn gradients_agree_with_finite_differences() {
        let mut rng = Rng::new(1);
        let (n, rank, outputs) = (60, 5, 3);
        let x = Array2::from_shape_fn((n, rank), |_| rng.unit() as f32 - 0.5);
        let classes: Vec<u32> = (0..n).map(|_| rng.below(outputs) as u32).collect();
        let labels = Array2::from_shape_fn((n, outputs), |_| rng.below(2) as f32);
        let variances = vec![0.1; rank];
        let cases = [
            (Answers::Softmax(classes), Weights::Class(vec![1.0, 2.0, 0.5])),
            (Answers::Sigmoids(labels), Weights::Label(vec![[1.0, 2.0], [0.5, 1.5], [1.0, 1.0]])),
        ];
        for (answers, weights) in cases {
            let mut loss = Loss::new(x.view(), &answers, weights, &[0..20, 25..60], outputs, &variances, 0.3);
            let at: Vec<f64> = (0..outputs * (rank + 1)).map(|_| rng.unit() - 0.5).collect();
            let mut gradient = vec![0.0; at.len()];
            let mut scratch = vec![0.0; at.len()];
            loss.evaluate(&at, &mut gradient);
            for index in 0..at.len() {
                let mut near = at.clone();
                near[index] += 1e-2;
                let above = loss.evaluate(&near, &mut scratch);
                near[index] -= 2e-2;
                let below = loss.evaluate(&near, &mut scratch);
                let estimate = (above - below) / 2e-2;
                assert!((estimate - gradient[index]).abs() < 2e-5, "{index}: {estimate} {}", gradient[index]);
            }
        }
    }
}
