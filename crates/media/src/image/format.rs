//! File formats, told by their first bytes.

use crate::MediaError;

/// A file format that is decoded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG: baseline and progressive, grey, YCbCr, RGB, CMYK, YCCK.
    Jpeg,
    /// PNG, all colour types and depths.
    Png,
    /// WebP, lossy and lossless; of an animation the first frame.
    WebP,
    /// GIF, the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF, the first page; also `BigTIFF`.
    Tiff,
}

impl Format {
    /// The format of a file that begins like this.
    #[must_use]
    pub fn recognise(bytes: &[u8]) -> Option<Self> {
        let starts = |magic: &[u8]| bytes.starts_with(magic);
        if starts(b"\xFF\xD8\xFF") {
            Some(Self::Jpeg)
        } else if starts(b"\x89PNG\r\n\x1A\n") {
            Some(Self::Png)
        } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::WebP)
        } else if starts(b"GIF87a") || starts(b"GIF89a") {
            Some(Self::Gif)
        } else if starts(b"II*\0") || starts(b"MM\0*") || starts(b"II+\0") || starts(b"MM\0+") {
            Some(Self::Tiff)
        } else if starts(b"BM") && bytes.get(14..18).is_some_and(is_bitmap_header_size) {
            Some(Self::Bmp)
        } else {
            None
        }
    }

    /// The registered media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Gif => "image/gif",
            Self::Bmp => "image/bmp",
            Self::Tiff => "image/tiff",
        }
    }

    /// The usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        }
    }

    /// Why a file of this format cannot be decoded.
    pub(super) fn undecodable(self, reason: impl ToString) -> MediaError {
        MediaError::Undecodable { format: self.name(), kind: "image", reason: reason.to_string() }
    }

    /// A variant of this format that is not decoded here.
    pub(super) fn unsupported(self, variant: impl std::fmt::Display) -> MediaError {
        unsupported(format!("{} variant ({variant})", self.name()))
    }
}

/// Bytes that are no picture which is decoded here.
pub(super) fn unsupported(found: String) -> MediaError {
    MediaError::Unsupported { found, takes: "images are taken as JPEG, PNG, WebP, GIF, BMP or TIFF" }
}

/// `BM` alone begins many a text; the sizes of the known bitmap headers do not follow it there.
fn is_bitmap_header_size(field: &[u8]) -> bool {
    matches!(field, [12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])
}

/// What bytes of no supported format are, for the message.
pub(crate) fn describe(bytes: &[u8]) -> &'static str {
    const KNOWN: &[(usize, &[u8], &str)] = &[
        (4, b"ftypavif", "an AVIF image"),
        (4, b"ftypavis", "an AVIF image"),
        (4, b"ftyphei", "an HEIC image"),
        (4, b"ftypmif1", "an HEIC image"),
        (4, b"ftyp", "an MP4 file"),
        (0, b"\x1A\x45\xDF\xA3", "a Matroska or WebM file"),
        (0, b"FORM", "an AIFF file"),
        (0, b"#!AMR", "an AMR file"),
        (0, b"\xFF\x0A", "a JPEG XL image"),
        (4, b"JXL ", "a JPEG XL image"),
        (4, b"jP  ", "a JPEG 2000 image"),
        (0, b"\xFF\x4F\xFF\x51", "a JPEG 2000 image"),
        (0, b"8BPS", "a Photoshop document"),
        (0, b"\0\0\x01\0", "an icon"),
        (0, b"%PDF", "a PDF document"),
        (0, b"<svg", "an SVG image"),
        (0, b"<?xml", "an XML document"),
        (0, b"<!DOCTYPE", "an HTML document"),
        (0, b"<html", "an HTML document"),
        (0, b"PK\x03\x04", "a ZIP archive"),
        (0, b"\x1F\x8B", "a gzip file"),
        (0, b"RIFF", "a RIFF file"),
        (0, b"OggS", "an Ogg file"),
        (0, b"ID3", "an MP3 file"),
        (0, b"fLaC", "a FLAC file"),
        (0, b"data:", "a data URL that was not decoded"),
    ];
    if bytes.is_empty() {
        return "no bytes at all";
    }
    let known =
        KNOWN.iter().find(|(at, magic, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    known.map_or("bytes of no known format", |(_, _, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_begins_like_a_bitmap_is_none() {
        assert_eq!(Format::recognise(b"BMW is a maker of cars, and of motorcycles"), None);
    }

    #[test]
    fn formats_that_are_not_decoded_are_named() {
        assert_eq!(describe(b"\0\0\0\x20ftypheic"), "an HEIC image");
        assert_eq!(describe(b"\0\0\0\x20ftypisom"), "an MP4 file");
        assert_eq!(describe(b""), "no bytes at all");
        assert_eq!(describe(b"\x01"), "bytes of no known format");
    }
}
