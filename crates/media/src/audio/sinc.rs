//! The weights of band-limited resampling: a sinc under a Kaiser window.
//!
//! With 48 zero crossings a side and β = 9 what would alias is 90 dB down, and up to 88 % of the lower of both bands is
//! left as it is. Source: Smith, "Digital Audio Resampling" (the method); Kaiser & Schafer 1980 (the window's width).

use std::convert::Infallible;
use std::f64::consts::PI;
use std::sync::{Arc, LazyLock};

use quick_cache::sync::Cache;

/// Zero crossings of the sinc on each side.
const ZEROS: f64 = 48.0;
/// Shape of the Kaiser window.
const BETA: f64 = 9.0;
/// Where the filter is half down, as a share of the lower of both bands.
const ROLLOFF: f64 = 0.945;
/// Most weights that are made; beyond, neighbouring phases are blended.
const MOST_WEIGHTS: usize = 1 << 18;
/// Phases that blending is exact enough with, one input sample wide; fewer as the filter gets wider.
const BLENDED_PHASES: f64 = 2048.0;

/// Filters of the ratios seen lately, each of 1 MiB, 2.6 between the farthest rates: to make the one of 44.1 to 16 kHz takes 1.6 ms, as long as to
/// resample three seconds of sound.
static LATELY: LazyLock<Cache<(u64, u64), Arc<Filter>>> = LazyLock::new(|| Cache::new(16));

/// A filter for one ratio of rates.
pub(super) struct Filter {
    /// Weights of each phase and of the one behind the last.
    weights: Vec<f32>,
    phases: u64,
    /// Input samples on each side of a position.
    pub(super) half: usize,
}

impl Filter {
    /// The filter for `up` output samples of `down` input samples, made once.
    pub(super) fn of(up: u64, down: u64) -> Arc<Self> {
        let Ok(filter) =
            LATELY.get_or_insert_with(&(up, down), || Ok::<_, Infallible>(Arc::new(Self::new(up, down))));
        filter
    }

    fn new(up: u64, down: u64) -> Self {
        let share = (up as f64 / down as f64).min(1.0);
        let cutoff = ROLLOFF * share;
        let reach = ZEROS / cutoff;
        let half = reach.floor() as usize + 1;
        let exact = up.saturating_mul(2 * half as u64) <= MOST_WEIGHTS as u64;
        let phases = if exact { up } else { (BLENDED_PHASES * share).ceil().max(16.0) as u64 };
        let window = 1.0 / bessel(BETA);
        let weight = |distance: f64| {
            let place = distance / reach;
            if place.abs() > 1.0 {
                return 0.0;
            }
            let x = PI * cutoff * distance;
            let sinc = if x == 0.0 { 1.0 } else { x.sin() / x };
            (cutoff * sinc * bessel(BETA * (1.0 - place * place).sqrt()) * window) as f32
        };
        let weights = (0..=phases).flat_map(|phase| {
            let between = phase as f64 / phases as f64;
            (0..2 * half).map(move |tap| tap as f64 - (half - 1) as f64 - between)
        });
        Self { weights: weights.map(weight).collect(), phases, half }
    }

    /// The value between samples: `samples` are the `half` before and the `half` behind the position, which lies
    /// `part / whole` behind the last of those before.
    pub(super) fn at(&self, samples: &[f32], part: u64, whole: u64) -> f32 {
        // Fits: parts are fewer than a rate, which is 32 bits, and phases fewer than weights.
        let position = part * self.phases;
        let phase = (position / whole) as usize;
        let rest = (position % whole) as f32 / whole as f32;
        let taps = 2 * self.half;
        let at = |phase: usize| dot(samples, &self.weights[phase * taps..(phase + 1) * taps]);
        if rest == 0.0 { at(phase) } else { at(phase) * (1.0 - rest) + at(phase + 1) * rest }
    }
}

/// In eight sums, which the compiler keeps in one register.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    for (left, right) in left.iter().zip(right) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += left * right;
        }
    }
    sums.iter().sum::<f32>() + left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum::<f32>()
}

/// The modified Bessel function of the first kind, order 0, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term, quarter) = (1.0, 1.0, x * x / 4.0);
    for step in 1..64 {
        term *= quarter / f64::from(step * step);
        sum += term;
        if term < sum * 1e-12 {
            break;
        }
    }
    sum
}
