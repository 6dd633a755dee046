//! Sounds without transfer: means and deviations of mel-frequency cepstral coefficients.

use std::f64::consts::PI;

use ndarray::Array2;

use super::logistic::Logistic;
use super::sparse::SparseRows;
use crate::data::Targets;

/// Coefficients of a frame.
const COEFFICIENTS: usize = 13;

/// Inverse strength of the shrinkage.
const C: f32 = 10.0;

/// The plain features of one sound: of each coefficient and of its change from frame to frame, mean and deviation.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor(Vec<f32>);

impl Descriptor {
    /// Describes a sound by its frames, `[frames, bands]` of logarithms in row order.
    #[must_use]
    pub fn of(frames: &[f32], bands: usize) -> Self {
        let cepstra: Vec<Vec<f64>> = frames.chunks_exact(bands.max(1)).map(cepstrum).collect();
        let changes: Vec<Vec<f64>> = cepstra
            .iter()
            .zip(cepstra.iter().skip(1))
            .map(|(one, next)| next.iter().zip(one).map(|(next, one)| next - one).collect())
            .collect();
        let told = [statistics(&cepstra), statistics(&changes)].concat();
        Self(told.into_iter().map(|value| value as f32).collect())
    }
}

/// The first coefficients of a frame's cosine transform.
fn cepstrum(frame: &[f32]) -> Vec<f64> {
    let scale = (2.0 / frame.len() as f64).sqrt();
    let coefficient = |order: usize| {
        let cosine = |band: usize| (PI * order as f64 * (band as f64 + 0.5) / frame.len() as f64).cos();
        frame.iter().enumerate().map(|(band, value)| f64::from(*value) * cosine(band)).sum::<f64>() * scale
    };
    (0..COEFFICIENTS).map(coefficient).collect()
}

/// Mean and standard deviation of each coefficient; zeros without a frame.
fn statistics(rows: &[Vec<f64>]) -> Vec<f64> {
    let count = rows.len().max(1) as f64;
    let of = |order: usize| rows.iter().filter_map(move |row| row.get(order).copied());
    (0..COEFFICIENTS)
        .flat_map(|order| {
            let mean = of(order).sum::<f64>() / count;
            let spread = of(order).map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            [mean, spread.sqrt()]
        })
        .collect()
}

/// Training and held-out sounds, described once.
#[derive(Debug, Clone)]
pub struct Sounds {
    train: Vec<Descriptor>,
    held_out: Vec<Descriptor>,
}

impl Sounds {
    /// Puts descriptors together.
    #[must_use]
    pub fn new(train: Vec<Descriptor>, held_out: Vec<Descriptor>) -> Self {
        Self { train, held_out }
    }

    /// Learns from the training sounds of `rows` (`targets` are those of all training sounds) and scores the held-out
    /// sounds: `[held-out, classes]`. Features are brought to equal spread by the sounds that are learned from.
    pub fn scores(&self, rows: &[usize], targets: &Targets, classes: usize, seed: u64) -> Array2<f32> {
        let rows: Vec<usize> = rows.iter().copied().filter(|row| *row < self.train.len()).collect();
        let learned: Vec<&Descriptor> = rows.iter().filter_map(|row| self.train.get(*row)).collect();
        let scale = Scale::of(&learned);
        let model =
            Logistic::fit(&scale.apply(learned.iter().copied()), &targets.select(&rows), classes, C, seed);
        model.probabilities(&scale.apply(self.held_out.iter()))
    }
}

/// What brings features to mean 0 and equal spread, all together to about length 1.
struct Scale(Vec<(f32, f32)>);

impl Scale {
    fn of(sounds: &[&Descriptor]) -> Self {
        let width = sounds.first().map_or(0, |first| first.0.len());
        let count = sounds.len().max(1) as f32;
        let column = |at: usize| sounds.iter().filter_map(move |sound| sound.0.get(at).copied());
        Self(
            (0..width)
                .map(|at| {
                    let mean = column(at).sum::<f32>() / count;
                    let spread = (column(at).map(|value| (value - mean).powi(2)).sum::<f32>() / count).sqrt();
                    (mean, 1.0 / (spread.max(1e-6) * (width as f32).sqrt()))
                })
                .collect(),
        )
    }

    fn apply<'a>(&self, sounds: impl Iterator<Item = &'a Descriptor>) -> SparseRows {
        let mut rows = SparseRows::new(self.0.len());
        for sound in sounds {
            let scaled = sound.0.iter().zip(&self.0).map(|(value, (mean, scale))| (value - mean) * scale);
            rows.push((0u32..).zip(scaled));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_frame_has_its_level_in_the_first_coefficient_alone() {
        let Descriptor(told) = Descriptor::of(&[2.0; 3 * 26], 26);
        assert_eq!(told.len(), 4 * COEFFICIENTS);
        assert!((told[0] - 2.0 * (2.0_f32 * 26.0).sqrt()).abs() < 1e-4, "{}", told[0]);
        assert!(told.iter().skip(1).all(|value| value.abs() < 1e-4), "{told:?}");
    }

    #[test]
    fn a_sound_of_one_frame_or_none_is_described() {
        assert!(Descriptor::of(&[1.0; 26], 26).0.iter().all(|value| value.is_finite()));
        assert!(Descriptor::of(&[], 26).0.iter().all(|value| value.abs() < f32::EPSILON));
    }
}
