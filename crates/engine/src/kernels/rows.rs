//! Gradients of operators that work on rows: each row is read while it is in the first cache.

use multiversion::multiversion;

use super::simd::LANES;

/// Rows that a thread takes at a time; sums over rows are made of these, in order, so that they do not depend on threads.
pub(super) const ROWS: usize = 32;

/// `Σ f(…)` in sixteen columns.
#[inline(always)]
fn sum(width: usize, value: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let whole = width - width % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += value(start + lane);
        }
    }
    (whole..width).map(value).sum::<f32>() + sums.iter().sum::<f32>()
}

/// `Σ values`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn total(values: &[f32]) -> f32 {
    sum(values.len(), |at| values[at])
}

/// `dx = y·(dy - Σ dy·y)` for each row of `width`, in the place of `dy`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn softmax(dx: &mut [f32], y: &[f32], width: usize) {
    for (dx, y) in dx.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
        let (dx, y) = (&mut dx[..width], &y[..width]);
        let mean = sum(width, |at| dx[at] * y[at]);
        for at in 0..width {
            dx[at] = y[at] * (dx[at] - mean);
        }
    }
}

/// What a normalisation made of each row, and the scale of its columns.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub(super) scale: &'a [f32],
    pub(super) means: &'a [f32],
    pub(super) inverses: &'a [f32],
}

/// With `h = (x - mean)·inv` and `p = dy·scale`: `dx = (p - mean(p) - h·mean(p·h))·inv` in the place of `dy`; adds `Σ dy·h` and `Σ dy` over rows to the
/// sums.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn layer_norm<'a>(
    dx: &mut [f32],
    x: &[f32],
    norm: Norm<'a>,
    (scale_sums, bias_sums): (&mut [f32], &mut [f32]),
) {
    let width = norm.scale.len();
    let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
    let (scale, scale_sums, bias_sums) =
        (&norm.scale[..width], &mut scale_sums[..width], &mut bias_sums[..width]);
    for ((dx, x), (mean, inverse)) in rows.zip(norm.means.iter().zip(norm.inverses)) {
        let (dx, x) = (&mut dx[..width], &x[..width]);
        let normal = |at: usize| (x[at] - mean) * inverse;
        let first = sum(width, |at| dx[at] * scale[at]) / width as f32;
        let second = sum(width, |at| dx[at] * scale[at] * normal(at)) / width as f32;
        for at in 0..width {
            let (normal, dy) = ((x[at] - mean) * inverse, dx[at]);
            dx[at] = (dy * scale[at] - first - normal * second) * inverse;
            scale_sums[at] += dy * normal;
            bias_sums[at] += dy;
        }
    }
}

/// Adds up rows.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn add_rows(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len().max(1)) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}
