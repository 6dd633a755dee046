//! A walk over the fields of an encoded message that reads only what is asked for.
//! Source: the protocol buffers encoding, <https://protobuf.dev/programming-guides/encoding/>.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use crate::error::OnnxError;

/// A file with its place, so that skipping short distances stays inside the buffer.
pub(crate) struct Source<R> {
    reader: BufReader<R>,
    at: u64,
    length: u64,
}

/// Where one field of a message lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its number.
    pub(crate) number: u64,
    /// The whole of it, its number included.
    pub(crate) span: Range<u64>,
    /// Its content: a message's fields, a text's bytes.
    pub(crate) content: Range<u64>,
    /// Its value, where it is a plain integer.
    pub(crate) integer: Option<u64>,
}

/// The fields of one message, in their order.
#[derive(Debug)]
pub(crate) struct Fields {
    at: u64,
    end: u64,
}

impl<R: Read + Seek> Source<R> {
    pub(crate) fn new(mut reader: R) -> Result<Self, OnnxError> {
        let length = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        Ok(Self { reader: BufReader::with_capacity(1 << 16, reader), at: 0, length })
    }

    /// The fields of the file itself.
    pub(crate) fn fields(&self) -> Fields {
        Fields { at: 0, end: self.length }
    }

    /// The bytes of a range.
    pub(crate) fn read(&mut self, range: &Range<u64>) -> Result<Vec<u8>, OnnxError> {
        self.go_to(range.start)?;
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| too_long())?;
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        self.at = range.end;
        Ok(bytes)
    }

    /// The text of a range.
    pub(crate) fn text(&mut self, range: &Range<u64>) -> Result<String, OnnxError> {
        String::from_utf8(self.read(range)?)
            .map_err(|_| OnnxError::Malformed("a name is not UTF-8".to_owned()))
    }

    fn go_to(&mut self, place: u64) -> Result<(), OnnxError> {
        let distance = i64::try_from(place).ok().zip(i64::try_from(self.at).ok()).map(|(to, at)| to - at);
        self.reader.seek_relative(distance.ok_or_else(too_long)?)?;
        self.at = place;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, OnnxError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(OnnxError::Malformed("a number has more than ten bytes".to_owned()))
    }
}

impl Fields {
    /// The fields of the message that a field holds.
    pub(crate) fn of(field: &Field) -> Self {
        Self { at: field.content.start, end: field.content.end }
    }

    /// The next field; its content is not read.
    pub(crate) fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
    ) -> Result<Option<Field>, OnnxError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let start = self.at;
        source.go_to(start)?;
        let tag = source.varint()?;
        let (length, integer) = match tag & 7 {
            0 => (0, Some(source.varint()?)),
            1 => (8, None),
            2 => (source.varint()?, None),
            5 => (4, None),
            kind => return Err(OnnxError::Malformed(format!("a field has the unknown kind {kind}"))),
        };
        let end = source.at.checked_add(length).filter(|end| *end <= self.end);
        let end = end.ok_or_else(|| OnnxError::Malformed("a field is longer than what holds it".into()))?;
        self.at = end;
        Ok(Some(Field { number: tag >> 3, span: start..end, content: source.at..end, integer }))
    }
}

fn too_long() -> OnnxError {
    OnnxError::Malformed("longer than this machine can address".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn walk(bytes: &[u8]) -> Result<Vec<Field>, OnnxError> {
        let mut source = Source::new(Cursor::new(bytes))?;
        let mut fields = source.fields();
        let mut found = Vec::new();
        while let Some(field) = fields.next(&mut source)? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn fields_of_every_kind_are_found_with_their_places() {
        // Field 1 = 150, field 2 = "hi", field 3 of four bytes, field 4 of eight.
        let bytes = [8, 0x96, 1, 18, 2, b'h', b'i', 29, 0, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0, 0];
        let found = walk(&bytes).unwrap();
        assert_eq!(found.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(found[0].integer, Some(150));
        assert_eq!((found[1].span.clone(), found[1].content.clone()), (3..7, 5..7));
        assert_eq!(found[3].span, 12..21);
    }

    #[test]
    fn what_is_cut_off_or_of_no_known_kind_is_refused() {
        assert!(matches!(walk(&[18, 5, b'h']), Err(OnnxError::Malformed(_))));
        assert!(matches!(walk(&[0x0b]), Err(OnnxError::Malformed(_))));
        assert!(matches!(walk(&[8, 0x96]), Err(OnnxError::Read(_))));
        let endless = [0xff; 12];
        assert!(matches!(walk(&endless), Err(OnnxError::Malformed(_))));
    }
}
