//! The weights of Pillow's resampling filters, in its fixed point.
//!
//! For each output position: the input positions under the filter, and their weights as integers that sum to about
//! 2²². Downsizing widens the filter by the scale, which is what antialiases. Equal weights make equal bytes, so
//! every rounding here is Pillow's. Source: the algorithm as Pillow documents it under "Filters", checked against its results.

use std::f64::consts::PI;

use headstart_types::manifest::Filter;

/// Bits behind the point: an 8-bit sample times a weight, summed, with room for overshoot, fills 32 bits.
pub(super) const PRECISION_BITS: u32 = 22;
/// One half, for rounding a sum.
pub(super) const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The part of a resized axis that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Length of the whole axis before resizing.
    pub(super) input: u32,
    /// Length of the whole axis after resizing; far beyond memory for extreme ratios, so only a part is computed.
    pub(super) output: u64,
    /// First position wanted.
    pub(super) first: u64,
    /// Number of positions wanted.
    pub(super) count: usize,
}

/// Weights for each wanted position of an axis.
pub(super) struct Taps {
    /// First input position and number of weights, a wanted position each.
    windows: Vec<(usize, usize)>,
    weights: Vec<i32>,
    /// Distance of two positions' weights.
    stride: usize,
}

impl Taps {
    pub(super) fn new(filter: Filter, span: &Span) -> Self {
        let scale = f64::from(span.input) / span.output as f64;
        let widening = scale.max(1.0);
        let reach = support(filter) * widening;
        let stride = reach.ceil() as usize * 2 + 1;
        let mut taps =
            Self { windows: Vec::with_capacity(span.count), weights: vec![0; stride * span.count], stride };
        let mut exact = Vec::with_capacity(stride);
        for (index, weights) in taps.weights.chunks_exact_mut(stride).enumerate() {
            let centre = ((span.first + index as u64) as f64 + 0.5) * scale;
            // Conversion cuts towards zero, and negative bounds to zero.
            let start = (centre - reach + 0.5) as usize;
            let end = ((centre + reach + 0.5) as usize).min(span.input as usize);
            exact.clear();
            exact.extend((start..end).map(|x| weight(filter, (x as f64 - centre + 0.5) * (1.0 / widening))));
            let sum: f64 = exact.iter().sum();
            for (fixed, exact) in weights.iter_mut().zip(&exact) {
                *fixed = to_fixed(if sum == 0.0 { *exact } else { exact / sum });
            }
            taps.windows.push((start, end - start));
        }
        taps
    }

    /// Number of wanted positions.
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }

    /// First input position and weights of each wanted position.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.windows
            .iter()
            .zip(self.weights.chunks_exact(self.stride))
            .map(|(&(start, count), weights)| (start, &weights[..count]))
    }

    /// Most weights that one position has.
    pub(super) fn longest(&self) -> usize {
        self.windows.iter().map(|&(_, count)| count).max().unwrap_or(0)
    }
}

fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (scaled + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
}

/// Half the filter's width when enlarging, in input pixels.
fn support(filter: Filter) -> f64 {
    match filter {
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
    }
}

fn weight(filter: Filter, distance: f64) -> f64 {
    const A: f64 = -0.5;
    let x = distance.abs();
    match filter {
        Filter::Bilinear if x < 1.0 => 1.0 - x,
        Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        Filter::Lanczos if x < 3.0 => sinc(distance) * sinc(distance / 3.0),
        Filter::Bilinear | Filter::Bicubic | Filter::Lanczos => 0.0,
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}
