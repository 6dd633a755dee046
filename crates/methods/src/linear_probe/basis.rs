//! A change of coordinates that leaves the problem as it is and makes it quick to solve.
//!
//! A Euclidean penalty does not see rotations, and an unpenalised intercept absorbs shifts. So features are centred
//! and turned into the axes of their covariance: with fewer rows than columns only the row space is left, and in
//! these axes a diagonal is a good stand-in for the Hessian.

use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::{Array2, ArrayView2, Axis, linalg::general_mat_mul, s};

/// Beyond this many rows and columns the eigenvectors cost more than they save.
const LARGEST: usize = 1024;
/// Axes with less than this share of the largest variance are rounding noise.
const NOISE: f64 = 1e-9;
/// Rows that are multiplied in f32 before their sum goes on in f64.
const CHUNK: usize = 512;

/// The coordinates: `z = (x − mean) · axes`.
#[derive(Debug)]
pub(super) struct Basis {
    mean: Vec<f64>,
    /// `dim × rank`; `None` for the identity.
    axes: Option<Array2<f32>>,
    /// The mean square along each axis.
    pub(super) variances: Vec<f64>,
}

impl Basis {
    /// The axes of `x` (`n × dim`).
    pub(super) fn of(x: ArrayView2<'_, f32>) -> Self {
        let (n, dim) = x.dim();
        let mean = means(x);
        let centred = centre(x, &mean);
        if n.min(dim) > LARGEST {
            let variances = centred.axis_iter(Axis(1)).map(|column| mean_square(column.iter())).collect();
            return Self { mean, axes: None, variances };
        }
        let axes = if n <= dim { row_space(&centred) } else { covariance_axes(&centred) };
        let turned = product(centred.view(), axes.view());
        let variances = turned.axis_iter(Axis(1)).map(|column| mean_square(column.iter())).collect();
        Self { mean, axes: Some(axes), variances }
    }

    /// The coordinates of `x` (`n × dim`), `n × rank`.
    pub(super) fn coordinates(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let centred = centre(x, &self.mean);
        match &self.axes {
            Some(axes) => product(centred.view(), axes.view()),
            None => centred,
        }
    }

    /// Weights (`classes × rank`) and bias on coordinates as weights (`classes × dim`) and bias on features.
    pub(super) fn undo(&self, weights: &Array2<f64>, bias: &[f64]) -> (Array2<f64>, Vec<f64>) {
        let on_features = match &self.axes {
            Some(axes) => weights.dot(&axes.mapv(f64::from).t()),
            None => weights.clone(),
        };
        let shifted = on_features.outer_iter().zip(bias).map(|(row, bias)| {
            let shift: f64 = row.iter().zip(&self.mean).map(|(w, m)| w * m).sum();
            bias - shift
        });
        let shifted = shifted.collect();
        (on_features, shifted)
    }
}

fn means(x: ArrayView2<'_, f32>) -> Vec<f64> {
    let mut sums = vec![0.0; x.ncols()];
    for row in x.outer_iter() {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    sums.iter_mut().for_each(|sum| *sum /= x.nrows() as f64);
    sums
}

fn centre(x: ArrayView2<'_, f32>, mean: &[f64]) -> Array2<f32> {
    let mut centred = x.to_owned();
    for mut row in centred.outer_iter_mut() {
        for (value, mean) in row.iter_mut().zip(mean) {
            *value = (f64::from(*value) - mean) as f32;
        }
    }
    centred
}

fn mean_square<'a>(values: impl ExactSizeIterator<Item = &'a f32>) -> f64 {
    let n = values.len().max(1) as f64;
    values.map(|&value| f64::from(value).powi(2)).sum::<f64>() / n
}

fn product(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut out = Array2::zeros((a.nrows(), b.ncols()));
    general_mat_mul(1.0, &a, &b, 0.0, &mut out);
    out
}

/// Eigenvectors (columns) with their eigenvalues, largest first, without the noise.
fn axes_of(symmetric: &Array2<f64>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let size = symmetric.nrows();
    let eigen = SymmetricEigen::new(DMatrix::from_iterator(size, size, symmetric.iter().copied()));
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let most = order.first().map_or(0.0, |&first| eigen.eigenvalues[first]);
    order.retain(|&axis| eigen.eigenvalues[axis] > NOISE * most);
    let values = order.iter().map(|&axis| eigen.eigenvalues[axis]).collect();
    let vectors = order.iter().map(|&axis| eigen.eigenvectors.column(axis).iter().copied().collect());
    (values, vectors.collect())
}

fn covariance_axes(centred: &Array2<f32>) -> Array2<f32> {
    let (n, dim) = centred.dim();
    let mut sum = Array2::<f64>::zeros((dim, dim));
    let mut part = Array2::<f32>::zeros((dim, dim));
    for start in (0..n).step_by(CHUNK) {
        let rows = centred.slice(s![start..(start + CHUNK).min(n), ..]);
        general_mat_mul(1.0, &rows.t(), &rows, 0.0, &mut part);
        sum.zip_mut_with(&part, |sum, &part| *sum += f64::from(part));
    }
    let (_, vectors) = axes_of(&sum);
    let rank = vectors.len().max(1);
    Array2::from_shape_fn((dim, rank), |(row, axis)| {
        vectors.get(axis).and_then(|vector| vector.get(row)).map_or(0.0, |&value| value as f32)
    })
}

/// An orthonormal basis of the rows: `xᵀ · u / σ` for the eigenvectors `u` of `x · xᵀ`.
fn row_space(centred: &Array2<f32>) -> Array2<f32> {
    let x = centred.mapv(f64::from);
    let (values, vectors) = axes_of(&x.dot(&x.t()));
    let rank = vectors.len();
    if rank == 0 {
        return Array2::zeros((centred.ncols(), 1));
    }
    let u = Array2::from_shape_fn((x.nrows(), rank), |(row, axis)| {
        let value = vectors.get(axis).and_then(|vector| vector.get(row)).copied().unwrap_or(0.0);
        value / values.get(axis).copied().unwrap_or(1.0).sqrt()
    });
    x.t().dot(&u).mapv(|value| value as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn distances_are_kept_and_weights_come_back_to_the_same_logits() {
        let mut rng = Rng::new(3);
        for (n, dim) in [(40, 9), (7, 30)] {
            let x = Array2::from_shape_fn((n, dim), |_| rng.unit() as f32 - 0.2);
            let basis = Basis::of(x.view());
            let z = basis.coordinates(x.view());
            let apart =
                |m: &Array2<f32>| m.row(0).iter().zip(m.row(3)).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
            assert!((apart(&x) - apart(&z)).abs() < 1e-4);
            let w = Array2::from_shape_fn((2, z.ncols()), |_| rng.unit());
            let (on_x, bias) = basis.undo(&w, &[0.5, -1.0]);
            let there = z.mapv(f64::from).dot(&w.t());
            let here = x.mapv(f64::from).dot(&on_x.t());
            for row in 0..n {
                assert!((there[[row, 0]] + 0.5 - here[[row, 0]] - bias[0]).abs() < 1e-4);
                assert!((there[[row, 1]] - 1.0 - here[[row, 1]] - bias[1]).abs() < 1e-4);
            }
        }
    }
}
