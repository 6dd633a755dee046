//! The EXIF block of a WebP file, found without believing what a chunk says of its length.

/// `RIFF`, the length of all that follows, `WEBP`.
const HEADER_BYTES: usize = 12;

/// The first EXIF block of a file in the extended format, where all of it is there; the other formats have none. The decoder
/// would take as much memory as the chunk claims before it reads one byte. Source: RFC 9649, §2.3 and §2.7.
pub(super) fn exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut chunks = chunks(bytes);
    let (b"VP8X", _) = chunks.next()? else { return None };
    let (_, body) = chunks.find(|(kind, _)| *kind == b"EXIF")?;
    body
}

/// Kind and content of each chunk, the content of one that ends behind the file as `None`.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], Option<&[u8]>)> {
    let stated = bytes
        .get(4..8)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let end = bytes.len().min(stated.saturating_add(8));
    let mut rest = bytes.get(HEADER_BYTES..end).unwrap_or_default();
    std::iter::from_fn(move || {
        let (kind, after) = rest.split_first_chunk::<4>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        // Chunks begin at even places.
        rest = after.get(length + length % 2..).unwrap_or_default();
        Some((kind, after.get(..length)))
    })
}
