//! The bytes of an upload: one handle, read from many places at once.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::file::reader::{ChunkReader, Length};

use crate::format::HandleFailed;

/// What an upload lies in.
pub trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// An upload. Clones share the handle; each reader keeps its own position.
#[derive(Clone)]
pub struct Source {
    handle: Arc<Mutex<Box<dyn ReadSeek>>>,
    length: u64,
    name: Arc<str>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Source").field("name", &self.name).field("length", &self.length).finish()
    }
}

impl Source {
    /// An upload under the name it came with, which decides only what the content leaves open.
    ///
    /// # Errors
    /// Those of seeking to the end.
    pub fn new(mut handle: impl Read + Seek + Send + 'static, name: &str) -> io::Result<Self> {
        let length = handle.seek(SeekFrom::End(0))?;
        Ok(Self { handle: Arc::new(Mutex::new(Box::new(handle))), length, name: name.into() })
    }

    /// Bytes as stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.length
    }

    /// The name it came with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the name ends like this, in any case; `ending` is in lower case, with its dot.
    pub(crate) fn is_named(&self, endings: &[&str]) -> bool {
        let name = self.name.to_ascii_lowercase();
        endings.iter().any(|ending| name.ends_with(ending))
    }

    /// A reader that starts at a place.
    pub(crate) fn reader_at(&self, position: u64) -> SourceReader {
        SourceReader { source: self.clone(), position }
    }

    /// The first bytes, fewer where the file is shorter.
    pub(crate) fn head(&self, bytes: u64) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.reader_at(0).take(bytes).read_to_end(&mut head)?;
        Ok(head)
    }
}

/// A place in an upload. Unbuffered.
#[derive(Debug, Clone)]
pub(crate) struct SourceReader {
    source: Source,
    position: u64,
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A reader that panicked left a position behind, which is set anew here.
        let mut handle = self.source.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: io::Error| io::Error::new(error.kind(), HandleFailed(error));
        handle.seek(SeekFrom::Start(self.position)).map_err(failed)?;
        let read = handle.read(buffer).map_err(failed)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for SourceReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.source.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// An upload as the Parquet reader wants it.
pub(crate) struct Chunks(pub(crate) Source);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.length
    }
}

impl ChunkReader for Chunks {
    type T = io::BufReader<SourceReader>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(io::BufReader::new(self.0.reader_at(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let short = || parquet::errors::ParquetError::EOF("a part lies beyond the end of the file".into());
        // Checked first: the length comes from the file, and memory is taken for it.
        if start.checked_add(length as u64).is_none_or(|end| end > self.0.length) {
            return Err(short());
        }
        let mut bytes = Vec::with_capacity(length);
        self.0.reader_at(start).take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length { Err(short()) } else { Ok(bytes.into()) }
    }
}
