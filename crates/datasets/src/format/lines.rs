//! Lines of bounded length from a stream.

use std::io::{self, BufRead};

/// One line, or the sign that it was too long to keep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The line is in the buffer, without its end.
    Whole,
    /// The line was longer than allowed and has been passed over.
    TooLong,
}

/// Lines with their numbers and byte offsets.
pub(crate) struct Lines<R> {
    reader: R,
    /// Bytes kept of a line at most.
    most: usize,
    /// The number of the last line, from 1.
    pub(crate) number: u64,
    /// Where the last line begins, in bytes.
    pub(crate) start: u64,
    next_start: u64,
}

impl<R: BufRead> Lines<R> {
    /// `offset` is where the reader stands in its stream.
    pub(crate) fn new(reader: R, most: usize, offset: u64) -> Self {
        Self { reader, most, number: 0, start: offset, next_start: offset }
    }

    /// Where the last line ends, its line end included.
    pub(crate) fn end(&self) -> u64 {
        self.next_start
    }

    /// The next line, into `buffer`; `None` at the end.
    pub(crate) fn next(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Line>> {
        buffer.clear();
        self.start = self.next_start;
        let mut outcome = Line::Whole;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = memchr::memchr(b'\n', available);
            let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
            if buffer.len() + part.len() > self.most {
                outcome = Line::TooLong;
                buffer.clear();
            }
            if outcome == Line::Whole {
                buffer.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            self.next_start += used as u64;
            if end.is_some() || used == 0 {
                break;
            }
        }
        if self.next_start == self.start {
            return Ok(None);
        }
        self.number += 1;
        if buffer.last() == Some(&b'\r') {
            buffer.pop();
        }
        Ok(Some(outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_with_numbers_and_offsets_however_the_stream_is_cut() {
        let text = b"one\r\n\nthree is long\nfour";
        for capacity in [1, 2, 5, 64] {
            let reader = io::BufReader::with_capacity(capacity, &text[..]);
            let (mut lines, mut buffer, mut seen) = (Lines::new(reader, 8, 3), Vec::new(), Vec::new());
            while let Some(line) = lines.next(&mut buffer).unwrap() {
                seen.push((lines.number, lines.start, line, String::from_utf8(buffer.clone()).unwrap()));
            }
            let want = [
                (1, 3, Line::Whole, "one".to_owned()),
                (2, 8, Line::Whole, String::new()),
                (3, 9, Line::TooLong, String::new()),
                (4, 23, Line::Whole, "four".to_owned()),
            ];
            assert_eq!(seen, want, "{capacity}");
        }
    }
}
