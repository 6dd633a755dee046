//! `[image]`: how pictures become tensors.

use serde::{Deserialize, Serialize};

use super::{ManifestError, refuse};

/// How pictures become tensors: brought to a square of `size` as `fit` says, then `(pixel · scale − mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// Side of the square the graph takes, in pixels.
    pub size: u32,
    /// Length of the shorter side before the crop, in pixels; `size` where nothing is cropped.
    pub resize: u32,
    /// How a picture becomes a square.
    #[serde(default)]
    pub fit: Fit,
    /// Resampling filter.
    pub filter: Filter,
    /// Factor on the 0…255 pixel values.
    pub scale: f32,
    /// Mean of each channel, after `scale`, in `channel_order`.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, after `scale`, in `channel_order`.
    pub std: [f32; 3],
    /// Order of the channels.
    pub channel_order: ChannelOrder,
    /// Order of the axes.
    pub layout: Layout,
}

/// How a picture becomes a square.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// The shorter side is resized to `resize`, and the centre cropped.
    #[default]
    Crop,
    /// Both sides are resized to `size`, whatever becomes of the shape.
    Stretch,
}

/// Antialiased resampling filters, as Pillow defines them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear,
    /// Cubic convolution with a = −0.5, support 2.
    Bicubic,
    /// Windowed sinc, support 3.
    Lanczos,
}

/// Order of the colour channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
    /// Blue first, as Caffe's models want it.
    Bgr,
}

/// Order of a picture's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Planes: `[3, height, width]`.
    Nchw,
    /// Interleaved: `[height, width, 3]`.
    Nhwc,
}

impl ImageSpec {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if self.size == 0 || self.size > 4096 {
            return refuse("image.size", "must be between 1 and 4096");
        }
        if self.resize < self.size || self.resize > 8192 {
            return refuse("image.resize", "must be at least `image.size` and at most 8192");
        }
        if self.std.iter().any(|&std| std == 0.0 || !std.is_finite()) {
            return refuse("image.std", "must be finite and not zero");
        }
        Ok(())
    }
}
