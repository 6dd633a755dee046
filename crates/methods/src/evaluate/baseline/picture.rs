//! Pictures without transfer: colours, gradients and a tiny copy.

use ndarray::{Array2, Array3, ArrayView3, Axis};

use super::hog::hog;
use super::logistic::Logistic;
use super::sparse::SparseRows;
use crate::data::Targets;

/// What the report calls this learner.
pub const NAME: &str = "logistic regression on a colour histogram, HOG and 8×8 pixels";

/// Sides of the copies that the gradients and the pixels are of.
const GRADIENTS_OF: usize = 128;
const PIXELS_OF: usize = 8;

/// Levels of each channel in the colour histogram.
const LEVELS: usize = 4;

/// Inverse strength of the shrinkage.
const C: f32 = 10.0;

/// Why pixels are not a picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are not {width}×{height} pixels of three")]
pub struct PictureError {
    /// Bytes given.
    pub bytes: usize,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

/// The plain features of one picture: three parts of equal weight, together of length 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor(Vec<f32>);

impl Descriptor {
    /// Describes a picture of `width × height` pixels: RGB, 8 bits, row by row.
    ///
    /// # Errors
    ///
    /// [`PictureError`] when the bytes do not fit the size, or there is no pixel.
    pub fn of(rgb: &[u8], width: usize, height: usize) -> Result<Self, PictureError> {
        let pixels = ArrayView3::from_shape((height, width, 3), rgb)
            .ok()
            .filter(|pixels| !pixels.is_empty())
            .ok_or(PictureError { bytes: rgb.len(), width, height })?;
        let copy = shrunk(pixels, GRADIENTS_OF);
        // Luma as in Rec. ITU-R BT.709, the weights scikit-image takes.
        let grey = copy.map_axis(Axis(2), |rgb| 0.2125 * rgb[0] + 0.7154 * rgb[1] + 0.0721 * rgb[2]);
        let tiny = shrunk(pixels, PIXELS_OF);
        let mean = tiny.mean().unwrap_or(0.0);
        let parts =
            [colours(pixels), hog(grey.view()), tiny.iter().map(|value| value - mean).collect::<Vec<f64>>()];
        let weight = 1.0 / (parts.len() as f64).sqrt();
        let scaled = parts.iter().flat_map(|part| {
            let length = part.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            part.iter().map(move |value| (value / length * weight) as f32)
        });
        Ok(Self(scaled.collect()))
    }
}

/// Training and held-out pictures, described once.
#[derive(Debug, Clone)]
pub struct Pictures {
    train: Vec<Descriptor>,
    held_out: Vec<Descriptor>,
}

impl Pictures {
    /// Puts descriptors together.
    pub fn new(train: Vec<Descriptor>, held_out: Vec<Descriptor>) -> Self {
        Self { train, held_out }
    }

    /// Learns from the training pictures of `rows` (`targets` are those of all training pictures) and scores the
    /// held-out pictures: `[held-out, classes]`.
    pub fn scores(&self, rows: &[usize], targets: &Targets, classes: usize, seed: u64) -> Array2<f32> {
        let rows: Vec<usize> = rows.iter().copied().filter(|row| *row < self.train.len()).collect();
        let features = sparse(rows.iter().filter_map(|row| self.train.get(*row)));
        let model = Logistic::fit(&features, &targets.select(&rows), classes, C, seed);
        model.probabilities(&sparse(self.held_out.iter()))
    }
}

fn sparse<'a>(descriptors: impl Iterator<Item = &'a Descriptor> + Clone) -> SparseRows {
    let width = descriptors.clone().next().map_or(0, |first| first.0.len());
    let mut rows = SparseRows::new(width);
    for descriptor in descriptors {
        rows.push((0u32..).zip(descriptor.0.iter().copied()));
    }
    rows
}

/// Square root of the share of pixels in each of 4 × 4 × 4 colours: the root keeps one plain background from
/// outweighing all else.
fn colours(pixels: ArrayView3<'_, u8>) -> Vec<f64> {
    let mut counts = vec![0usize; LEVELS.pow(3)];
    let mut all = 0;
    for pixel in pixels.rows() {
        let place = pixel.iter().fold(0, |place, value| place * LEVELS + usize::from(*value) * LEVELS / 256);
        if let Some(count) = counts.get_mut(place) {
            *count += 1;
            all += 1;
        }
    }
    counts.iter().map(|count| (*count as f64 / f64::from(all.max(1))).sqrt()).collect()
}

/// The picture in `side × side` pixels of 0 to 1, each the mean of the area it covers.
fn shrunk(pixels: ArrayView3<'_, u8>, side: usize) -> Array3<f64> {
    let (height, width, channels) = pixels.dim();
    let (down, across) = (shares(height, side), shares(width, side));
    let mut lines = Array3::<f64>::zeros((height, side, channels));
    for (column, parts) in across.iter().enumerate() {
        for &(from, share) in parts {
            lines
                .index_axis_mut(Axis(1), column)
                .zip_mut_with(&pixels.index_axis(Axis(1), from), |sum, v| {
                    *sum += share * f64::from(*v) / 255.0
                });
        }
    }
    let mut copy = Array3::zeros((side, side, channels));
    for (row, parts) in down.iter().enumerate() {
        for &(from, share) in parts {
            copy.index_axis_mut(Axis(0), row).scaled_add(share, &lines.index_axis(Axis(0), from));
        }
    }
    copy
}

/// For each of `to` equal parts of a line of `from` pixels: the pixels it covers, and their shares of it.
fn shares(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    let step = from as f64 / to as f64;
    let covered = |part: usize| {
        let (start, end) = (part as f64 * step, (part + 1) as f64 * step);
        let last = (end.ceil() as usize).min(from);
        (start as usize..last)
            .map(|pixel| (pixel, (end.min(pixel as f64 + 1.0) - start.max(pixel as f64)) / step))
            .filter(|(_, share)| *share > 0.0)
            .collect()
    };
    (0..to).map(covered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_copy_keeps_the_mean_and_a_larger_one_repeats_pixels() {
        let pixels = ndarray::array![[[0u8, 0, 0], [255, 255, 255], [255, 255, 255]]];
        let one = shrunk(pixels.view(), 1);
        assert!((one[[0, 0, 0]] - 2.0 / 3.0).abs() < 1e-12);
        let more = shrunk(pixels.view(), 6);
        assert!(more[[5, 1, 2]].abs() < 1e-12 && (more[[0, 2, 0]] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        let error = PictureError { bytes: 5, width: 2, height: 1 };
        assert_eq!(Descriptor::of(&[0; 5], 2, 1), Err(error));
        assert!(Descriptor::of(&[], 0, 0).is_err());
        assert!(Descriptor::of(&[9; 6], 2, 1).is_ok());
    }
}
