//! A new file as ranges of an old one and bytes of its own.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;

use crate::error::OnnxError;

/// A piece of the new file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes that the old file does not have.
    New(Vec<u8>),
    /// Bytes of the old file.
    Old(Range<u64>),
}

impl Part {
    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::New(bytes) => bytes.len() as u64,
            Self::Old(range) => range.end.saturating_sub(range.start),
        }
    }
}

/// A file to be written: its parts in order. It holds no weights of the old file, only their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembly {
    parts: Vec<Part>,
}

impl Assembly {
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// The parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The parts, in order.
    #[must_use]
    pub fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    /// The new file's length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// Writes the new file, reading from the old one piece by piece.
    ///
    /// # Errors
    /// [`OnnxError::Read`] for either file, and when the old one has become shorter.
    pub fn write(&self, old: &mut (impl Read + Seek), new: &mut impl Write) -> Result<(), OnnxError> {
        for part in &self.parts {
            match part {
                Part::New(bytes) => new.write_all(bytes)?,
                Part::Old(range) => {
                    old.seek(SeekFrom::Start(range.start))?;
                    let copied = std::io::copy(&mut old.take(part.bytes()), new)?;
                    if copied != part.bytes() {
                        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                    }
                }
            }
        }
        Ok(new.flush()?)
    }
}
