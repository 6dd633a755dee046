//! The chunk structure of a PNG: its size, and its EXIF block wherever it stands.

use super::Format;
use crate::MediaError;

const SIGNATURE_BYTES: usize = 8;

/// Width and height in the header chunk.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), MediaError> {
    match chunks(bytes).next() {
        Some((b"IHDR", [w3, w2, w1, w0, h3, h2, h1, h0, ..])) => {
            Ok((u32::from_be_bytes([*w3, *w2, *w1, *w0]), u32::from_be_bytes([*h3, *h2, *h1, *h0])))
        }
        Some(_) | None => Err(Format::Png.undecodable("it has no header chunk")),
    }
}

/// The EXIF block. The standard allows it behind the image data, where the decoder does not look.
pub(super) fn exif(bytes: &[u8]) -> Option<&[u8]> {
    chunks(bytes).find_map(|(kind, body)| (kind == b"eXIf").then_some(body))
}

/// Kind and content of each whole chunk.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.get(SIGNATURE_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let (body, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        rest = after.get(4..).unwrap_or_default();
        Some((kind, body))
    })
}
