//! A reader that remembers what it gave since a mark, up to a limit.

use std::io::{self, Read};

use crate::Code;
use crate::draft::Fault;

/// Read-ahead of the parser behind the tape, in bytes.
const READ_AHEAD: usize = 256 << 10;

/// Keeps the raw bytes of the record that is being parsed, so that faults can name exact offsets, and refuses a
/// record that does not end: a quote that is never closed would otherwise pull the whole file into memory.
pub(crate) struct Tape<R> {
    inner: R,
    kept: Vec<u8>,
    /// Where `kept` begins in the stream.
    base: u64,
    /// Bytes up to here are of no more use.
    mark: u64,
    most: usize,
    ended: bool,
}

impl<R: Read> Tape<R> {
    pub(crate) fn new(inner: R, most: usize) -> Self {
        Self { inner, kept: Vec::new(), base: 0, mark: 0, most, ended: false }
    }

    /// Whether all was given, and more was asked for.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// What was given between two offsets of the stream, as far as it is still kept.
    pub(crate) fn between(&self, start: u64, end: u64) -> &[u8] {
        let at = |offset: u64| usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.kept.get(at(start)..at(end)).unwrap_or_default()
    }

    /// Gives up what lies before an offset.
    pub(crate) fn forget_before(&mut self, offset: u64) {
        self.mark = offset;
        let dead = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(0).min(self.kept.len());
        // Moving the rest down costs; it is done once for many records.
        if dead > READ_AHEAD {
            self.kept.drain(..dead);
            self.base += dead as u64;
        }
    }
}

impl<R: Read> Read for Tape<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let open = (self.base + self.kept.len() as u64).saturating_sub(self.mark);
        if open > (self.most + READ_AHEAD) as u64 {
            let message = format!(
                "the record has more than {} bytes; a quote that is not closed makes one of all that follows",
                self.most
            );
            return Err(Fault::new(Code::LineTooLong, message).into());
        }
        let read = self.inner.read(buffer)?;
        self.ended |= read == 0 && !buffer.is_empty();
        self.kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}
