//! Products of matrices: panels of both sides are packed block by block of the depth, and multiplied tile by tile.
//!
//! Work is dealt out by tiles of the result; each is summed over its depth in one order, whatever the number of threads.
//! The scheme is that of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 2008.
#![expect(unsafe_code, reason = "threads write disjoint tiles of one result")]

use std::cell::RefCell;
use std::ops::Range;

use super::amx::Tiles;
use super::machine::{COLUMNS, Kind, Machine, Vectors, kind};
use super::operand::Operand;
use super::tile::End;

/// Depth that is packed at a time. By measurement, with [`ROWS`]: 256 by 384, 512 by 256 and 512 by 384 are up to a fifth slower.
const DEEP: usize = 384;

/// Rows that are packed at a time: with that depth they stay in the second cache.
const ROWS: usize = 256;

/// Whoever runs parts of some work on several threads: `run(parts, part)` calls `part` once with each number below `parts`.
pub(super) trait Threads {
    /// How many there are.
    fn count(&self) -> usize;

    /// Runs all parts.
    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync));
}

/// A product of `rows` by `columns`, for each of a stack.
pub(super) struct Product<'a> {
    pub(super) left: &'a dyn Operand,
    pub(super) right: &'a dyn Operand,
    /// Products in the stack, each with its own right side and result.
    pub(super) stack: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    /// Added to each row.
    pub(super) by_row: Option<&'a [f32]>,
    /// Added to each column.
    pub(super) by_column: Option<&'a [f32]>,
    /// Whether the result is added to what is there.
    pub(super) add: bool,
    /// Between which numbers the result is kept.
    pub(super) bounds: Option<[f32; 2]>,
}

/// Where the tiles of a result go.
#[derive(Clone, Copy)]
struct Target(*mut f32);

// SAFETY: parts write disjoint places, see `Product::part`.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// What a thread packs into.
#[derive(Default)]
struct Packed<T> {
    /// Rows.
    left: Vec<T>,
    /// A panel of columns.
    right: Vec<T>,
    /// A panel on its way.
    scratch: Vec<f32>,
}

thread_local! {
    static VECTORS: RefCell<Packed<f32>> = RefCell::default();
    static TILES: RefCell<Packed<u32>> = RefCell::default();
}

impl Product<'_> {
    /// Computes the product into `out`, row by row, one result of the stack after another.
    ///
    /// # Panics
    /// Where `out` has another size.
    pub(super) fn run(&self, out: &mut [f32], threads: &impl Threads) {
        assert_eq!(out.len(), self.stack * self.rows * self.columns, "the result's size");
        if out.is_empty() {
            return;
        }
        let target = Target(out.as_mut_ptr());
        match kind() {
            Kind::Tiles => self.deal::<Tiles>(target, threads, &TILES),
            Kind::Vectors | Kind::Neither => self.deal::<Vectors>(target, threads, &VECTORS),
        }
    }

    /// Deals tiles out to threads.
    fn deal<M: Machine>(
        &self,
        target: Target,
        threads: &impl Threads,
        packed: &'static std::thread::LocalKey<RefCell<Packed<M::Item>>>,
    ) {
        // Panels of rows, and of the columns of all results.
        let (high, wide) = (self.rows.div_ceil(M::ROWS), self.stack * self.columns.div_ceil(COLUMNS));
        let [down, across] = grid([high, wide], M::ROWS, threads.count());
        threads.run(down * across, &|part| {
            let share = |count: usize, of: usize, at: usize| count * at / of..count * (at + 1) / of;
            let rows = share(high, down, part / across);
            let rows = rows.start * M::ROWS..(rows.end * M::ROWS).min(self.rows);
            M::begin();
            packed.with_borrow_mut(|packed| {
                self.part::<M>(rows, share(wide, across, part % across), packed, target);
            });
            M::end();
        });
    }

    /// Computes some rows of some panels of columns.
    fn part<M: Machine>(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        packed: &mut Packed<M::Item>,
        target: Target,
    ) {
        let most = ROWS.min(rows.len()).next_multiple_of(M::ROWS);
        let deep = DEEP.min(self.depth);
        let left = aligned(&mut packed.left, most / M::ROWS * M::size(M::ROWS, deep));
        let right = aligned(&mut packed.right, M::size(COLUMNS, deep));
        let scratch = aligned(&mut packed.scratch, COLUMNS.max(M::ROWS) * (DEEP + COLUMNS));
        for start in rows.clone().step_by(ROWS) {
            let rows = start..(start + ROWS).min(rows.end);
            // A depth of 0 still makes a result.
            for k in (0..self.depth.max(1)).step_by(DEEP) {
                let depth = k..(k + DEEP).min(self.depth);
                let size = M::size(M::ROWS, depth.len());
                for (at, row) in rows.clone().step_by(M::ROWS).enumerate() {
                    let lanes = row..(row + M::ROWS).min(rows.end);
                    M::pack_left(self.left, lanes, depth.clone(), scratch, &mut left[at * size..][..size]);
                }
                for panel in panels.clone() {
                    self.panel::<M>((rows.clone(), panel), depth.clone(), (left, right, scratch), target);
                }
            }
        }
    }

    /// Adds one block of depth to one panel of columns.
    fn panel<M: Machine>(
        &self,
        (rows, panel): (Range<usize>, usize),
        depth: Range<usize>,
        (left, right, scratch): (&[M::Item], &mut [M::Item], &mut [f32]),
        target: Target,
    ) {
        let each = self.columns.div_ceil(COLUMNS);
        let (stack, first) = (panel / each, panel % each * COLUMNS);
        let columns = first..(first + COLUMNS).min(self.columns);
        let right = &mut right[..M::size(COLUMNS, depth.len())];
        M::pack_right((self.right, stack), columns.clone(), depth.clone(), scratch, right);
        let (begins, ends) = (depth.start == 0, depth.end >= self.depth);
        let size = M::size(M::ROWS, depth.len());
        for (at, row) in rows.clone().step_by(M::ROWS).enumerate() {
            let count = M::ROWS.min(rows.end - row);
            let end = End {
                by_row: self.by_row.filter(|_| begins).map(|bias| &bias[row..row + count]),
                by_column: self.by_column.filter(|_| begins).map(|bias| &bias[columns.clone()]),
                add: self.add || !begins,
                bounds: self.bounds.filter(|_| ends),
            };
            let left = &left[at * size..][..size];
            let place = (stack * self.rows + row) * self.columns + first;
            // SAFETY: the tile lies in the result, whose size `run` checked, and no other part has these rows and columns.
            unsafe {
                let out = target.0.add(place);
                M::tile(depth.len(), (left, right), (out, self.columns), (count, columns.len()), end);
            }
        }
    }
}

/// So many items of a buffer, from the start of a line of the cache.
fn aligned<T: Copy + Default>(buffer: &mut Vec<T>, count: usize) -> &mut [T] {
    const LINE: usize = 64;
    if buffer.len() < count + LINE {
        buffer.resize(count + LINE, T::default());
    }
    let skip = buffer.as_ptr().align_offset(LINE).min(LINE);
    &mut buffer[skip..skip + count]
}

/// Into how many parts rows and columns are cut: as few as give every thread one, the longer side first.
fn grid([high, wide]: [usize; 2], rows: usize, threads: usize) -> [usize; 2] {
    let threads = threads.max(1);
    let columns_longer = wide * COLUMNS >= high * rows;
    let first = if columns_longer { wide.min(threads) } else { high.min(threads) };
    let second = if columns_longer { high } else { wide }.min(threads / first.max(1)).max(1);
    if columns_longer { [second, first] } else { [first, second] }
}
