//! An opened table: texts to words to one vector.

use std::borrow::Cow;
use std::path::Path;

use headstart_types::manifest::{Case, Split, WordsSpec};
use headstart_types::{Manifest, Truncate};

use crate::error::{InputError, TableError};
use crate::forms;
use crate::index::Index;
use crate::rows::Rows;
use crate::split::{self, Piece};

/// Stands for a word that the table does not have.
const UNKNOWN: u32 = u32::MAX;

/// An opened table.
pub struct Table {
    index: Index,
    rows: Rows,
    spec: WordsSpec,
    normalise: bool,
    unknown_row: Option<u32>,
}

/// A text's words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// Rows that make up the vector; unknown words have none unless the manifest names one for them.
    pub rows: Vec<u32>,
    /// Words used, unknown ones with them.
    pub count: usize,
    /// Words used that the table does not have.
    pub unknown: usize,
    /// Words that were cut off.
    pub truncated: usize,
}

impl Table {
    /// Opens the table of a folder: reads the index, compares its checksum with the manifest's, and maps the vectors.
    /// How long that takes depends on the number of words, not on the size of the vectors.
    ///
    /// # Errors
    /// [`TableError`] naming the file or field.
    pub fn open(folder: &Path, manifest: &Manifest) -> Result<Self, TableError> {
        let Some(spec) = &manifest.words else { return Err(TableError::format("words", "is missing")) };
        let path = folder.join(&manifest.backbone.file);
        let bytes = std::fs::read(&path).map_err(|source| TableError::File { path, source })?;
        let index = Index::parse(&bytes, (&manifest.backbone.file, &manifest.backbone.sha256))?;
        let features = manifest.output.features.as_ref();
        let features = features.ok_or_else(|| TableError::format("output.features", "is missing"))?;
        if features.dimension != index.dimension {
            let problem = format!("is {}, the table's is {}", features.dimension, index.dimension);
            return Err(TableError::format("output.features.dimension", problem));
        }
        Self::of(index, &folder.join(&spec.vectors), spec.clone(), features.normalise)
    }

    /// A table of an index that may not have been written yet, and vectors that have.
    ///
    /// # Errors
    /// [`TableError`] naming the file or field.
    pub fn of(index: Index, vectors: &Path, spec: WordsSpec, normalise: bool) -> Result<Self, TableError> {
        if spec.sif.is_some() && index.probabilities.is_empty() {
            return Err(TableError::format(
                "words.sif",
                "needs probabilities, which the index does not have",
            ));
        }
        let unknown_row = match &spec.unknown {
            Some(word) => Some(index.row(word).ok_or_else(|| {
                TableError::format("words.unknown", format!("is `{word}`, which the table does not have"))
            })?),
            None => None,
        };
        // Copied: the index stays whole, so that it can be written again.
        let digests = index.digests.clone();
        let rows = Rows::open(vectors, (index.rows, index.dimension), index.precision, digests)?;
        Ok(Self { index, rows, spec, normalise, unknown_row })
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The index alone; the vectors are let go.
    #[must_use]
    pub fn into_index(self) -> Index {
        self.index
    }

    /// Values of a vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.index.dimension
    }

    /// A text's words.
    ///
    /// # Errors
    /// [`InputError::TooLong`] with `Truncate::None`.
    pub fn read(&self, text: &str, truncate: Truncate) -> Result<Words, InputError> {
        let cased = match self.spec.case {
            Case::Keep => Cow::Borrowed(text),
            Case::Lower if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) => {
                Cow::Borrowed(text)
            }
            Case::Lower => Cow::Owned(text.to_lowercase()),
            Case::Upper => Cow::Owned(text.to_uppercase()),
        };
        let plain = if self.spec.split == Split::Space {
            cased
        } else {
            match split::plain_apostrophes(&cased) {
                Cow::Owned(plain) => Cow::Owned(plain),
                Cow::Borrowed(_) => cased,
            }
        };
        let row = |word: &str| forms::row(&self.index, &self.spec.otherwise, word);
        // English has about six bytes a word with its space.
        let mut rows = Vec::with_capacity(plain.len() / 6 + 2);
        if self.spec.phrase_words == 1 {
            split::split(&plain, self.spec.split, row, |piece| {
                if let Piece::Word(_, row) = piece {
                    rows.push(row.unwrap_or(UNKNOWN));
                }
            });
        } else {
            let mut pieces = Vec::with_capacity(plain.len() / 6 + 2);
            split::split(&plain, self.spec.split, row, |piece| pieces.push(piece));
            self.phrases(&pieces, &mut rows);
        }
        self.words(rows, truncate)
    }

    /// Words that the client looked up: rows from 0 in the order of the source, cut by the same rule.
    ///
    /// # Errors
    /// [`InputError::Empty`], [`InputError::Row`] for the first that is not there, [`InputError::TooLong`].
    pub fn from_rows(&self, ids: &[i64], truncate: Truncate) -> Result<Words, InputError> {
        if ids.is_empty() {
            return Err(InputError::Empty);
        }
        let known = |(index, &id): (usize, &i64)| {
            let row = u32::try_from(id).ok().filter(|row| (*row as usize) < self.index.rows);
            row.ok_or(InputError::Row { index, id, rows: self.index.rows })
        };
        self.words(ids.iter().enumerate().map(known).collect::<Result<_, _>>()?, truncate)
    }

    /// The vector of words, given by their rows: the mean, or as SIF weighs them without the common component; of unit length where the
    /// manifest says so, and zero for no words.
    ///
    /// # Errors
    /// [`TableError::Damaged`].
    pub fn embed(&self, rows: &[u32]) -> Result<Vec<f32>, TableError> {
        let mut vector = vec![0.0; self.index.dimension];
        match self.spec.sif {
            None => rows.iter().try_for_each(|row| self.rows.add(*row, 1.0, &mut vector))?,
            Some(sif) => {
                for row in rows {
                    let probability = self.index.probabilities.get(*row as usize).copied().unwrap_or(0.0);
                    let weight = sif.smoothing / (sif.smoothing + f64::from(probability));
                    self.rows.add(*row, weight as f32, &mut vector)?;
                }
            }
        }
        let mean = 1.0 / rows.len().max(1) as f32;
        vector.iter_mut().for_each(|value| *value *= mean);
        if self.spec.sif.is_some() && !self.index.component.is_empty() {
            let along = dot(&vector, &self.index.component);
            for (value, common) in vector.iter_mut().zip(&self.index.component) {
                *value -= (along * f64::from(*common)) as f32;
            }
        }
        if self.normalise {
            let norm = dot(&vector, &vector).sqrt();
            let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
            vector.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
        }
        Ok(vector)
    }

    /// Adds `weight` times a row to `sum`.
    pub(crate) fn add(&self, row: u32, weight: f32, sum: &mut [f32]) -> Result<(), TableError> {
        self.rows.add(row, weight, sum)
    }

    /// Looks up words in a row as one, the longest first.
    fn phrases(&self, pieces: &[Piece<'_>], rows: &mut Vec<u32>) {
        let mut at = 0;
        let mut joined = String::new();
        while let Some(piece) = pieces.get(at) {
            let Piece::Word(_, row) = piece else {
                at += 1;
                continue;
            };
            let run = pieces[at..].iter().map_while(|piece| match piece {
                Piece::Word(word, _) => Some(*word),
                Piece::Gap => None,
            });
            let run: Vec<&str> = run.take(self.spec.phrase_words).collect();
            let phrase = (2..=run.len()).rev().find_map(|length| {
                joined.clear();
                for (place, word) in run[..length].iter().enumerate() {
                    joined.push_str(if place > 0 { "_" } else { "" });
                    joined.push_str(word);
                }
                self.index.row(&joined).map(|row| (row, length))
            });
            let (row, length) = phrase.unwrap_or((row.unwrap_or(UNKNOWN), 1));
            rows.push(row);
            at += length;
        }
    }

    fn words(&self, mut rows: Vec<u32>, truncate: Truncate) -> Result<Words, InputError> {
        let max = self.spec.max_words;
        let truncated = rows.len().saturating_sub(max);
        match truncate {
            Truncate::None if truncated > 0 => {
                return Err(InputError::TooLong { words: rows.len(), max });
            }
            Truncate::None | Truncate::End => rows.truncate(max),
            Truncate::Start => drop(rows.drain(..truncated)),
        }
        let count = rows.len();
        let unknown = rows.iter().filter(|row| **row == UNKNOWN).count();
        if unknown > 0 {
            match self.unknown_row {
                Some(stand_in) => {
                    rows.iter_mut().filter(|row| **row == UNKNOWN).for_each(|row| *row = stand_in);
                }
                None => rows.retain(|row| *row != UNKNOWN),
            }
        }
        Ok(Words { rows, count, unknown, truncated })
    }
}

fn dot(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
}
