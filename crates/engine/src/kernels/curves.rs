//! Functions of single numbers, written so that the compiler computes many at once.

use multiversion::multiversion;

/// `eˣ` to two units in the last place, 0 below -87 (Cephes' `expf`).
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the lower bits.
    const SHIFT: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let whole = shifted - SHIFT;
    let rest = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut sum = 1.987_569_1e-4;
    for term in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1] {
        sum = sum * rest + term;
    }
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    (sum * rest * rest + rest + 1.0) * scale
}

/// The error function as a quotient of polynomials (Eigen's `generic_fast_erf_float`).
#[inline(always)]
fn erf(x: f32) -> f32 {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let (mut above, mut below) = (0.0, 0.0);
    for term in ABOVE {
        above = above * square + term;
    }
    for term in BELOW {
        below = below * square + term;
    }
    x * above / below
}

/// The share of `x` that `Gelu` lets through: `(1 + erf(x/√2)) / 2`.
#[inline(always)]
fn share(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// `y = x·(1 + erf(x/√2)) / 2`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn gelu(x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = x * share(*x);
    }
}

/// `dx = dy·((1 + erf(x/√2)) / 2 + x·e^(-x²/2) / √2π)`, in the place of `dy`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn gelu_slope(dx: &mut [f32], x: &[f32]) {
    /// `1 / √2π`.
    const BELL: f32 = 0.398_942_3;
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx *= share(*x) + x * BELL * exp(-0.5 * x * x);
    }
}

/// `dx = dy` where `low < y < high`, else 0, in the place of `dy`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn within(dx: &mut [f32], y: &[f32], [low, high]: [f32; 2]) {
    for (dx, y) in dx.iter_mut().zip(y) {
        *dx = if *y > low && *y < high { *dx } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_right_to_the_last_places() {
        for at in -1000..=1000 {
            let x = at as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 3e-7 * exact, "e^{x}");
            // The slope of the error function, integrated by Simpson's rule.
            let step = f64::from(x) / 2000.0;
            let slope = |t: f64| (-t * t).exp();
            let sum: f64 = (0..1000)
                .map(|at| {
                    let t = 2.0 * f64::from(at) * step;
                    slope(t) + 4.0 * slope(t + step) + slope(t + 2.0 * step)
                })
                .sum();
            let exact = sum * step / 3.0 * 2.0 / std::f64::consts::PI.sqrt();
            assert!((f64::from(erf(x)) - exact).abs() < 4e-7, "erf({x}) = {exact}, not {}", erf(x));
        }
    }
}
