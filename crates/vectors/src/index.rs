//! `words.index`: words to rows, probabilities, the common component, and digests of the vectors.
//!
//! All numbers are little-endian. A head of 56 bytes: `HSWORDS1`; rows (u64); dimension, precision (0: 32 bits, 1: 16),
//! bytes of a block, bytes of the longest word (u32 each); then how long what follows is: probabilities (0 or rows, u64),
//! component (0 or dimension, u64), words (bytes, u64). Then, without gaps: the BLAKE3 digest of each block of the
//! vectors (32 bytes each), probabilities (f32), component (f32), words: a finite-state transducer from UTF-8 to rows,
//! as the crate `fst` writes it.

use fst::Map;
use headstart_types::hex;
use sha2::{Digest as _, Sha256};

use crate::error::TableError;
use crate::rows::{BLOCK, Digest, Precision};

const MAGIC: &[u8; 8] = b"HSWORDS1";

const FILE: &str = "the index";

/// Most values of a vector: a bound on what a damaged head can ask for.
const MOST_DIMENSIONS: usize = 65_536;

/// What the index file holds.
pub struct Index {
    pub(crate) rows: usize,
    pub(crate) dimension: usize,
    pub(crate) precision: Precision,
    pub(crate) longest: usize,
    pub(crate) digests: Vec<Digest>,
    /// How likely each row's word is; empty where that is not known.
    pub(crate) probabilities: Vec<f32>,
    /// What all texts share, of unit length; empty where nothing is taken off.
    pub(crate) component: Vec<f32>,
    pub(crate) words: Map<Vec<u8>>,
}

impl Index {
    /// Words of the table.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// States how likely each row's word is, and the direction that is taken off every text; one value a row, and one a
    /// dimension or none.
    ///
    /// # Errors
    /// [`TableError::Format`] for lists of other lengths.
    pub fn with_sif(mut self, probabilities: Vec<f32>, component: Vec<f32>) -> Result<Self, TableError> {
        if probabilities.len() != self.rows || ![0, self.dimension].contains(&component.len()) {
            return Err(TableError::format(FILE, "probabilities or component of another length"));
        }
        (self.probabilities, self.component) = (probabilities, component);
        Ok(self)
    }

    /// The row of a word exactly as it is written.
    #[must_use]
    pub fn row(&self, word: &str) -> Option<u32> {
        if word.len() > self.longest {
            return None;
        }
        self.words.get(word).and_then(|row| u32::try_from(row).ok())
    }

    /// The file's bytes and their SHA-256 as lower-case hex.
    #[must_use]
    pub fn to_bytes(&self) -> (Vec<u8>, String) {
        let mut bytes = Vec::with_capacity(self.words.as_fst().as_bytes().len() + 40 * self.digests.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(self.rows as u64).to_le_bytes());
        for value in [self.dimension as u32, self.precision.code(), BLOCK as u32, self.longest as u32] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let words = self.words.as_fst().as_bytes();
        for length in [self.probabilities.len(), self.component.len(), words.len()] {
            bytes.extend_from_slice(&(length as u64).to_le_bytes());
        }
        bytes.extend(self.digests.iter().flatten());
        bytes.extend(self.probabilities.iter().chain(&self.component).flat_map(|value| value.to_le_bytes()));
        bytes.extend_from_slice(words);
        let sha256 = sha256(&bytes);
        (bytes, sha256)
    }

    /// Reads the file's bytes, once their SHA-256 has been compared.
    ///
    /// # Errors
    /// [`TableError::Checksum`] or [`TableError::Format`].
    pub(crate) fn parse(bytes: &[u8], (file, expected): (&str, &str)) -> Result<Self, TableError> {
        let found = sha256(bytes);
        if !found.eq_ignore_ascii_case(expected) {
            let expected = expected.to_owned();
            return Err(TableError::Checksum { file: file.to_owned(), found, expected });
        }
        let damaged = |problem: &str| TableError::format(file, problem);
        let mut rest = Reader(bytes);
        if rest.take(MAGIC.len()) != Some(MAGIC) {
            return Err(damaged("is not an index of words"));
        }
        let head = rest.head().ok_or_else(|| damaged("ends within its head"))?;
        let Head { rows, dimension, precision, block, longest, lengths: [probabilities, component, words] } =
            head;
        let precision = Precision::of_code(precision).ok_or_else(|| damaged("has an unknown precision"))?;
        let sizes_fit = (1..=MOST_DIMENSIONS).contains(&dimension)
            && u32::try_from(rows).is_ok()
            && block == BLOCK
            && [0, rows].contains(&probabilities)
            && [0, dimension].contains(&component);
        if !sizes_fit {
            return Err(damaged("has a head that contradicts itself"));
        }
        let blocks = (rows * dimension * precision.bytes()).div_ceil(BLOCK);
        let ends = || damaged("is shorter than its head says");
        let (digests, _) = rest.take(32 * blocks).ok_or_else(ends)?.as_chunks::<32>();
        let digests = digests.to_vec();
        let probabilities = rest.floats(probabilities).ok_or_else(ends)?;
        let component = rest.floats(component).ok_or_else(ends)?;
        let fst = rest.take(words).ok_or_else(ends)?.to_vec();
        if !rest.0.is_empty() {
            return Err(damaged("is longer than its head says"));
        }
        let words = Map::new(fst).map_err(|error| damaged(&error.to_string()))?;
        if words.len() != rows {
            return Err(damaged("has another number of words than of rows"));
        }
        Ok(Self { rows, dimension, precision, longest, digests, probabilities, component, words })
    }
}

struct Head {
    rows: usize,
    dimension: usize,
    precision: u32,
    block: usize,
    longest: usize,
    lengths: [usize; 3],
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        let value = self.take(8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)?;
        usize::try_from(value).ok()
    }

    fn head(&mut self) -> Option<Head> {
        Some(Head {
            rows: self.length()?,
            dimension: self.u32()? as usize,
            precision: self.u32()?,
            block: self.u32()? as usize,
            longest: self.u32()? as usize,
            lengths: [self.length()?, self.length()?, self.length()?],
        })
    }

    fn floats(&mut self, count: usize) -> Option<Vec<f32>> {
        let bytes = self.take(count.checked_mul(4)?)?;
        Some(bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
