//! Resizing by Pillow's two passes: along the rows, rounded to bytes, then along the columns.
//!
//! Only what the crop keeps is computed, and of the first pass only as many rows are held as the second pass spans.

use headstart_types::manifest::Filter;

use super::RgbImage8;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
use super::rows::Rows;
use super::taps::{HALF, PRECISION_BITS, Span, Taps};

/// Resizes the part of `image` that `columns` × `rows` name, handing out row after row (RGB, 3 bytes a column) with
/// its index from 0.
pub(super) fn resample(
    image: &RgbImage8,
    filter: Filter,
    columns: &Span,
    rows: &Span,
    mut take: impl FnMut(usize, &[u8]),
) {
    let across = RowPass::new(Taps::new(filter, columns));
    let down = Taps::new(filter, rows);
    let mut source = Rows::new(image);
    let stride = across.taps.len() * 3;
    let mut ring = Ring { rows: down.longest(), stride, bytes: vec![0; down.longest() * stride] };
    let mut sums = vec![0; stride];
    let mut row = vec![0; stride];
    let mut next = 0;
    for (index, (start, weights)) in down.iter().enumerate() {
        next = start.max(next);
        while next < start + weights.len() {
            across.run(source.from(next), ring.row_mut(next));
            next += 1;
        }
        blend(&across, &ring, start, weights, &mut sums, &mut row);
        take(index, &row);
    }
}

/// The last rows of the first pass, by input row.
pub(super) struct Ring {
    rows: usize,
    stride: usize,
    bytes: Vec<u8>,
}

impl Ring {
    pub(super) fn row(&self, index: usize) -> &[u8] {
        &self.bytes[index % self.rows * self.stride..][..self.stride]
    }

    fn row_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[index % self.rows * self.stride..][..self.stride]
    }
}

/// The pass along a row, by the fastest code this processor has.
struct RowPass {
    taps: Taps,
    #[cfg(target_arch = "x86_64")]
    wide: Option<(Avx2, super::avx2::WideTaps)>,
}

impl RowPass {
    fn new(taps: Taps) -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            wide: Avx2::detect().map(|avx2| (avx2, super::avx2::WideTaps::new(&taps))),
            taps,
        }
    }

    /// `pixels` begins with the row and may go on behind it.
    fn run(&self, pixels: &[u8], out: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if let Some((avx2, wide)) = &self.wide
            && pixels.len() >= wide.reach()
        {
            return avx2.row(pixels, wide, out);
        }
        row(pixels, &self.taps, out);
    }
}

fn blend(across: &RowPass, ring: &Ring, start: usize, weights: &[i32], sums: &mut [i32], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if let Some((avx2, _)) = &across.wide {
        return avx2.columns(ring, start, weights, sums, out);
    }
    let _ = across;
    columns(ring, start, weights, sums, out);
}

/// The pass along a row, on any processor.
pub(super) fn row(pixels: &[u8], taps: &Taps, out: &mut [u8]) {
    let pixels = pixels.as_chunks::<3>().0;
    for (rgb, (start, weights)) in out.as_chunks_mut::<3>().0.iter_mut().zip(taps.iter()) {
        let mut sums = [HALF; 3];
        for (pixel, &weight) in pixels[start..].iter().zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(pixel) {
                *sum = sum.wrapping_add(i32::from(sample).wrapping_mul(weight));
            }
        }
        *rgb = sums.map(to_byte);
    }
}

/// The pass along all columns for one output row; inlined into each processor's version of it.
#[inline(always)]
pub(super) fn columns(ring: &Ring, start: usize, weights: &[i32], sums: &mut [i32], out: &mut [u8]) {
    sums.fill(HALF);
    for (index, &weight) in weights.iter().enumerate() {
        for (sum, &sample) in sums.iter_mut().zip(ring.row(start + index)) {
            *sum = sum.wrapping_add(i32::from(sample).wrapping_mul(weight));
        }
    }
    for (byte, &sum) in out.iter_mut().zip(&*sums) {
        *byte = to_byte(sum);
    }
}

#[inline(always)]
fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}
