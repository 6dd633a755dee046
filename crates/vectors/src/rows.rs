//! The vectors, row after row in a mapped file, each block compared with its digest when it is first read.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use half::f16;
use memmap2::Mmap;

use crate::error::TableError;
use crate::map::map;

/// Bytes of a block: short enough that its first reader hardly waits, long enough that digests take little room.
pub(crate) const BLOCK: usize = 64 << 10;

/// A block's digest.
pub(crate) type Digest = [u8; 32];

/// How a value is written; always little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits, IEEE 754.
    F32,
    /// 16 bits, IEEE 754.
    F16,
}

impl Precision {
    /// Bytes of a value.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    pub(crate) fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
        }
    }

    pub(crate) fn of_code(code: u32) -> Option<Self> {
        [Self::F32, Self::F16].into_iter().find(|precision| precision.code() == code)
    }
}

/// Mapped vectors.
pub(crate) struct Rows {
    map: Mmap,
    row_bytes: usize,
    precision: Precision,
    digests: Vec<Digest>,
    /// Blocks whose digest was right. Two readers may both compare a block: that costs time alone.
    checked: Vec<AtomicBool>,
}

impl Rows {
    /// Maps `rows` vectors of `dimension` values.
    pub(crate) fn open(
        path: &Path,
        (rows, dimension): (usize, usize),
        precision: Precision,
        digests: Vec<Digest>,
    ) -> Result<Self, TableError> {
        let row_bytes = dimension * precision.bytes();
        let length = rows * row_bytes;
        if digests.len() != length.div_ceil(BLOCK) {
            let problem = format!("has {} digests for {length} bytes of vectors", digests.len());
            return Err(TableError::format("the index", problem));
        }
        let map = map(path, length as u64)
            .map_err(|source| TableError::File { path: path.to_path_buf(), source })?;
        let checked = digests.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self { map, row_bytes, precision, digests, checked })
    }

    /// Adds `weight` times a row to `sum`.
    ///
    /// # Errors
    /// [`TableError::Damaged`].
    pub(crate) fn add(&self, row: u32, weight: f32, sum: &mut [f32]) -> Result<(), TableError> {
        let start = row as usize * self.row_bytes;
        let range = start..start + self.row_bytes;
        self.check(&range)?;
        let bytes = self.map.get(range).ok_or(TableError::Damaged { block: start / BLOCK })?;
        match self.precision {
            Precision::F32 => {
                for (sum, value) in sum.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *sum += weight * f32::from_le_bytes(*value);
                }
            }
            Precision::F16 => {
                for (sum, value) in sum.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *sum += weight * f16::from_le_bytes(*value).to_f32();
                }
            }
        }
        Ok(())
    }

    fn check(&self, range: &Range<usize>) -> Result<(), TableError> {
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            if !self.checked.get(block).is_some_and(|checked| checked.load(Ordering::Relaxed)) {
                self.compare(block)?;
            }
        }
        Ok(())
    }

    #[cold]
    fn compare(&self, block: usize) -> Result<(), TableError> {
        let start = (block * BLOCK).min(self.map.len());
        let bytes = &self.map[start..(start + BLOCK).min(self.map.len())];
        match (self.digests.get(block), self.checked.get(block)) {
            (Some(digest), Some(checked)) if blake3::hash(bytes).as_bytes() == digest => {
                checked.store(true, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(TableError::Damaged { block }),
        }
    }
}
