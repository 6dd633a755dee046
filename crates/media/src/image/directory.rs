//! Reading single values of a TIFF directory: what EXIF blocks are, and TIFF files too.

pub(super) const IMAGE_WIDTH: u16 = 256;
pub(super) const IMAGE_HEIGHT: u16 = 257;
pub(super) const PHOTOMETRIC_INTERPRETATION: u16 = 262;
pub(super) const ORIENTATION: u16 = 274;

const SHORT: u16 = 3;
const LONG: u16 = 4;

/// The orientation in an EXIF block, 1…8; 1 where the block has none or is damaged. Source: EXIF 2.32, §4.6.4.
pub(super) fn orientation(block: &[u8]) -> u8 {
    let block = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    match entry(block, ORIENTATION) {
        Some(Entry { value: value @ 1..=8, .. }) => value as u8,
        Some(_) | None => 1,
    }
}

/// A single number in a directory.
pub(super) struct Entry {
    /// Where its last or first byte lies, the one that holds a number below 256.
    pub(super) low_byte: usize,
    pub(super) value: u32,
}

/// The entry of 16 or 32 bits under `tag` in the first directory; `None` where there is none or the block is damaged.
pub(super) fn entry(block: &[u8], tag: u16) -> Option<Entry> {
    let little = match block.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = *block.get(at..)?.first_chunk::<2>()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let u32_at = |at: usize| {
        let bytes = *block.get(at..)?.first_chunk::<4>()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = u32_at(4)? as usize;
    let entries = usize::from(u16_at(directory)?);
    let at = (0..entries).map(|index| directory + 2 + 12 * index).find(|&at| u16_at(at) == Some(tag))?;
    let (kind, count, field) = (u16_at(at + 2)?, u32_at(at + 4)?, at + 8);
    match (kind, count) {
        (SHORT, 1) => {
            Some(Entry { low_byte: if little { field } else { field + 1 }, value: u16_at(field)?.into() })
        }
        (LONG, 1) => Some(Entry { low_byte: if little { field } else { field + 3 }, value: u32_at(field)? }),
        _ => None,
    }
}
