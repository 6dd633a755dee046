//! The inner loop of products: a tile of [`HIGH`] by [`WIDE`] numbers, kept in registers over the whole depth.
#![expect(unsafe_code, reason = "vector loads and stores take pointers")]

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use super::simd::LANES;

/// Rows of a tile.
pub(super) const HIGH: usize = 12;

/// Columns of a tile.
pub(super) const WIDE: usize = 2 * LANES;

/// What is done with a tile's sums.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    /// Added to each row, by the tile's rows.
    pub(super) by_row: Option<&'a [f32]>,
    /// Added to each column, by the tile's columns.
    pub(super) by_column: Option<&'a [f32]>,
    /// Whether what is there already is added.
    pub(super) add: bool,
    /// Between which numbers the results are kept.
    pub(super) bounds: Option<[f32; 2]>,
}

/// `out[row * pitch + column] (+)= Σ left[k * HIGH + row]·right[k * WIDE + column]` for `rows` by `columns` of a tile.
///
/// # Safety
/// `out` must be writable for those rows and columns.
///
/// # Panics
/// Where a side is shorter than the depth, or the tile is too large.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tile(
    depth: usize,
    (left, right): (&[f32], &[f32]),
    out: (*mut f32, usize),
    (rows, columns): (usize, usize),
    end: End<'_>,
) {
    assert!(left.len() >= depth * HIGH && right.len() >= depth * WIDE && columns <= WIDE);
    assert!(end.by_row.is_none_or(|bias| bias.len() >= rows));
    assert!(end.by_column.is_none_or(|bias| bias.len() >= columns));
    macro_rules! of {
        ($($rows:literal)*) => {
            match rows {
                // SAFETY: asserted above; the rest is the caller's.
                $($rows => unsafe { of_rows::<$rows>(depth, left.as_ptr(), right.as_ptr(), out, columns, end) },)*
                _ => panic!("a tile has at most {HIGH} rows"),
            }
        };
    }
    of!(1 2 3 4 5 6 7 8 9 10 11 12);
}

#[target_feature(enable = "avx512f")]
unsafe fn of_rows<const ROWS: usize>(
    depth: usize,
    mut left: *const f32,
    mut right: *const f32,
    (out, pitch): (*mut f32, usize),
    columns: usize,
    end: End<'_>,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for _ in 0..depth {
        // SAFETY: the caller's sides hold `depth` steps.
        unsafe {
            let (first, second) =
                (right.cast::<__m512>().read_unaligned(), right.add(LANES).cast::<__m512>().read_unaligned());
            for (row, sum) in sums.iter_mut().enumerate() {
                let value = _mm512_set1_ps(*left.add(row));
                sum[0] = _mm512_fmadd_ps(value, first, sum[0]);
                sum[1] = _mm512_fmadd_ps(value, second, sum[1]);
            }
            left = left.add(HIGH);
            right = right.add(WIDE);
        }
    }
    for (row, sum) in sums.into_iter().enumerate() {
        for (half, value) in sum.into_iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { store(value, (row, half), (out, pitch), columns, end) };
        }
    }
}

/// Writes the sums of a tile, [`WIDE`] a row.
///
/// # Safety
/// `out` must be writable for those rows and columns.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn finish(
    sums: &[f32],
    out: (*mut f32, usize),
    (rows, columns): (usize, usize),
    end: End<'_>,
) {
    assert!(columns <= WIDE && end.by_row.is_none_or(|bias| bias.len() >= rows));
    assert!(end.by_column.is_none_or(|bias| bias.len() >= columns));
    for (row, sums) in sums.chunks_exact(WIDE).take(rows).enumerate() {
        for (half, sums) in sums.chunks_exact(LANES).enumerate() {
            // SAFETY: sixteen numbers are read; the rest is the caller's.
            unsafe { store(_mm512_loadu_ps(sums.as_ptr()), (row, half), out, columns, end) };
        }
    }
}

/// # Safety
/// `out` must be writable at that row, up to the columns.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store(
    mut value: __m512,
    (row, half): (usize, usize),
    (out, pitch): (*mut f32, usize),
    columns: usize,
    end: End<'_>,
) {
    let count = columns.saturating_sub(half * LANES).min(LANES);
    if count == 0 {
        return;
    }
    let mask = (u32::MAX >> (32 - count)) as u16;
    // SAFETY: the mask keeps to the columns; rows and columns are the caller's.
    unsafe {
        let place = out.add(row * pitch + half * LANES);
        if let Some(bias) = end.by_row {
            value = _mm512_add_ps(value, _mm512_set1_ps(bias[row]));
        }
        if let Some(bias) = end.by_column {
            value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(half * LANES)));
        }
        if end.add {
            value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, place));
        }
        if let Some([low, high]) = end.bounds {
            // In this order what is no number stays so.
            value = _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), value));
        }
        _mm512_mask_storeu_ps(place, mask, value);
    }
}
