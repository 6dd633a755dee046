//! Mel bands of a short-time spectrum, as librosa and Whisper compute them.

use std::f32::consts::TAU;
use std::sync::Arc;

use headstart_types::manifest::{Edges, LogSpec, MelNorm, MelScale, MelSpec};
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// A front end with its window, filters and transform at hand.
pub struct MelFrontEnd {
    spec: MelSpec,
    /// As long as a transform; zero outside of the window.
    window: Vec<f32>,
    bands: Vec<Band>,
    transform: Arc<dyn RealToComplex<f32>>,
}

/// A triangle over the spectrum: its first bin, and the weights from there on.
struct Band {
    first: usize,
    weights: Vec<f32>,
}

impl MelFrontEnd {
    /// The front end for sounds of `rate` samples a second.
    #[must_use]
    pub fn new(spec: &MelSpec, rate: u32) -> Self {
        let length = spec.window.unwrap_or(spec.n_fft);
        let before = (spec.n_fft - length) / 2;
        let hann = |at: usize| 0.5 - 0.5 * (TAU * at as f32 / length as f32).cos();
        let mut window = vec![0.0; spec.n_fft];
        window[before..before + length].iter_mut().enumerate().for_each(|(at, value)| *value = hann(at));
        Self {
            spec: spec.clone(),
            window,
            bands: bands(spec, rate),
            transform: RealFftPlanner::new().plan_fft_forward(spec.n_fft),
        }
    }

    /// Samples → `[frames, bands]` in row order, [`MelSpec::frames`] of them. Sounds too short for a frame, or to be
    /// mirrored, get silence behind them first.
    #[must_use]
    pub fn frames(&self, samples: &[f32]) -> Vec<f32> {
        let spec = &self.spec;
        let padded = self.padded(samples);
        let count = 1 + (padded.len() - spec.n_fft) / spec.hop;
        let count = if spec.log == LogSpec::Whisper { count - 1 } else { count };
        let mut out = Vec::with_capacity(count * spec.bands);
        let mut frame = self.transform.make_input_vec();
        let mut spectrum: Vec<Complex<f32>> = self.transform.make_output_vec();
        let mut scratch = self.transform.make_scratch_vec();
        let mut energies = vec![0.0; spectrum.len()];
        for index in 0..count {
            let samples = &padded[index * spec.hop..][..spec.n_fft];
            for ((value, sample), weight) in frame.iter_mut().zip(samples).zip(&self.window) {
                *value = sample * weight;
            }
            // It fails for buffers of other lengths than its own only.
            if self.transform.process_with_scratch(&mut frame, &mut spectrum, &mut scratch).is_err() {
                spectrum.fill(Complex::default());
            }
            for (energy, bin) in energies.iter_mut().zip(&spectrum) {
                *energy = if spec.power == 1 { bin.norm() } else { bin.norm_sqr() };
            }
            out.extend(self.bands.iter().map(|band| {
                band.weights
                    .iter()
                    .zip(&energies[band.first..])
                    .map(|(weight, energy)| weight * energy)
                    .sum::<f32>()
            }));
        }
        scale(spec, &mut out);
        out
    }

    fn padded(&self, samples: &[f32]) -> Vec<f32> {
        let half = self.spec.n_fft / 2;
        let least = match self.spec.edges {
            Edges::None => self.spec.n_fft,
            Edges::Reflect => half + 1,
            Edges::Zero => 0,
        };
        let least = if self.spec.log == LogSpec::Whisper { least.max(self.spec.hop) } else { least };
        let mut sound = samples.to_vec();
        sound.resize(sound.len().max(least), 0.0);
        match self.spec.edges {
            Edges::None => sound,
            Edges::Zero => [vec![0.0; half], sound, vec![0.0; half]].concat(),
            Edges::Reflect => {
                let last = sound.len() - 1;
                let before = (1..=half).rev().map(|at| sound[at]);
                let behind = (1..=half).map(|at| sound[last - at]);
                before.chain(sound.iter().copied()).chain(behind).collect()
            }
        }
    }
}

/// Energies → values.
fn scale(spec: &MelSpec, values: &mut [f32]) {
    match spec.log {
        LogSpec::None => {}
        LogSpec::Natural { floor, offset } => {
            values.iter_mut().for_each(|value| *value = (value.max(floor) + offset).ln());
        }
        LogSpec::Decibel { floor, range } => {
            values.iter_mut().for_each(|value| *value = 10.0 * value.max(floor).log10());
            if let Some(range) = range {
                keep_within(values, range);
            }
        }
        LogSpec::Whisper => {
            values.iter_mut().for_each(|value| *value = value.max(1e-10).log10());
            keep_within(values, 8.0);
            values.iter_mut().for_each(|value| *value = (*value + 4.0) / 4.0);
        }
    }
    values.iter_mut().for_each(|value| *value = (*value - spec.mean) / spec.std);
}

/// Raises what lies more than `range` below the largest value.
fn keep_within(values: &mut [f32], range: f32) {
    let least = values.iter().copied().fold(f32::NEG_INFINITY, f32::max) - range;
    values.iter_mut().for_each(|value| *value = value.max(least));
}

/// Triangles whose corners are spread evenly on the mel scale, over the spectrum's bins.
fn bands(spec: &MelSpec, rate: u32) -> Vec<Band> {
    let fmax = f64::from(spec.fmax.unwrap_or(rate as f32 / 2.0));
    let (low, high) = (to_mel(f64::from(spec.fmin), spec.scale), to_mel(fmax, spec.scale));
    let corner =
        |index: usize| to_hertz(low + (high - low) * index as f64 / (spec.bands + 1) as f64, spec.scale);
    let hertz_per_bin = f64::from(rate) / spec.n_fft as f64;
    (0..spec.bands)
        .map(|band| {
            let (left, middle, right) = (corner(band), corner(band + 1), corner(band + 2));
            let norm = match spec.norm {
                MelNorm::Slaney => 2.0 / (right - left),
                MelNorm::None => 1.0,
            };
            let weight = |bin: usize| {
                let hertz = bin as f64 * hertz_per_bin;
                let rising = (hertz - left) / (middle - left);
                let falling = (right - hertz) / (right - middle);
                (rising.min(falling).max(0.0) * norm) as f32
            };
            let first = ((left / hertz_per_bin).floor() as usize).min(spec.n_fft / 2);
            let last = ((right / hertz_per_bin).ceil() as usize).min(spec.n_fft / 2);
            Band { first, weights: (first..=last).map(weight).collect() }
        })
        .collect()
}

/// Slaney's scale: 200/3 Hz a mel up to 1 kHz, then 27 mels for a factor of 6.4.
const LINEAR_HERTZ: f64 = 200.0 / 3.0;
const BREAK_HERTZ: f64 = 1_000.0;

fn log_step() -> f64 {
    6.4_f64.ln() / 27.0
}

fn to_mel(hertz: f64, scale: MelScale) -> f64 {
    match scale {
        MelScale::Htk => 2_595.0 * (1.0 + hertz / 700.0).log10(),
        MelScale::Slaney if hertz < BREAK_HERTZ => hertz / LINEAR_HERTZ,
        MelScale::Slaney => BREAK_HERTZ / LINEAR_HERTZ + (hertz / BREAK_HERTZ).ln() / log_step(),
    }
}

fn to_hertz(mel: f64, scale: MelScale) -> f64 {
    let break_mel = BREAK_HERTZ / LINEAR_HERTZ;
    match scale {
        MelScale::Htk => 700.0 * (10_f64.powf(mel / 2_595.0) - 1.0),
        MelScale::Slaney if mel < break_mel => mel * LINEAR_HERTZ,
        MelScale::Slaney => BREAK_HERTZ * (log_step() * (mel - break_mel)).exp(),
    }
}
