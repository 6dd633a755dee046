//! Tiles of AMX: 32-bit floats as sums of three 16-bit ones, and the six largest of their nine products.
//!
//! A float's 24 bits are cut into three times eight, exactly: `a = a₀ + a₁ + a₂`, `|aᵢ₊₁| < 2⁻⁷|aᵢ|`. The three products left out are below
//! 2⁻²¹ of the whole, a rounding of 32-bit floats is 2⁻²⁴ a step; sums are of 32 bits. (Henry, Tang and Heinecke, "Leveraging the
//! bfloat16 artificial intelligence datatype for higher-precision computations", ARITH 2019.) Numbers below 10⁻³⁰ lose bits:
//! the tiles know no denormals.
#![expect(
    unsafe_code,
    reason = "the tiles have no stable intrinsics, and the kernel is asked for them by a system call"
)]

use std::arch::asm;
use std::arch::x86_64::{
    __cpuid_count, __m512i, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_loadu_ps,
    _mm512_or_si512, _mm512_set1_epi32, _mm512_srli_epi32, _mm512_storeu_si512, _mm512_sub_ps,
};
use std::mem::MaybeUninit;
use std::ops::Range;

use super::machine::{COLUMNS, Machine};
use super::operand::{Operand, Side};
use super::simd::LANES;
use super::tile::{End, finish};

/// Depth of a tile.
const STEP: usize = 32;

/// Parts of a 32-bit float.
const PARTS: usize = 3;

/// Pairs of 16-bit floats in a tile.
const TILE: usize = LANES * LANES;

/// Whether this process may use the tiles.
pub(super) fn permitted() -> bool {
    /// `ARCH_REQ_XCOMP_PERM` and the number of the tiles' state, of Linux's `asm/prctl.h`.
    const REQUEST: [libc::c_long; 2] = [0x1023, 18];
    // Both the tiles and their products of 16-bit floats.
    let has = __cpuid_count(7, 0).edx & (1 << 22 | 1 << 24) == (1 << 22 | 1 << 24);
    // SAFETY: it only asks that threads may use the tiles, and says no where they may not.
    has && cfg!(target_os = "linux")
        && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST[0], REQUEST[1]) } == 0
}

/// All eight tiles are of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    widths: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = Shapes {
    palette: 1,
    start: 0,
    reserved: [0; 14],
    widths: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Four tiles, in whole lines of the cache.
#[repr(align(64))]
struct Sums([f32; 4 * TILE]);

/// Tiles of two by two, each sixteen by sixteen.
pub(super) struct Tiles;

impl Machine for Tiles {
    /// A pair of 16-bit floats.
    type Item = u32;

    const ROWS: usize = 2 * LANES;

    fn size(lanes: usize, depth: usize) -> usize {
        lanes.div_ceil(LANES) * depth.div_ceil(STEP) * PARTS * TILE
    }

    fn begin() {
        // SAFETY: `kind` asked for the tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, preserves_flags)) };
    }

    fn end() {
        // SAFETY: as above; nothing is left in the tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }

    fn pack_left(
        operand: &dyn Operand,
        lanes: Range<usize>,
        depth: Range<usize>,
        scratch: &mut [f32],
        out: &mut [u32],
    ) {
        let pitch = depth.len().next_multiple_of(STEP);
        let scratch = &mut scratch[..Self::ROWS * pitch];
        operand.pack(0, lanes, depth, Side::ByLane(pitch), scratch);
        // SAFETY: the machine has AVX-512, see `kind`.
        unsafe { split_rows(scratch, pitch, out) };
    }

    fn pack_right(
        (operand, stack): (&dyn Operand, usize),
        lanes: Range<usize>,
        depth: Range<usize>,
        scratch: &mut [f32],
        out: &mut [u32],
    ) {
        let whole = depth.len().next_multiple_of(STEP);
        let scratch = &mut scratch[..COLUMNS * whole];
        scratch[COLUMNS * depth.len()..].fill(0.0);
        let count = depth.len();
        operand.pack(stack, lanes, depth, Side::ByDepth(COLUMNS), &mut scratch[..COLUMNS * count]);
        // SAFETY: as above.
        unsafe { split_columns(scratch, whole, out) };
    }

    unsafe fn tile(
        depth: usize,
        (left, right): (&[u32], &[u32]),
        (out, pitch): (*mut f32, usize),
        (rows, columns): (usize, usize),
        end: End<'_>,
    ) {
        let steps = depth.div_ceil(STEP);
        assert!(left.len().min(right.len()) >= steps * 2 * PARTS * TILE);
        let mut sums = MaybeUninit::<Sums>::uninit();
        // SAFETY: both panels hold those steps; the caller began; all sums are written.
        let sums = unsafe {
            multiply(steps, left.as_ptr(), right.as_ptr(), sums.as_mut_ptr().cast());
            sums.assume_init_ref()
        };
        // SAFETY: the caller's promise; the machine has AVX-512.
        unsafe { finish(&sums.0, (out, pitch), (rows, columns), end) };
    }
}

/// Adds up the six products of each step. A step of a panel is its parts, largest first, each two tiles.
///
/// # Safety
/// Both panels hold the steps, the sums have room for four tiles, and the thread's tiles are configured.
unsafe fn multiply(steps: usize, left: *const u32, right: *const u32, sums: *mut f32) {
    // SAFETY: tiles are loaded from inside the panels alone, and stored to the four quarters of the sums, whose rows are
    // 32 numbers apart.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "test {steps}, {steps}", "jz 3f",
            "2:",
            "tileloadd tmm4, [{left} + {narrow}]", "tileloadd tmm5, [{left} + {narrow} + 1024]",
            "tileloadd tmm6, [{right} + {narrow} + 4096]", "tileloadd tmm7, [{right} + {narrow} + 5120]",
            "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm6, [{right} + {narrow} + 2048]", "tileloadd tmm7, [{right} + {narrow} + 3072]",
            "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{left} + {narrow} + 2048]", "tileloadd tmm5, [{left} + {narrow} + 3072]",
            "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm6, [{right} + {narrow}]", "tileloadd tmm7, [{right} + {narrow} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{left} + {narrow} + 4096]", "tileloadd tmm5, [{left} + {narrow} + 5120]",
            "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{left} + {narrow}]", "tileloadd tmm5, [{left} + {narrow} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left}, 6144", "add {right}, 6144", "dec {steps}", "jnz 2b",
            "3:",
            "tilestored [{sums} + {wide}], tmm0", "tilestored [{sums} + {wide} + 64], tmm1",
            "tilestored [{sums} + {wide} + 2048], tmm2", "tilestored [{sums} + {wide} + 2112], tmm3",
            left = inout(reg) left => _, right = inout(reg) right => _, steps = inout(reg) steps => _,
            narrow = in(reg) 64usize, wide = in(reg) 128usize, sums = in(reg) sums,
            options(nostack)
        );
    }
}

/// The three parts of sixteen floats, each in the upper half of its number.
#[target_feature(enable = "avx512f")]
fn parts(value: std::arch::x86_64::__m512) -> [__m512i; PARTS] {
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let mut rest = value;
    let mut out = [upper; PARTS];
    for part in &mut out {
        *part = _mm512_and_si512(_mm512_castps_si512(rest), upper);
        rest = _mm512_sub_ps(rest, _mm512_castsi512_ps(*part));
    }
    out
}

/// Two floats' parts side by side, the first in the lower half.
#[target_feature(enable = "avx512f")]
fn paired(first: [__m512i; PARTS], second: [__m512i; PARTS]) -> [__m512i; PARTS] {
    std::array::from_fn(|at| _mm512_or_si512(_mm512_srli_epi32::<16>(first[at]), second[at]))
}

/// Columns, `[depth][32]`: each row of a tile is a pair of depths.
#[target_feature(enable = "avx512f")]
fn split_columns(values: &[f32], depth: usize, out: &mut [u32]) {
    let steps = values.chunks_exact(STEP * COLUMNS).zip(out.chunks_exact_mut(2 * PARTS * TILE));
    for (values, out) in steps.take(depth / STEP) {
        for pair in 0..LANES {
            for half in 0..2 {
                let at = 2 * pair * COLUMNS + half * LANES;
                let (first, second) = (&values[at..at + LANES], &values[at + COLUMNS..at + COLUMNS + LANES]);
                // SAFETY: both slices have sixteen numbers.
                let [first, second] =
                    unsafe { [_mm512_loadu_ps(first.as_ptr()), _mm512_loadu_ps(second.as_ptr())] };
                for (part, value) in paired(parts(first), parts(second)).into_iter().enumerate() {
                    let place = &mut out[(2 * part + half) * TILE + pair * LANES..][..LANES];
                    // SAFETY: the slice has sixteen numbers.
                    unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), value) };
                }
            }
        }
    }
}

/// Rows, `[32][depth]`: each row of a tile is a row, its depths in pairs.
#[target_feature(enable = "avx512f,avx512bw")]
fn split_rows(values: &[f32], depth: usize, out: &mut [u32]) {
    use std::arch::x86_64::{_mm512_loadu_si512, _mm512_permutex2var_epi16};
    // Upper halves of 32 numbers in two vectors, in order.
    let order: [u16; 32] = std::array::from_fn(|at| (2 * at + 1) as u16);
    // SAFETY: 32 numbers of 16 bits.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    for row in 0..2 * LANES {
        let values = &values[row * depth..][..depth];
        for (step, values) in values.chunks_exact(STEP).enumerate() {
            let (first, second) = values.split_at(LANES);
            // SAFETY: both have sixteen numbers.
            let [first, second] =
                unsafe { [_mm512_loadu_ps(first.as_ptr()), _mm512_loadu_ps(second.as_ptr())] };
            let (first, second) = (parts(first), parts(second));
            for part in 0..PARTS {
                let value = _mm512_permutex2var_epi16(first[part], order, second[part]);
                let at = ((step * PARTS + part) * 2 + row / LANES) * TILE + row % LANES * LANES;
                let place = &mut out[at..at + LANES];
                // SAFETY: the slice has sixteen numbers.
                unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), value) };
            }
        }
    }
}
