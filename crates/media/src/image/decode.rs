//! File bytes → 8-bit RGB.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::image::codecs::{bmp::BmpDecoder, jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use ::image::error::{ImageError, LimitErrorKind};
use ::image::{ColorType, ImageDecoder};

use super::header::DECODE_BYTES_BASE;
use super::pixels::to_rgb;
use super::{Format, ImageHeader, Limits, RgbImage8, directory, gif, jpeg, png, probe, tiff, webp};
use crate::MediaError;

/// Decodes a picture as Pillow's `convert("RGB")` would after turning it upright; the module's page lists the rules.
///
/// # Errors
/// [`MediaError::Empty`]; those of [`probe`]; [`MediaError::Undecodable`] for damaged and for cut files, of which no part
/// is returned;
/// [`MediaError::Unsupported`] for variants such as arithmetic-coded JPEG; [`MediaError::TooMuchMemory`] for files
/// made to take more memory than their pixels do.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage8, MediaError> {
    if bytes.is_empty() {
        return Err(MediaError::Empty { kind: "image" });
    }
    let header = probe(bytes, limits)?;
    let image = guarded(header.format, || stored(bytes, header, limits))?;
    if (image.stored_width, image.stored_height) != (header.width, header.height) {
        return Err(header.format.undecodable("its size contradicts its header"));
    }
    Ok(image)
}

/// Runs a decoder. They are well fuzzed, but not ours: should one panic, that is this picture's error alone.
pub(super) fn guarded<T>(
    format: Format,
    run: impl FnOnce() -> Result<T, MediaError>,
) -> Result<T, MediaError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(format.undecodable("the decoder failed")))
}

fn stored(bytes: &[u8], header: ImageHeader, limits: &Limits) -> Result<RgbImage8, MediaError> {
    let format = header.format;
    let refused = |error| refused(format, limits, error);
    let reader = Cursor::new(bytes);
    let (mut image, exif) = match format {
        Format::Jpeg => {
            let structure = jpeg::structure(bytes)?;
            limits.allow_bytes(structure.bytes_per_pixel * header.pixels())?;
            let decoder = JpegDecoder::new(reader).map_err(refused)?;
            (read(format, decoder, limits)?, structure.exif)
        }
        Format::Png => {
            let decoder = PngDecoder::with_limits(reader, metadata_limits(header)).map_err(refused)?;
            (read(format, decoder, limits)?, png::exif(bytes))
        }
        Format::WebP => {
            let decoder = WebPDecoder::new(reader).map_err(refused)?;
            (read(format, decoder, limits)?, webp::exif(bytes))
        }
        Format::Bmp => (read(format, BmpDecoder::new(reader).map_err(refused)?, limits)?, None),
        Format::Gif => return gif::decode(bytes, limits),
        Format::Tiff => return tiff::decode(bytes, limits),
    };
    image.orientation = exif.map_or(1, directory::orientation);
    Ok(image)
}

/// What a PNG decoder may hold beside the picture: a few rows of eight-byte pixels, and metadata, which may be
/// compressed a thousandfold.
fn metadata_limits(header: ImageHeader) -> ::image::Limits {
    let mut limits = ::image::Limits::no_limits();
    limits.max_alloc = Some(DECODE_BYTES_BASE + 32 * u64::from(header.width));
    limits
}

fn read(format: Format, mut decoder: impl ImageDecoder, limits: &Limits) -> Result<RgbImage8, MediaError> {
    let refused = |error| refused(format, limits, error);
    let (width, height) = decoder.dimensions();
    let colour = decoder.color_type();
    let pixels = u64::from(width) * u64::from(height);
    let grows = if colour.channel_count() < 3 { 3 * pixels } else { 0 };
    limits.allow_bytes(decoder.total_bytes().saturating_add(grows))?;
    decoder.set_limits(limits.for_decoder()).map_err(refused)?;
    let size = usize::try_from(decoder.total_bytes()).map_err(|error| format.undecodable(error))?;
    let mut samples = vec![0; size];
    decoder.read_image(&mut samples).map_err(refused)?;
    let pixels = rgb(samples, colour).ok_or_else(|| format.unsupported(format_args!("{colour:?}")))?;
    RgbImage8::new(width, height, pixels)
        .ok_or_else(|| format.undecodable("it has fewer samples than pixels"))
}

fn rgb(samples: Vec<u8>, colour: ColorType) -> Option<Vec<u8>> {
    let channels = usize::from(colour.channel_count());
    to_rgb(samples, channels, usize::from(colour.bytes_per_pixel()) / channels)
}

fn refused(format: Format, limits: &Limits, error: ImageError) -> MediaError {
    if let ImageError::Unsupported(variant) = &error {
        return format.unsupported(variant);
    }
    if let ImageError::Limits(limit) = &error
        && limit.kind() == LimitErrorKind::InsufficientMemory
    {
        return MediaError::TooMuchMemory { max: limits.decode_bytes() };
    }
    format.undecodable(error)
}
