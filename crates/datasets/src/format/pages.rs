//! What the page headers of a Parquet column state, read before any page is unpacked.
//!
//! The decoder takes memory for what a page header states, up to 2 GiB, before it looks at the page. A footer and its
//! pages may disagree; only a walk over the headers tells. Source: the Parquet format's `PageHeader`, in Thrift's compact
//! protocol.

use std::io::{self, BufReader, Read};

use crate::Code;
use crate::draft::Fault;
use crate::source::SourceReader;

/// Most bytes of a header: the statistics in it hold two values.
const MOST_HEADER: u64 = 4 << 20;
/// Structures inside structures at most.
const MOST_DEPTH: u32 = 8;

/// Sums over the pages of a column, and the largest of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stated {
    /// Bytes unpacked, without the headers.
    pub(crate) unpacked: u64,
    /// Values of data pages.
    pub(crate) values: u64,
    /// Bytes unpacked of the largest page, for which the decoder takes memory at once.
    pub(crate) largest: u64,
}

/// Walks the headers of the pages in `length` bytes.
pub(crate) fn stated(reader: SourceReader, length: u64) -> io::Result<Stated> {
    let mut reader = BufReader::with_capacity(4 << 10, reader);
    let mut sums = Stated::default();
    let mut position = 0;
    while position < length {
        let mut header = Header { bytes: reader.by_ref().take(MOST_HEADER), page: Page::default() };
        header.structure(Level::Page, 0)?;
        let Header { bytes, page } = header;
        position += MOST_HEADER - bytes.limit();
        let packed = u64::try_from(page.packed).map_err(|_| damaged())?;
        let unpacked = u64::try_from(page.unpacked).map_err(|_| damaged())?;
        sums.unpacked = sums.unpacked.saturating_add(unpacked);
        sums.largest = sums.largest.max(unpacked);
        sums.values = sums.values.saturating_add(u64::try_from(page.values).map_err(|_| damaged())?);
        position = position.saturating_add(packed);
        reader.seek_relative(i64::try_from(packed).map_err(|_| damaged())?)?;
    }
    Ok(sums)
}

/// The fields of one header that are wanted.
#[derive(Default)]
struct Page {
    unpacked: i64,
    packed: i64,
    values: i64,
}

/// Where in a header a structure stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Page,
    /// The part of a data page, old or new, whose first field is its number of values.
    Data,
    Other,
}

struct Header<'a, R> {
    bytes: io::Take<&'a mut R>,
    page: Page,
}

impl<R: Read> Header<'_, R> {
    fn structure(&mut self, level: Level, depth: u32) -> io::Result<()> {
        if depth > MOST_DEPTH {
            return Err(damaged());
        }
        let mut field: i64 = 0;
        loop {
            let byte = self.byte()?;
            let (step, kind) = (byte >> 4, byte & 15);
            if kind == 0 {
                return Ok(());
            }
            field = if step == 0 { self.number()? } else { field.saturating_add(i64::from(step)) };
            match (level, field, kind) {
                (Level::Page, 2, 5) => self.page.unpacked = self.number()?,
                (Level::Page, 3, 5) => self.page.packed = self.number()?,
                (Level::Page, 5 | 8, 12) => self.structure(Level::Data, depth + 1)?,
                (Level::Data, 1, 5) => self.page.values = self.number()?,
                _ => self.skip(kind, depth)?,
            }
        }
    }

    /// Passes over a field's value; truth values have none.
    fn skip(&mut self, kind: u8, depth: u32) -> io::Result<()> {
        match kind {
            1 | 2 => Ok(()),
            3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                // In a list, truth values take a byte each.
                let element = if matches!(byte & 15, 1 | 2) { 3 } else { byte & 15 };
                (0..count).try_for_each(|_| self.element(element, depth))
            }
            12 => self.structure(Level::Other, depth + 1),
            _ => Err(damaged()),
        }
    }

    /// Passes over a list's element, which takes a byte at least: the header's limit bounds the list.
    fn element(&mut self, kind: u8, depth: u32) -> io::Result<()> {
        if depth > MOST_DEPTH { Err(damaged()) } else { self.skip(kind, depth + 1) }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.bytes.read_exact(&mut byte)?;
        let [byte] = byte;
        Ok(byte)
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    /// A signed number, zigzag.
    fn number(&mut self) -> io::Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.bytes.by_ref().take(bytes), &mut io::sink())?;
        if passed < bytes { Err(damaged()) } else { Ok(()) }
    }
}

fn damaged() -> io::Error {
    Fault::new(Code::DamagedFile, "parquet: a page header is damaged").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    #[test]
    fn sums_of_a_header_are_read_and_endless_ones_are_refused() {
        // Type 0, 300 bytes unpacked, 2 packed, a data page of 7 values with statistics, then the two bytes.
        let header = [0x15, 0, 0x15, 0xD8, 0x04, 0x15, 0x04, 0x2C, 0x15, 0x0E, 0x1C, 0x18, 1, b'x', 0, 0, 0];
        let page = [&header[..], &[9, 9]].concat();
        let two = [page.as_slice(), &page].concat();
        let source = |bytes: &[u8]| Source::new(io::Cursor::new(bytes.to_vec()), "a").unwrap();
        let sums = stated(source(&two).reader_at(0), two.len() as u64).unwrap();
        assert_eq!(sums, Stated { unpacked: 600, values: 14, largest: 300 });
        assert!(stated(source(&two[..20]).reader_at(0), two.len() as u64).is_err());
        assert!(stated(source(&[0x1C; 1000]).reader_at(0), 1000).is_err());
        // A list of 2^40 truth values, in a header that ends.
        let list = [0x19, 0xF1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20];
        assert!(stated(source(&list).reader_at(0), 8).is_err());
    }
}
