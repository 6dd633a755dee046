//! The first page of a TIFF: every sample layout that Pillow opens as grey, palette, RGB or CMYK of 1 to 16 bits.

use std::borrow::Cow;
use std::io::Cursor;

use ::tiff::decoder::{Decoder, DecodingResult, Limits as DecoderLimits};
use ::tiff::tags::Tag;
use ::tiff::{ColorType, TiffError};

use super::pixels::{cmyk_to_rgb, rgb_of, ycbcr_to_rgb};
use super::{Format, Limits, RgbImage8, directory};
use crate::MediaError;

const BLACK_IS_ZERO: u8 = 1;
const PALETTE: u32 = 3;
/// What the decoder may read beside samples: tags such as the palette.
const TAG_BYTES: usize = 1 << 20;

/// Width and height of the first page.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), MediaError> {
    let side = |tag| directory::entry(bytes, tag).map(|entry| entry.value);
    match (side(directory::IMAGE_WIDTH), side(directory::IMAGE_HEIGHT)) {
        (Some(width), Some(height)) => Ok((width, height)),
        // A BigTIFF: its numbers have 64 bits.
        _ => Decoder::new(Cursor::new(bytes)).and_then(|mut decoder| decoder.dimensions()).map_err(refused),
    }
}

/// Decodes the first page.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage8, MediaError> {
    let (bytes, is_palette) = without_palette(bytes);
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(refused)?;
    let (width, height) = decoder.dimensions().map_err(refused)?;
    let colour = Colour::of(decoder.colortype().map_err(refused)?, is_palette)?;
    let pixels = u64::from(width) * u64::from(height);
    let samples = pixels * colour.channels as u64 * u64::from(colour.depth.div_ceil(8));
    limits.allow_bytes(3 * pixels + samples)?;
    let mut allowed = DecoderLimits::default();
    allowed.decoding_buffer_size = usize::try_from(samples).unwrap_or(usize::MAX).saturating_add(TAG_BYTES);
    allowed.intermediate_buffer_size = usize::try_from(limits.decode_bytes()).unwrap_or(usize::MAX);
    allowed.ifd_value_size = TAG_BYTES;
    decoder = decoder.with_limits(allowed);

    let orientation = decoder.find_tag_unsigned::<u16>(Tag::Orientation).ok().flatten();
    let table =
        if is_palette { decoder.get_tag_u16_vec(Tag::ColorMap).map_err(refused)? } else { Vec::new() };
    let mut read = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut read).map_err(refused)?;
    let page = Page { width: width as usize, height: height as usize, planar: layout.planes > 1, table };
    let pixels = if let DecodingResult::U8(samples) = read {
        colour.eight_bits(samples, &page)
    } else if let DecodingResult::U16(samples) = read {
        colour.to_rgb(&samples, |sample| (sample >> 8) as u8, &page)
    } else {
        return Err(Format::Tiff.unsupported("signed, wide or floating-point samples"));
    };
    let image = pixels.and_then(|pixels| RgbImage8::new(width, height, pixels));
    let mut image = image.ok_or_else(|| Format::Tiff.undecodable("it has fewer samples than pixels"))?;
    image.orientation = orientation.filter(|o| (1..=8).contains(o)).map_or(1, |o| o as u8);
    Ok(image)
}

/// The decoder refuses palettes, but reads their indices when told that they are greys.
fn without_palette(bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
    match directory::entry(bytes, directory::PHOTOMETRIC_INTERPRETATION) {
        Some(directory::Entry { low_byte, value: PALETTE }) => {
            let mut bytes = bytes.to_vec();
            bytes[low_byte] = BLACK_IS_ZERO;
            (Cow::Owned(bytes), true)
        }
        Some(_) | None => (Cow::Borrowed(bytes), false),
    }
}

fn refused(error: TiffError) -> MediaError {
    if let TiffError::UnsupportedError(variant) = &error {
        return Format::Tiff.unsupported(variant);
    }
    Format::Tiff.undecodable(error)
}

/// How samples lie on a page, and its palette: all reds, then all greens, then all blues, of 16 bits.
struct Page {
    width: usize,
    height: usize,
    planar: bool,
    table: Vec<u16>,
}

#[derive(Clone, Copy)]
enum Model {
    Grey,
    Palette,
    Rgb,
    Cmyk,
    YCbCr,
}

/// What the samples of one pixel are.
struct Colour {
    model: Model,
    channels: usize,
    /// Bits a sample.
    depth: u8,
}

impl Colour {
    fn of(colour: ColorType, is_palette: bool) -> Result<Self, MediaError> {
        let grey = if is_palette { Model::Palette } else { Model::Grey };
        let (model, channels, depth) = if let ColorType::Gray(depth) = colour {
            (grey, 1, depth)
        } else if let ColorType::Multiband { bit_depth, num_samples } = colour {
            (grey, usize::from(num_samples), bit_depth)
        } else if let ColorType::GrayA(depth) = colour {
            (grey, 2, depth)
        } else if let ColorType::RGB(depth) = colour {
            (Model::Rgb, 3, depth)
        } else if let ColorType::RGBA(depth) = colour {
            (Model::Rgb, 4, depth)
        } else if let ColorType::CMYK(depth) = colour {
            (Model::Cmyk, 4, depth)
        } else if let ColorType::CMYKA(depth) = colour {
            (Model::Cmyk, 5, depth)
        } else if let ColorType::YCbCr(depth) = colour {
            (Model::YCbCr, 3, depth)
        } else {
            return Err(Format::Tiff.unsupported(format_args!("{colour:?}")));
        };
        let packed = channels == 1 && matches!(depth, 1 | 2 | 4);
        let whole = depth == 8 || depth == 16 && !matches!(model, Model::Palette | Model::YCbCr);
        if channels == 0 || !(packed || whole) {
            return Err(Format::Tiff.unsupported(format_args!("{colour:?}")));
        }
        Ok(Self { model, channels, depth })
    }

    /// RGB from samples of up to eight bits; `None` if there are too few.
    fn eight_bits(&self, samples: Vec<u8>, page: &Page) -> Option<Vec<u8>> {
        if self.depth == 8 {
            return self.to_rgb(&samples, |sample| sample, page);
        }
        let samples = unpack(&samples, page, self.depth)?;
        let step = if matches!(self.model, Model::Palette) { 1 } else { 255 / ((1 << self.depth) - 1) };
        self.to_rgb(&samples, |sample| sample * step, page)
    }

    /// RGB from one sample an element; `None` if there are too few.
    fn to_rgb<S: Copy>(&self, samples: &[S], byte: impl Fn(S) -> u8, page: &Page) -> Option<Vec<u8>> {
        let count = page.width * page.height;
        if samples.len() < count * self.channels {
            return None;
        }
        // Where a pixel's samples lie: side by side, or each in its own plane.
        let (step, stride) = if page.planar { (1, count) } else { (self.channels, 1) };
        let sample = |pixel: usize, channel: usize| byte(samples[pixel * step + channel * stride]);
        let colours = page.table.len() / 3;
        let entry = |index: u8, channel: usize| {
            page.table.get(channel * colours + usize::from(index)).map_or(0, |colour| (colour >> 8) as u8)
        };
        Some(match self.model {
            Model::Grey => rgb_of(count, |i| [sample(i, 0); 3]),
            Model::Palette => rgb_of(count, |i| [0, 1, 2].map(|c| entry(sample(i, 0), c))),
            Model::Rgb => rgb_of(count, |i| [0, 1, 2].map(|c| sample(i, c))),
            Model::Cmyk => rgb_of(count, |i| cmyk_to_rgb([0, 1, 2, 3].map(|c| sample(i, c)))),
            Model::YCbCr => rgb_of(count, |i| ycbcr_to_rgb([0, 1, 2].map(|c| sample(i, c)))),
        })
    }
}

/// Samples of 1, 2 or 4 bits, each row padded to whole bytes, one a byte.
fn unpack(packed: &[u8], page: &Page, depth: u8) -> Option<Vec<u8>> {
    let per_byte = usize::from(8 / depth);
    let row_bytes = page.width.div_ceil(per_byte);
    let mut samples = Vec::with_capacity(page.width * page.height);
    for row in packed.get(..row_bytes * page.height)?.chunks_exact(row_bytes) {
        samples.extend((0..page.width).map(|x| {
            let shift = 8 - depth * (x % per_byte + 1) as u8;
            row[x / per_byte] >> shift & ((1 << depth) - 1)
        }));
    }
    Some(samples)
}
