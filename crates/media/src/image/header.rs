//! Reading a picture's header, and refusing what would cost too much, before any pixel is expanded.

use std::io::Cursor;

use ::image::ImageDecoder;
use ::image::codecs::{bmp::BmpDecoder, webp::WebPDecoder};

use super::{Format, decode::guarded, format, gif, jpeg, png, tiff};
use crate::MediaError;

/// Bytes that decoding may hold for each pixel allowed: three of the result, and eight for the dearest case, the
/// coefficients of a progressive JPEG in four colours.
const DECODE_BYTES_PER_PIXEL: u64 = 11;
/// What a decoder may hold whatever the picture's size: tables, windows, metadata.
pub(super) const DECODE_BYTES_BASE: u64 = 16 << 20;
/// Most pixels of a side. Resizing a side without cropping holds up to six weights for each of its pixels, twenty bytes each.
const LONGEST_SIDE: u32 = 1_000_000;

/// What a piece of media may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels of a picture, width × height. Decoding one holds up to eleven bytes for each of these at a time,
    /// the result's three included and the file excluded.
    pub max_pixels: u64,
    /// Most seconds of a sound. Decoding one holds four bytes for each sample at the rate the model reads.
    pub max_seconds: u32,
    /// Most bytes of base64 content, decoded.
    pub max_bytes: usize,
}

impl Default for Limits {
    /// 50 megapixels, a minute, 64 MiB.
    fn default() -> Self {
        Self { max_pixels: 50_000_000, max_seconds: 60, max_bytes: 64 << 20 }
    }
}

impl Limits {
    /// The same for the decoders of the `image` crate.
    pub(super) fn for_decoder(&self) -> ::image::Limits {
        let mut limits = ::image::Limits::no_limits();
        limits.max_alloc = Some(self.decode_bytes());
        limits
    }

    /// Refuses a plan that would hold `bytes` at a time.
    pub(super) fn allow_bytes(&self, bytes: u64) -> Result<(), MediaError> {
        let max = self.decode_bytes();
        if bytes > max { Err(MediaError::TooMuchMemory { max }) } else { Ok(()) }
    }

    /// Most bytes that decoding one picture may hold at a time.
    pub(super) fn decode_bytes(&self) -> u64 {
        self.max_pixels.saturating_mul(DECODE_BYTES_PER_PIXEL).saturating_add(DECODE_BYTES_BASE)
    }
}

/// What a file's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageHeader {
    /// The file format.
    pub format: Format,
    /// Width as stored, in pixels: an EXIF orientation that turns the picture is not applied.
    pub width: u32,
    /// Height as stored, in pixels.
    pub height: u32,
}

impl ImageHeader {
    /// Width × height.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// Reads the header alone: no pixel is decoded, and nothing is allocated in proportion to what the header claims.
///
/// # Errors
/// [`MediaError::Unsupported`] for bytes of no known format, [`MediaError::Undecodable`] for a header that is damaged
/// or claims an empty picture, [`MediaError::TooLarge`] above `limits.max_pixels`, [`MediaError::SideTooLong`] for a strip of
/// more than a million pixels.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<ImageHeader, MediaError> {
    let Some(format) = Format::recognise(bytes) else {
        return Err(format::unsupported(format::describe(bytes).into()));
    };
    let (width, height) = guarded(format, || size(format, bytes))?;
    if width == 0 || height == 0 {
        return Err(format.undecodable(format_args!("the header claims {width}×{height} pixels")));
    }
    let header = ImageHeader { format, width, height };
    if header.pixels() > limits.max_pixels {
        return Err(MediaError::TooLarge { width, height, max: limits.max_pixels });
    }
    if width.max(height) > LONGEST_SIDE {
        return Err(MediaError::SideTooLong { width, height, max: LONGEST_SIDE });
    }
    Ok(header)
}

fn size(format: Format, bytes: &[u8]) -> Result<(u32, u32), MediaError> {
    let reader = Cursor::new(bytes);
    match format {
        Format::Jpeg => jpeg::size(bytes),
        Format::Png => png::size(bytes),
        Format::Gif => gif::size(bytes),
        Format::Tiff => tiff::size(bytes),
        Format::WebP => {
            WebPDecoder::new(reader).map(|d| d.dimensions()).map_err(|error| format.undecodable(error))
        }
        Format::Bmp => {
            BmpDecoder::new(reader).map(|d| d.dimensions()).map_err(|error| format.undecodable(error))
        }
    }
}
