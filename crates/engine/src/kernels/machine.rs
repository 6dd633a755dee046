//! The processor's way of multiplying panels, chosen once a process.
#![expect(unsafe_code, reason = "a tile is written through a pointer, as others write beside it")]

use std::ops::Range;
use std::sync::OnceLock;

use super::operand::{Operand, Side};
use super::tile::{End, HIGH, WIDE, tile};

/// Columns of every tile.
pub(super) const COLUMNS: usize = WIDE;

/// A way of multiplying panels.
pub(super) trait Machine {
    /// What packed panels are made of.
    type Item: Copy + Default + 'static;

    /// Rows of a tile.
    const ROWS: usize;

    /// Items of a packed panel of so many lanes.
    fn size(lanes: usize, depth: usize) -> usize;

    /// Called on a thread before it multiplies, and after.
    fn begin();

    /// See [`Machine::begin`].
    fn end();

    /// Packs a panel of rows, at most [`Machine::ROWS`].
    fn pack_left(
        operand: &dyn Operand,
        lanes: Range<usize>,
        depth: Range<usize>,
        scratch: &mut [f32],
        out: &mut [Self::Item],
    );

    /// Packs a panel of columns, at most [`COLUMNS`], of one matrix of the stack.
    fn pack_right(
        operand: (&dyn Operand, usize),
        lanes: Range<usize>,
        depth: Range<usize>,
        scratch: &mut [f32],
        out: &mut [Self::Item],
    );

    /// Multiplies two panels: `out[row * pitch + column]` for `rows` by `columns`.
    ///
    /// # Safety
    /// `out` must be writable for those rows and columns, and the calling thread between `begin` and `end`.
    unsafe fn tile(
        depth: usize,
        panels: (&[Self::Item], &[Self::Item]),
        out: (*mut f32, usize),
        sizes: (usize, usize),
        end: End<'_>,
    );
}

/// Vectors of 32-bit floats.
pub(super) struct Vectors;

impl Machine for Vectors {
    type Item = f32;

    const ROWS: usize = HIGH;

    fn size(lanes: usize, depth: usize) -> usize {
        lanes * depth
    }

    fn begin() {}

    fn end() {}

    fn pack_left(
        operand: &dyn Operand,
        lanes: Range<usize>,
        depth: Range<usize>,
        _scratch: &mut [f32],
        out: &mut [f32],
    ) {
        operand.pack(0, lanes, depth, Side::ByDepth(HIGH), out);
    }

    fn pack_right(
        (operand, stack): (&dyn Operand, usize),
        lanes: Range<usize>,
        depth: Range<usize>,
        _scratch: &mut [f32],
        out: &mut [f32],
    ) {
        operand.pack(stack, lanes, depth, Side::ByDepth(WIDE), out);
    }

    unsafe fn tile(
        depth: usize,
        panels: (&[f32], &[f32]),
        out: (*mut f32, usize),
        sizes: (usize, usize),
        end: End<'_>,
    ) {
        // SAFETY: the caller's promise; these kernels are only offered where the processor has AVX-512, see `kind`.
        unsafe { tile(depth, panels, out, sizes, end) }
    }
}

/// What this machine multiplies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Tiles of 16-bit floats (AMX), three of which make a 32-bit one.
    Tiles,
    /// Vectors of 32-bit floats (AVX-512).
    Vectors,
    /// Neither: nothing here is faster than the runtime's own kernels.
    Neither,
}

#[cfg(test)]
thread_local! {
    /// What a test has products of this thread multiply with.
    pub(super) static FORCED: std::cell::Cell<Option<Kind>> = const { std::cell::Cell::new(None) };
}

/// What this machine multiplies with.
pub(super) fn kind() -> Kind {
    #[cfg(test)]
    if let Some(forced) = FORCED.get() {
        return forced;
    }
    static KIND: OnceLock<Kind> = OnceLock::new();
    *KIND.get_or_init(|| match is_x86_feature_detected!("avx512f") {
        true if super::amx::permitted() => Kind::Tiles,
        true => Kind::Vectors,
        false => Kind::Neither,
    })
}
