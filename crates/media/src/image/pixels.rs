//! 8-bit RGB pictures, and how samples of other kinds become them.

use std::borrow::Cow;

use super::rows::Rows;

/// A picture in 8-bit RGB. What it shows is upright, whichever way its pixels are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage8 {
    pub(super) stored_width: u32,
    pub(super) stored_height: u32,
    /// As stored: row by row, three bytes a pixel, no padding.
    pub(super) pixels: Vec<u8>,
    /// The EXIF orientation of what is stored, 1…8.
    pub(super) orientation: u8,
}

impl RgbImage8 {
    /// A picture from upright `[height, width, 3]` bytes; `None` if it is empty or the length does not fit.
    #[must_use]
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let bytes = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        let image = Self { stored_width: width, stored_height: height, pixels, orientation: 1 };
        (bytes > 0 && image.pixels.len() == bytes).then_some(image)
    }

    /// Width of the upright picture in pixels; at least 1.
    #[must_use]
    pub fn width(&self) -> u32 {
        if self.orientation > 4 { self.stored_height } else { self.stored_width }
    }

    /// Height of the upright picture in pixels; at least 1.
    #[must_use]
    pub fn height(&self) -> u32 {
        if self.orientation > 4 { self.stored_width } else { self.stored_height }
    }

    /// The upright bytes, `[height, width, 3]`; a copy where the picture is stored otherwise.
    #[must_use]
    pub fn pixels(&self) -> Cow<'_, [u8]> {
        if self.orientation == 1 {
            return Cow::Borrowed(&self.pixels);
        }
        let mut rows = Rows::new(self);
        let row = self.width() as usize * 3;
        let mut pixels = Vec::with_capacity(self.pixels.len());
        (0..self.height() as usize).for_each(|y| pixels.extend_from_slice(&rows.from(y)[..row]));
        Cow::Owned(pixels)
    }
}

/// Interleaved samples → RGB: one or two channels are grey, of more the first three are kept. Samples of two bytes
/// (native order) keep the high one. `None` for other sample sizes.
pub(super) fn to_rgb(mut samples: Vec<u8>, channels: usize, sample_bytes: usize) -> Option<Vec<u8>> {
    let high = match sample_bytes {
        1 => 0,
        2 => usize::from(cfg!(target_endian = "little")),
        _ => return None,
    };
    let step = channels * sample_bytes;
    match channels {
        1 | 2 => Some(rgb_of(samples.len() / step, |pixel| [samples[pixel * step + high]; 3])),
        3 if sample_bytes == 1 => Some(samples),
        3.. => {
            // In place: a pixel's RGB never lies behind the samples it is made of.
            let count = samples.len() / step;
            for pixel in 0..count {
                for channel in 0..3 {
                    samples[pixel * 3 + channel] = samples[pixel * step + channel * sample_bytes + high];
                }
            }
            samples.truncate(count * 3);
            samples.shrink_to_fit();
            Some(samples)
        }
        0 => None,
    }
}

/// `count` pixels, each made from its index.
pub(super) fn rgb_of(count: usize, pixel: impl Fn(usize) -> [u8; 3]) -> Vec<u8> {
    let mut pixels = vec![0; count * 3];
    for (index, rgb) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        *rgb = pixel(index);
    }
    pixels
}

/// Ink → light, by Pillow's rounding: 255 − K, less its share of C, M and Y.
pub(super) fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let light = u32::from(255 - k);
    [c, m, y].map(|ink| {
        let product = u32::from(ink) * light + 128;
        // Division by 255, rounded; never more than `light`.
        (light - ((product + (product >> 8)) >> 8)) as u8
    })
}

/// Luma and colour differences of full range → RGB. Source: JFIF 1.02.
pub(super) fn ycbcr_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|v| v.round() as u8)
}
