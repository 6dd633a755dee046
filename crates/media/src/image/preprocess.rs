//! 8-bit RGB → the float tensor a backbone takes: resize, centre crop, normalise.

use headstart_types::manifest::{ChannelOrder, Fit, ImageSpec, Layout};

use super::RgbImage8;
use super::resample::resample;
use super::taps::Span;

/// The tensor of one picture: `[3, size, size]` or `[size, size, 3]`, as `spec.layout` says.
///
/// The shorter side becomes `spec.resize`, the longer `floor(resize · long / short)`; the centre `size × size` is cut
/// out, and what lies outside of a smaller picture is black; with `Fit::Stretch` both sides become `size`. Resizing equals Pillow's byte for byte, the rounding of
/// sizes and offsets torchvision's `Resize` and `CenterCrop`. Then x = (byte · scale − mean) / std, channel by channel.
///
/// Beside the result this holds a few rows and the filter's weights, however large the picture is.
#[must_use]
pub fn preprocess(image: &RgbImage8, spec: &ImageSpec) -> Vec<f32> {
    let size = spec.size as usize;
    let (columns, rows) = (Axis::new(image.width(), image, spec), Axis::new(image.height(), image, spec));
    let values = Values::new(spec);
    let mut tensor = vec![0.0; 3 * size * size];
    if columns.span.count < size || rows.span.count < size {
        values.fill_black(&mut tensor, size);
    }
    resample(image, spec.filter, &columns.span, &rows.span, |row, pixels| {
        values.write(pixels, &mut tensor, (rows.pad + row, columns.pad), size);
    });
    tensor
}

/// Where the crop lies along one axis.
struct Axis {
    span: Span,
    /// Black positions before the picture.
    pad: usize,
}

impl Axis {
    fn new(length: u32, image: &RgbImage8, spec: &ImageSpec) -> Self {
        let short = u64::from(image.width().min(image.height()));
        // Sides have at most 26 bits (the pixel limit) and `resize` 13 or so: no overflow.
        let output = match spec.fit {
            Fit::Crop => u64::from(length) * u64::from(spec.resize) / short,
            Fit::Stretch => u64::from(spec.size),
        };
        let size = u64::from(spec.size);
        let count = output.min(size);
        let span =
            Span { input: length, output, first: halved_to_even(output - count), count: count as usize };
        Self { span, pad: ((size - count) / 2) as usize }
    }
}

/// Half of `difference`; halves go to the even neighbour, as Python's `round` sends them.
fn halved_to_even(difference: u64) -> u64 {
    let half = difference / 2;
    half + (difference & half & 1)
}

/// The value of each byte in each channel, and where it goes.
struct Values {
    /// By output channel and byte.
    table: [[f32; 256]; 3],
    /// Colour of RGB that each output channel takes.
    colours: [usize; 3],
    layout: Layout,
}

impl Values {
    fn new(spec: &ImageSpec) -> Self {
        let table = std::array::from_fn(|channel| {
            std::array::from_fn(|byte| (byte as f32 * spec.scale - spec.mean[channel]) / spec.std[channel])
        });
        let colours = match spec.channel_order {
            ChannelOrder::Rgb => [0, 1, 2],
            ChannelOrder::Bgr => [2, 1, 0],
        };
        Self { table, colours, layout: spec.layout }
    }

    fn fill_black(&self, tensor: &mut [f32], size: usize) {
        let black = [self.table[0][0], self.table[1][0], self.table[2][0]];
        match self.layout {
            Layout::Nchw => {
                tensor.chunks_exact_mut(size * size).zip(black).for_each(|(plane, value)| plane.fill(value))
            }
            Layout::Nhwc => tensor.as_chunks_mut::<3>().0.fill(black),
        }
    }

    /// Writes one row's pixels from (`row`, `column`) on.
    fn write(&self, pixels: &[u8], tensor: &mut [f32], (row, column): (usize, usize), size: usize) {
        let at = row * size + column;
        let pixels = pixels.as_chunks::<3>().0;
        match self.layout {
            Layout::Nchw => {
                for (channel, plane) in tensor.chunks_exact_mut(size * size).enumerate() {
                    let (table, colour) = (&self.table[channel], self.colours[channel]);
                    for (value, pixel) in plane[at..].iter_mut().zip(pixels) {
                        *value = table[usize::from(pixel[colour])];
                    }
                }
            }
            Layout::Nhwc => {
                for (values, pixel) in tensor[at * 3..].as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
                    *values = std::array::from_fn(|channel| {
                        self.table[channel][usize::from(pixel[self.colours[channel]])]
                    });
                }
            }
        }
    }
}
