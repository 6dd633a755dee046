//! Why a table cannot be opened, read or made, and why an input was refused.

use std::path::PathBuf;

/// Why a table cannot be opened, read or made.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The system's reason.
    #[error("{path} cannot be read or written: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The index is not the file that the manifest speaks of.
    #[error("{file}: sha-256 is {found}, `backbone.sha256` says {expected}")]
    Checksum {
        /// The file's name.
        file: String,
        /// What it hashes to.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// The files contradict themselves, each other or the manifest.
    #[error("{file}: {problem}")]
    Format {
        /// The file's name, or the manifest's field.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A part of the vectors is not what the index says.
    #[error("block {block} of the vectors is damaged: its digest is not the index's")]
    Damaged {
        /// Its place, from 0.
        block: usize,
    },
    /// A word's vector cannot be kept.
    #[error("the vector of `{word}` {problem}")]
    Vector {
        /// The word.
        word: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl TableError {
    pub(crate) fn format(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Format { file: file.into(), problem: problem.into() }
    }
}

/// Why an input was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// More words than are taken, where none may be cut.
    #[error("the input has {words} words; the model takes at most {max}")]
    TooLong {
        /// Words of the input.
        words: usize,
        /// Words that are taken.
        max: usize,
    },
    /// A row that the table does not have.
    #[error("word {id} at index {index} is outside the table of {rows} words")]
    Row {
        /// Place in the list, from 0.
        index: usize,
        /// The row given.
        id: i64,
        /// Rows of the table.
        rows: usize,
    },
    /// A list of rows without any.
    #[error("the list of words is empty")]
    Empty,
}
