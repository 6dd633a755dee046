//! Bytes copied but for some pieces.

use std::io::{self, Read, Write};

use crate::format::Piece;

/// What a piece leaves behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// As many line ends as it had, so that every other row keeps its line.
    LineEnds,
}

/// Copies a stream without pieces, which are in order and do not overlap.
pub(super) fn cut(from: &mut dyn Read, to: &mut dyn Write, pieces: &[Piece], left: Left) -> io::Result<()> {
    let mut at = 0;
    for piece in pieces {
        io::copy(&mut (&mut *from).take(piece.start.saturating_sub(at)), to)?;
        let mut lines = LineEnds(0);
        io::copy(&mut (&mut *from).take(piece.end.saturating_sub(piece.start)), &mut lines)?;
        if left == Left::LineEnds {
            io::copy(&mut io::repeat(b'\n').take(lines.0), to)?;
        }
        at = piece.end;
    }
    io::copy(from, to).map(drop)
}

/// Counts line ends.
struct LineEnds(u64);

impl Write for LineEnds {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += memchr::memchr_iter(b'\n', bytes).count() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
