//! Blocks of sixteen by sixteen, turned in registers.
#![expect(unsafe_code, reason = "vector loads and stores take pointers")]

use std::arch::x86_64::{
    __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_i32gather_ps, _mm512_mask_loadu_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4,
    _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

/// Numbers in a vector.
pub(super) const LANES: usize = 16;

/// `out[column * to + row] = rows[row * from + column]` for a block of [`LANES`] by [`LANES`].
///
/// # Panics
/// Where either side is shorter than the block.
pub(super) fn turn(rows: &[f32], from: usize, out: &mut [f32], to: usize) {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { turn_wide(rows, from, out, to) };
    }
    for row in 0..LANES {
        for column in 0..LANES {
            out[column * to + row] = rows[row * from + column];
        }
    }
}

#[target_feature(enable = "avx512f")]
fn turn_wide(rows: &[f32], from: usize, out: &mut [f32], to: usize) {
    assert!(rows.len() >= (LANES - 1) * from + LANES && out.len() >= (LANES - 1) * to + LANES);
    let mut block = [_mm512_setzero_ps(); LANES];
    for (row, vector) in block.iter_mut().enumerate() {
        // SAFETY: the assertion above keeps all rows inside.
        *vector = unsafe { _mm512_loadu_ps(rows.as_ptr().add(row * from)) };
    }
    let block = turned(block);
    for (column, vector) in block.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(column * to), vector) };
    }
}

#[target_feature(enable = "avx512f")]
fn turned(rows: [__m512; LANES]) -> [__m512; LANES] {
    let mut pairs = [_mm512_setzero_ps(); LANES];
    for at in 0..LANES / 2 {
        pairs[2 * at] = _mm512_unpacklo_ps(rows[2 * at], rows[2 * at + 1]);
        pairs[2 * at + 1] = _mm512_unpackhi_ps(rows[2 * at], rows[2 * at + 1]);
    }
    let low = |a, b| _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    let high = |a, b| _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    // fours[4q + j]: in each quarter i, the element 4i + j of rows 4q … 4q + 3.
    let mut fours = [_mm512_setzero_ps(); LANES];
    for at in 0..4 {
        let [a, b, c, d] = [pairs[4 * at], pairs[4 * at + 1], pairs[4 * at + 2], pairs[4 * at + 3]];
        (fours[4 * at], fours[4 * at + 1]) = (low(a, c), high(a, c));
        (fours[4 * at + 2], fours[4 * at + 3]) = (low(b, d), high(b, d));
    }
    let mut out = [_mm512_setzero_ps(); LANES];
    for at in 0..4 {
        let [a, b, c, d] = [fours[at], fours[4 + at], fours[8 + at], fours[12 + at]];
        let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (even2, odd2) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
        out[at] = _mm512_shuffle_f32x4::<0x88>(even, even2);
        out[8 + at] = _mm512_shuffle_f32x4::<0xdd>(even, even2);
        out[4 + at] = _mm512_shuffle_f32x4::<0x88>(odd, odd2);
        out[12 + at] = _mm512_shuffle_f32x4::<0xdd>(odd, odd2);
    }
    out
}

/// Where each of sixteen pixels lies in a plane, and which of them lie in it at all; the others are 0.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// Runs of neighbours: the lanes of each, and where lane 0 of the run would lie.
    runs: [(u16, i32); RUNS],
    count: usize,
    /// All places, for lanes that are no neighbours.
    places: [i32; LANES],
    mask: u16,
    /// Pixels of the plane.
    area: usize,
}

/// Runs that are worth being loaded one by one.
const RUNS: usize = 4;

impl Places {
    /// Takes each lane's row and column, of a plane of so many. Lanes that are no neighbours are better taken one by one.
    pub(super) fn new(
        rows: &[i32; LANES],
        columns: &[i32; LANES],
        plane: [usize; 2],
        neighbours: bool,
    ) -> Self {
        let [height, width] = plane;
        let (mut places, mut mask) = ([0; LANES], 0);
        for lane in 0..LANES {
            let inside = (rows[lane] as u32) < height as u32 && (columns[lane] as u32) < width as u32;
            places[lane] = if inside { rows[lane] * width as i32 + columns[lane] } else { 0 };
            mask |= u32::from(inside) << lane;
        }
        let count = if neighbours { 0 } else { RUNS + 1 };
        let (mask, area) = (mask as u16, height * width);
        let mut found = Self { runs: [(0, 0); RUNS], count, places, mask, area };
        let mut left = if neighbours { mask } else { 0 };
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            let start = places[lane] - lane as i32;
            let mut run = 0;
            for (lane, place) in places.iter().enumerate() {
                run |= u32::from(place - lane as i32 == start) << lane;
            }
            let run = run as u16 & left;
            left &= !run;
            if found.count < RUNS {
                found.runs[found.count] = (run, start);
            }
            found.count += 1;
        }
        found
    }

    /// The numbers at these places.
    ///
    /// # Safety
    /// `plane` must be readable over its area.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) unsafe fn load(&self, plane: *const f32) -> __m512 {
        let mut value = _mm512_setzero_ps();
        // SAFETY: masked lanes alone are read, at places that the caller vouches for.
        unsafe {
            if self.count <= RUNS {
                for (mask, start) in &self.runs[..self.count] {
                    value = _mm512_mask_loadu_ps(value, *mask, plane.wrapping_offset(*start as isize));
                }
                return value;
            }
            let places = _mm512_loadu_si512(self.places.as_ptr().cast());
            _mm512_mask_i32gather_ps::<4>(value, self.mask, places, plane)
        }
    }
}

/// For each channel's plane and each tap's places, two vectors: rows of a panel of 32 columns. Rows are counted from `first` of
/// the first plane on, and are as many as `out` has.
///
/// # Panics
/// Where there are too few planes, or they are too small.
pub(super) fn gather_rows(
    planes: &[f32],
    pixels: usize,
    taps: &[[Places; 2]],
    first: usize,
    out: &mut [[f32; 2 * LANES]],
) {
    let planes_read = (first + out.len()).div_ceil(taps.len().max(1));
    assert!(planes_read * pixels <= planes.len() && taps.iter().flatten().all(|tap| tap.area <= pixels));
    assert!(is_x86_feature_detected!("avx512f"), "kernels are offered where the processor has AVX-512");
    // SAFETY: as asserted.
    unsafe { gather_rows_wide(planes, pixels, taps, first, out) };
}

/// # Safety
/// As `gather_rows` asserts.
#[target_feature(enable = "avx512f")]
unsafe fn gather_rows_wide(
    planes: &[f32],
    pixels: usize,
    taps: &[[Places; 2]],
    first: usize,
    out: &mut [[f32; 2 * LANES]],
) {
    let (mut plane, mut tap) = (first / taps.len(), first % taps.len());
    for row in out {
        let start = planes.as_ptr().wrapping_add(plane * pixels);
        for (places, out) in taps[tap].iter().zip(row.as_chunks_mut::<LANES>().0) {
            // SAFETY: the places lie in the plane; `out` has sixteen numbers.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), places.load(start)) };
        }
        tap += 1;
        if tap == taps.len() {
            (plane, tap) = (plane + 1, 0);
        }
    }
}
