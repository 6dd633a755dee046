//! The upright rows of a picture, turned while they are read.
//!
//! Most phone photos are stored lying on their side. Turning one of 12 megapixels costs 36 MB of fresh memory, and
//! touching that for the first time takes as long as decoding; so the pixels stay as stored, and a few rows at a time
//! are turned into a buffer that stays in the cache.

use super::RgbImage8;

/// Rows turned at a time: a column's pixels are read from one cache line for several of them.
const BAND: usize = 16;
/// Stored rows read at a time, so that what a band of columns reads stays in the first-level cache.
const TILE: usize = 64;
/// Room behind the last row, for readers that load whole registers.
const SPARE_BYTES: usize = 16;

/// Rows by index, cheapest when asked for in order.
pub(super) struct Rows<'a> {
    image: &'a RgbImage8,
    /// The turned rows from `first` on; unused for a picture stored upright.
    band: Vec<u8>,
    first: usize,
    count: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(image: &'a RgbImage8) -> Self {
        let row = image.width() as usize * 3;
        let band = if image.orientation == 1 { Vec::new() } else { vec![0; BAND * row + SPARE_BYTES] };
        Self { image, band, first: 0, count: 0 }
    }

    /// The bytes from the beginning of row `y`; what follows the row itself is arbitrary.
    pub(super) fn from(&mut self, y: usize) -> &[u8] {
        let row = self.image.width() as usize * 3;
        if self.image.orientation == 1 {
            return &self.image.pixels[y * row..];
        }
        if !(self.first..self.first + self.count).contains(&y) {
            self.first = y;
            self.count = BAND.min(self.image.height() as usize - y);
            self.turn();
        }
        &self.band[(y - self.first) * row..]
    }

    /// Fills the band. Source of the cases: EXIF 2.32, §4.6.4.
    fn turn(&mut self) {
        let (w, h) = (self.image.stored_width as usize, self.image.stored_height as usize);
        let stored = self.image.pixels.as_chunks::<3>().0;
        let length = self.image.width() as usize;
        let band = self.band.as_chunks_mut::<3>().0.chunks_exact_mut(length).take(self.count);
        let (first, orientation) = (self.first, self.image.orientation);
        if orientation < 5 {
            for (y, row) in (first..).zip(band) {
                let y = if orientation == 2 { y } else { h - 1 - y };
                row.copy_from_slice(&stored[y * w..][..w]);
                if orientation < 4 {
                    row.reverse();
                }
            }
            return;
        }
        // A turned row is a stored column, read downwards or upwards.
        let mut band: Vec<&mut [[u8; 3]]> = band.collect();
        for top in (0..h).step_by(TILE) {
            let tall = TILE.min(h - top);
            for (index, row) in band.iter_mut().enumerate() {
                let x = if orientation < 7 { first + index } else { w - 1 - first - index };
                let column = stored[top * w + x..].iter().step_by(w);
                if matches!(orientation, 6 | 7) {
                    let part = &mut row[h - top - tall..h - top];
                    part.iter_mut().rev().zip(column).for_each(|(to, from)| *to = *from);
                } else {
                    let part = &mut row[top..top + tall];
                    part.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}
