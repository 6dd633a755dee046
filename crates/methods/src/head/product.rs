//! Matrix products of few feature rows with many weight rows.

use ndarray::{Array2, ArrayView1, ArrayView2, linalg::general_mat_mul};

/// Up to this many rows, plain dot products beat a product that packs its operands first.
const FEW: usize = 4;

/// `features · weightsᵀ`: `n × dim` and `rows × dim` to `n × rows`.
pub(super) fn times_transposed(features: ArrayView2<'_, f32>, weights: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut out = Array2::zeros((features.nrows(), weights.nrows()));
    if features.nrows() <= FEW {
        for (x, mut to) in features.outer_iter().zip(out.outer_iter_mut()) {
            for (w, value) in weights.outer_iter().zip(to.iter_mut()) {
                *value = dot(x, w);
            }
        }
    } else {
        general_mat_mul(1.0, &features, &weights.t(), 0.0, &mut out);
    }
    out
}

/// One over each row's Euclidean length; 0 for a row of zeros.
pub(super) fn inverse_lengths(features: ArrayView2<'_, f32>) -> Vec<f32> {
    features
        .outer_iter()
        .map(|row| dot(row, row).sqrt())
        .map(|l| if l > 0.0 { 1.0 / l } else { 0.0 })
        .collect()
}

/// A dot product in sixteen partial sums, which the compiler turns into vector instructions.
fn dot(a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>) -> f32 {
    let (Some(a), Some(b)) = (a.as_slice(), b.as_slice()) else { return a.dot(&b) };
    let (a16, a_rest) = a.as_chunks::<16>();
    let (b16, b_rest) = b.as_chunks::<16>();
    let mut sums = [0.0f32; 16];
    for (a, b) in a16.iter().zip(b16) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
