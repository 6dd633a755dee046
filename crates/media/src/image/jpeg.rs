//! The marker structure of a JPEG: its size, its EXIF block, and whether the file is whole.
//!
//! The decoder fills what a cut file lacks with grey, as browsers do; a label for half a picture is worse than an
//! error, so the end-of-image marker is looked for first.

use super::Format;
use crate::MediaError;

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;
const APP1: u8 = 0xE1;
const EXIF_PREFIX: &[u8] = b"Exif\0\0";

/// What the markers say of a whole file.
pub(super) struct Structure<'a> {
    /// The EXIF block without its prefix.
    pub(super) exif: Option<&'a [u8]>,
    /// Bytes a pixel that decoding holds: three of the result, and for a progressive file all its coefficients.
    pub(super) bytes_per_pixel: u64,
}

/// Width and height in the frame header.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), MediaError> {
    let mut walk = Walk { bytes, at: 2 };
    loop {
        match walk.segment()? {
            (marker, body) if is_frame(marker) => {
                let [_, h1, h0, w1, w0, ..] = body else { return Err(short()) };
                return Ok((u16::from_be_bytes([*w1, *w0]).into(), u16::from_be_bytes([*h1, *h0]).into()));
            }
            (START_OF_SCAN | END_OF_IMAGE, _) => {
                return Err(Format::Jpeg.undecodable("it has no frame header"));
            }
            _ => {}
        }
    }
}

/// Walks all markers up to the end of the image.
pub(super) fn structure(bytes: &[u8]) -> Result<Structure<'_>, MediaError> {
    let mut found = Structure { exif: None, bytes_per_pixel: 3 };
    let mut walk = Walk { bytes, at: 2 };
    loop {
        match walk.segment()? {
            (APP1, body) if found.exif.is_none() => found.exif = body.strip_prefix(EXIF_PREFIX),
            // Its coefficients, two bytes each, wait for the last scan.
            (marker, [_, _, _, _, _, components, ..]) if is_frame(marker) && is_progressive(marker) => {
                found.bytes_per_pixel = 3 + 2 * u64::from(*components);
            }
            (START_OF_SCAN, _) => walk.skip_scan()?,
            (END_OF_IMAGE, _) => return Ok(found),
            _ => {}
        }
    }
}

fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC)
}

fn is_progressive(frame: u8) -> bool {
    frame & 3 == 2
}

fn short() -> MediaError {
    Format::Jpeg.undecodable("the file is cut short")
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    /// The next marker and its segment's content (empty for markers without one).
    fn segment(&mut self) -> Result<(u8, &'a [u8]), MediaError> {
        // Bytes between segments are against the standard, but libjpeg skips them, and files have them.
        while self.byte()? != 0xFF {}
        let mut marker = 0xFF;
        while marker == 0xFF {
            marker = self.byte()?;
        }
        if matches!(marker, 0 | 0x01 | 0xD0..=END_OF_IMAGE) {
            return Ok((marker, &[]));
        }
        let length = u16::from_be_bytes([self.byte()?, self.byte()?]);
        let end = self.at + usize::from(length).saturating_sub(2);
        let body = self.bytes.get(self.at..end).ok_or_else(short)?;
        self.at = end;
        Ok((marker, body))
    }

    /// Moves behind entropy-coded data, to the marker that ends it.
    fn skip_scan(&mut self) -> Result<(), MediaError> {
        loop {
            let rest = self.bytes.get(self.at..).ok_or_else(short)?;
            let next = rest.iter().position(|&b| b == 0xFF).ok_or_else(short)?;
            match rest.get(next + 1) {
                // A stuffed zero, a restart marker and a fill byte belong to the data.
                Some(0 | 0xD0..=0xD7) => self.at += next + 2,
                Some(0xFF) => self.at += next + 1,
                Some(_) => {
                    self.at += next;
                    return Ok(());
                }
                None => return Err(short()),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, MediaError> {
        let byte = self.bytes.get(self.at).ok_or_else(short)?;
        self.at += 1;
        Ok(*byte)
    }
}
