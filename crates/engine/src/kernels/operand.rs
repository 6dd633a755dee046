//! What products are made of: matrices as they lie in memory, read into panels.

use std::ops::Range;

use super::machine::COLUMNS;
use super::simd::{LANES, turn};

/// One side of a product: lanes (its rows on the left, its columns on the right) by depth, one such matrix for each of a
/// stack.
pub(super) trait Operand: Sync {
    /// Writes a run of lanes and of depth; `out` is filled, with 0 beyond them.
    fn pack(&self, stack: usize, lanes: Range<usize>, depth: Range<usize>, side: Side, out: &mut [f32]);
}

/// In which order a panel is written.
#[derive(Clone, Copy)]
pub(super) enum Side {
    /// `out[k * width + lane]`.
    ByDepth(usize),
    /// `out[lane * pitch + k]`.
    ByLane(usize),
}

/// A matrix in memory.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    /// Distance of neighbours along the lanes, and along the depth: one of them is 1.
    strides: [usize; 2],
    /// Distance of one matrix of the stack to the next; 0 where all are the same.
    stack: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `width` numbers; `lanes_in_rows` where a row holds the lanes of one depth.
    pub(super) fn new(values: &'a [f32], width: usize, lanes_in_rows: bool) -> Self {
        Self { values, strides: if lanes_in_rows { [1, width] } else { [width, 1] }, stack: 0 }
    }

    /// One matrix after another.
    pub(super) fn stacked(self, stack: usize) -> Self {
        Self { stack, ..self }
    }
}

impl Operand for Matrix<'_> {
    fn pack(&self, stack: usize, lanes: Range<usize>, depth: Range<usize>, side: Side, out: &mut [f32]) {
        if depth.is_empty() {
            return out.fill(0.0);
        }
        let values = &self.values[stack * self.stack..];
        let [lane, deep] = self.strides;
        // Runs in memory, of which the panel's rows are made, or its columns.
        let (runs, inside, pitch) = match (lane, side) {
            (1, _) => (depth.clone(), lanes.clone(), deep),
            _ => (lanes.clone(), depth.clone(), lane),
        };
        let values = &values[runs.start * pitch + inside.start..];
        let (width, along) = match side {
            Side::ByDepth(width) => (width, lane == 1),
            Side::ByLane(pitch) => (pitch, lane != 1),
        };
        if along {
            // A run may be longer than the pitch where there is but one: a list is a matrix of either kind.
            for (run, to) in out.chunks_exact_mut(width).take(runs.len()).enumerate() {
                copy_run(&values[run * pitch..][..inside.len()], to);
            }
            out[runs.len() * width..].fill(0.0);
        } else {
            turn_all(values, pitch, [runs.len(), inside.len()], width, out);
            out[inside.len() * width..].fill(0.0);
        }
    }
}

/// Copies a run, and fills up with 0.
fn copy_run(run: &[f32], out: &mut [f32]) {
    // Most panels' rows are whole: their copy is two loads and stores, and no call.
    match (run.first_chunk::<COLUMNS>(), out.first_chunk_mut::<COLUMNS>()) {
        (Some(from), Some(to)) if run.len() == COLUMNS => *to = *from,
        _ => out[..run.len()].copy_from_slice(run),
    }
    out[run.len()..].fill(0.0);
}

/// `out[k * width + lane] = rows[lane * pitch + k]`, and 0 for lanes up to the width.
pub(super) fn turn_all(
    rows: &[f32],
    pitch: usize,
    [lanes, depth]: [usize; 2],
    width: usize,
    out: &mut [f32],
) {
    let whole = [lanes - lanes % LANES, depth - depth % LANES];
    for first in (0..whole[0]).step_by(LANES) {
        for k in (0..whole[1]).step_by(LANES) {
            turn(&rows[first * pitch + k..], pitch, &mut out[k * width + first..], width);
        }
    }
    for lane in 0..lanes {
        let from = if lane < whole[0] { whole[1] } else { 0 };
        for (k, value) in rows[lane * pitch..][..depth].iter().enumerate().skip(from) {
            out[k * width + lane] = *value;
        }
    }
    if lanes < width {
        out.chunks_exact_mut(width).take(depth).for_each(|row| row[lanes..].fill(0.0));
    }
}
