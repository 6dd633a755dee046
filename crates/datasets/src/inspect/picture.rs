//! What makes two pictures the same, or nearly so.

use headstart_media::RgbImage8;

use super::text::Signature;

/// Cells along the side that is compared, and along the other.
const LONG: usize = 9;
const SHORT: usize = 8;
/// A signature with fewer bits set, or fewer clear, shows a flat picture: all of those are alike.
const FEWEST_BITS: u32 = 12;

/// A 128-bit difference hash in eight parts of sixteen bits: whether each cell is darker than its right neighbour (9 × 8
/// cells) and than its lower one (8 × 9), cells being mean luma of equal areas. It survives scaling, recompression and
/// small changes of brightness. `None` for pictures too flat to be told apart.
/// Source: Krawetz, "Kind of Like That", 2013, in both directions.
pub(crate) fn signature(image: &RgbImage8) -> Option<Signature> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels = image.pixels();
    let wide: [[u64; LONG]; SHORT] = means(&pixels, width, height);
    let tall: [[u64; SHORT]; LONG] = means(&pixels, width, height);
    let right = wide.iter().flat_map(|row| row.iter().zip(row.iter().skip(1)).map(|(a, b)| a < b));
    let lower =
        tall.iter().zip(tall.iter().skip(1)).flat_map(|(row, next)| row.iter().zip(next).map(|(a, b)| a < b));
    let mut signature = Signature::default();
    for (at, darker) in right.chain(lower).enumerate() {
        if let Some(part) = signature.get_mut(at / 16) {
            *part |= u32::from(darker) << (at % 16);
        }
    }
    let set: u32 = signature.iter().map(|part| part.count_ones()).sum();
    (FEWEST_BITS..=128 - FEWEST_BITS).contains(&set).then_some(signature)
}

/// Mean luma of each cell, times 1000; cells are never empty, so those of tiny pictures overlap.
fn means<const W: usize, const H: usize>(pixels: &[u8], width: usize, height: usize) -> [[u64; W]; H] {
    let bounds = |at: usize, cells: usize, side: usize| {
        let start = at * side / cells;
        start..((at + 1) * side / cells).max(start + 1)
    };
    let mut means = [[0; W]; H];
    for (y, row) in means.iter_mut().enumerate() {
        let mut sums = [0_u64; W];
        let lines = bounds(y, H, height);
        let count = lines.len();
        for line in lines {
            let line = pixels.get(line * width * 3..(line + 1) * width * 3).unwrap_or_default();
            for (x, sum) in sums.iter_mut().enumerate() {
                let columns = bounds(x, W, width);
                let cell = line.get(columns.start * 3..columns.end * 3).unwrap_or_default();
                *sum += cell.as_chunks::<3>().0.iter().map(luma).sum::<u64>();
            }
        }
        for (x, (mean, sum)) in row.iter_mut().zip(sums).enumerate() {
            *mean = sum / (bounds(x, W, width).len() * count) as u64;
        }
    }
    means
}

/// Luma times 1000. Source: ITU-R BT.601.
fn luma(&[red, green, blue]: &[u8; 3]) -> u64 {
    299 * u64::from(red) + 587 * u64::from(green) + 114 * u64::from(blue)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use super::*;

    #[test]
    fn signatures_are_those_of_an_independent_reference() {
        let want: std::collections::BTreeMap<String, Signature> =
            serde_json::from_slice(include_bytes!("../../tests/data/signatures.json")).unwrap();
        let bytes: &[u8] = include_bytes!("../../tests/data/pictures.zip");
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert_eq!(want.len(), 12);
        for (path, want) in want {
            let mut file = Vec::new();
            archive.by_name(&path).unwrap().read_to_end(&mut file).unwrap();
            let image = headstart_media::decode(&file, &headstart_media::Limits::default()).unwrap();
            assert_eq!(signature(&image), Some(want), "{path}");
        }
    }

    #[test]
    fn flat_and_tiny_pictures_do_not_fail() {
        for (width, height) in [(1, 1), (3, 200), (200, 3), (9, 8)] {
            let image = RgbImage8::new(width, height, vec![7; (width * height * 3) as usize]).unwrap();
            assert_eq!(signature(&image), None, "{width}×{height}");
        }
    }
}
