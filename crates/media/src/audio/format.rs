//! File formats of sounds, told by their first bytes.

use crate::MediaError;

/// A file format of sounds that is decoded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SoundFormat {
    /// WAV: PCM of 8 to 32 bits, floats, A-law, µ-law, ADPCM.
    Wav,
    /// FLAC.
    Flac,
    /// MPEG layer III.
    Mp3,
    /// Ogg with Vorbis, Opus or FLAC inside.
    Ogg,
    /// MP4 with AAC-LC inside.
    M4a,
}

/// What of MP4's family is not sound, by the brand its files begin with.
const PICTURE_BRANDS: &[&[u8]] = &[b"avif", b"avis", b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1"];

impl SoundFormat {
    /// The format of a file that begins like this.
    #[must_use]
    pub fn recognise(bytes: &[u8]) -> Option<Self> {
        let starts = |magic: &[u8]| bytes.starts_with(magic);
        if starts(b"RIFF") && bytes.get(8..12) == Some(b"WAVE") {
            Some(Self::Wav)
        } else if starts(b"fLaC") {
            Some(Self::Flac)
        } else if starts(b"OggS") {
            Some(Self::Ogg)
        } else if bytes.get(4..8) == Some(b"ftyp") {
            let brand = bytes.get(8..12)?;
            (!PICTURE_BRANDS.contains(&brand)).then_some(Self::M4a)
        } else if starts(b"ID3") {
            // Before a FLAC it is not meant to stand, and does.
            match without_tag(bytes) {
                rest if rest.starts_with(b"fLaC") => Some(Self::Flac),
                _ => Some(Self::Mp3),
            }
        } else {
            is_layer_three(bytes).then_some(Self::Mp3)
        }
    }

    /// The media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Wav => "audio/wav",
            Self::Flac => "audio/flac",
            Self::Mp3 => "audio/mpeg",
            Self::Ogg => "audio/ogg",
            Self::M4a => "audio/mp4",
        }
    }

    /// The usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wav => "WAV",
            Self::Flac => "FLAC",
            Self::Mp3 => "MP3",
            Self::Ogg => "Ogg",
            Self::M4a => "M4A",
        }
    }

    /// Why a file of this format cannot be decoded.
    pub(super) fn undecodable(self, reason: impl ToString) -> MediaError {
        MediaError::Undecodable { format: self.name(), kind: "sound", reason: reason.to_string() }
    }

    /// A variant of this format that is not decoded here.
    pub(super) fn unsupported(self, variant: impl std::fmt::Display) -> MediaError {
        unsupported(format!("{} variant ({variant})", self.name()))
    }
}

/// Bytes that are no sound which is decoded here.
pub(super) fn unsupported(found: String) -> MediaError {
    MediaError::Unsupported {
        found,
        takes: "sounds are taken as WAV, FLAC, MP3, Ogg (Vorbis, Opus) or M4A (AAC)",
    }
}

/// The file without the tag that stands before its sound. Source: ID3v2.4.0, §3.1.
pub(super) fn without_tag(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let (true, Some(&[.., a, b, c, d])) = (rest.starts_with(b"ID3"), rest.first_chunk::<10>()) {
        let size = [a, b, c, d].iter().fold(0_usize, |size, byte| size << 7 | usize::from(byte & 0x7F));
        let footer = if rest[5] & 0x10 == 0 { 0 } else { 10 };
        rest = rest.get(10 + size + footer..).unwrap_or_default();
    }
    rest
}

/// Whether a frame of MPEG layer III begins here. Source: ISO/IEC 11172-3, §2.4.2.3.
fn is_layer_three(bytes: &[u8]) -> bool {
    let Some(&[first, second, third, _]) = bytes.first_chunk::<4>() else { return false };
    let (version, layer) = (second >> 3 & 3, second >> 1 & 3);
    let (bitrate, rate) = (third >> 4, third >> 2 & 3);
    first == 0xFF && second >> 5 == 7 && version != 1 && layer == 1 && !matches!(bitrate, 0 | 15) && rate != 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_pictures_are_no_sounds() {
        for bytes in [
            &b"RIFF\0\0\0\0WEBP"[..],
            b"\0\0\0\x20ftypavif",
            b"\xFF\xD8\xFF\xE0",
            b"\xFF\xFEa\0",
            b"IDs",
            b"",
        ] {
            assert_eq!(SoundFormat::recognise(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_tag_is_stepped_over_however_long_it_claims_to_be() {
        assert_eq!(without_tag(b"ID3\x04\0\0\0\0\0\x02xxfLaC"), b"fLaC");
        assert_eq!(without_tag(b"ID3\x04\0\0\x7F\x7F\x7F\x7Fxx"), b"");
        assert_eq!(SoundFormat::recognise(b"ID3\x04\0\0\0\0\0\x02xxfLaC"), Some(SoundFormat::Flac));
    }
}
