//! Making a table: vectors are written as they come, words are kept until the end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use fst::MapBuilder;
use half::f16;

use crate::error::TableError;
use crate::index::Index;
use crate::rows::{BLOCK, Digest, Precision};

/// A table in the making.
pub struct Builder {
    path: PathBuf,
    file: BufWriter<File>,
    dimension: usize,
    precision: Precision,
    words: HashMap<Box<str>, u32>,
    /// The bytes of the block that is not full yet.
    block: Vec<u8>,
    digests: Vec<Digest>,
}

/// What became of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It has the next row.
    Row(u32),
    /// It was there before: the first vector stays.
    Repeated,
}

impl Builder {
    /// Begins the file of vectors, which must not be there.
    ///
    /// # Errors
    /// [`TableError::File`], or [`TableError::Format`] for a dimension of zero.
    pub fn create(path: &Path, dimension: usize, precision: Precision) -> Result<Self, TableError> {
        if dimension == 0 {
            return Err(TableError::format("the source", "has vectors without values"));
        }
        let file =
            File::create_new(path).map_err(|source| TableError::File { path: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
            dimension,
            precision,
            words: HashMap::new(),
            block: Vec::with_capacity(BLOCK),
            digests: Vec::new(),
        })
    }

    /// Adds a word with its vector.
    ///
    /// # Errors
    /// [`TableError::Vector`] for another number of values or one that is not finite at the table's precision,
    /// [`TableError::File`].
    pub fn push(&mut self, word: &str, vector: &[f32]) -> Result<Added, TableError> {
        let refuse = |problem: String| Err(TableError::Vector { word: word.to_owned(), problem });
        if vector.len() != self.dimension {
            return refuse(format!("has {} values, those before it {}", vector.len(), self.dimension));
        }
        let finite = |value: &f32| match self.precision {
            Precision::F32 => value.is_finite(),
            Precision::F16 => f16::from_f32(*value).is_finite(),
        };
        if let Some(value) = vector.iter().find(|value| !finite(value)) {
            return refuse(format!("holds {value}, which cannot be kept"));
        }
        let row = u32::try_from(self.words.len()).ok().filter(|row| *row < u32::MAX);
        let Some(row) = row else { return refuse("is one too many: 4,294,967,295 words are taken".into()) };
        match self.words.entry(word.into()) {
            Entry::Occupied(_) => return Ok(Added::Repeated),
            Entry::Vacant(vacant) => vacant.insert(row),
        };
        for value in vector {
            match self.precision {
                Precision::F32 => self.block.extend_from_slice(&value.to_le_bytes()),
                Precision::F16 => self.block.extend_from_slice(&f16::from_f32(*value).to_le_bytes()),
            }
        }
        while self.block.len() >= BLOCK {
            let rest = self.block.split_off(BLOCK);
            self.write_block()?;
            self.block = rest;
        }
        Ok(Added::Row(row))
    }

    /// Words so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.words.len()
    }

    /// Ends the file of vectors, durable and read-only, and gives the index to be written beside it.
    ///
    /// # Errors
    /// [`TableError::File`], or [`TableError::Format`] for a table without words.
    pub fn finish(mut self) -> Result<Index, TableError> {
        if self.words.is_empty() {
            return Err(TableError::format("the source", "has no words"));
        }
        self.write_block()?;
        let path = self.path.clone();
        let failed = |source| TableError::File { path: path.clone(), source };
        self.file.flush().map_err(failed)?;
        let file = self.file.get_ref();
        file.sync_all().map_err(failed)?;
        let mut permissions = file.metadata().map_err(failed)?.permissions();
        permissions.set_readonly(true);
        file.set_permissions(permissions).map_err(failed)?;

        let rows = self.words.len();
        let longest = self.words.keys().map(|word| word.len()).max().unwrap_or(0);
        let mut words: Vec<(Box<str>, u32)> = self.words.into_iter().collect();
        words.sort_unstable();
        let mut builder = MapBuilder::memory();
        let unwritable = |error: fst::Error| TableError::format("the index", error.to_string());
        for (word, row) in words {
            builder.insert(word.as_bytes(), u64::from(row)).map_err(unwritable)?;
        }
        let words = builder.into_inner().and_then(fst::Map::new).map_err(unwritable)?;
        Ok(Index {
            rows,
            dimension: self.dimension,
            precision: self.precision,
            longest,
            digests: self.digests,
            probabilities: Vec::new(),
            component: Vec::new(),
            words,
        })
    }

    fn write_block(&mut self) -> Result<(), TableError> {
        if !self.block.is_empty() {
            self.digests.push(*blake3::hash(&self.block).as_bytes());
            let source = self.file.write_all(&self.block);
            source.map_err(|source| TableError::File { path: self.path.clone(), source })?;
            self.block.clear();
        }
        Ok(())
    }
}
