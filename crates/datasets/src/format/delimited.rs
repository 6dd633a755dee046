//! CSV and TSV with a header row. Source: RFC 4180; also `;` and `|` as delimiters.

use std::io::Read;

use csv::ByteRecord;

use super::columns::{Column, Header};
use super::tape::Tape;
use super::{Piece, Rows, encoding, fault_of};
use crate::draft::{Cell, Draft, Fault, Fields, Step, split_labels};
use crate::{Code, DatasetError, Limits, Place};

const DELIMITERS: [u8; 4] = *b",\t;|";

/// The rows of a table in text.
pub(crate) struct Delimited<R> {
    reader: csv::Reader<Tape<R>>,
    record: ByteRecord,
    header: Header,
    notes: std::vec::IntoIter<Step>,
    delimiter: u8,
    width: usize,
    /// Line ends before the next record.
    lines: u64,
    /// Where the last record lies for the reader, blank lines before it left out.
    last: (u64, u64),
    /// Where the reader began in its stream.
    offset: u64,
    limits: Limits,
    ended: bool,
}

/// The delimiter under which the first row reads best as a header: the one that shows most columns that are read, then
/// most columns; `tabs` settles what is even.
pub(crate) fn delimiter(head: &[u8], tabs: bool) -> u8 {
    let score = |&delimiter: &u8| {
        let mut reader = builder(delimiter).from_reader(head);
        let mut record = ByteRecord::new();
        if !reader.read_byte_record(&mut record).unwrap_or(false) {
            return (0, 0, false);
        }
        let known = record.iter().filter_map(|cell| std::str::from_utf8(cell).ok()).filter_map(Column::of);
        (known.count(), record.len(), tabs == (delimiter == b'\t'))
    };
    // The last of equals is taken; reversed, that is the first.
    DELIMITERS.iter().rev().max_by_key(|delimiter| score(delimiter)).copied().unwrap_or(b',')
}

fn builder(delimiter: u8) -> csv::ReaderBuilder {
    let mut builder = csv::ReaderBuilder::new();
    builder.delimiter(delimiter).flexible(true).has_headers(false).buffer_capacity(64 << 10);
    builder
}

impl<R: Read + Send> Delimited<R> {
    /// Reads the header. `offset` is where the reader stands in its stream: behind a byte order mark, 3.
    pub(crate) fn new(reader: R, delimiter: u8, offset: u64, limits: &Limits) -> Result<Self, DatasetError> {
        let mut table = Self {
            reader: builder(delimiter).from_reader(Tape::new(reader, limits.max_line_bytes)),
            record: ByteRecord::new(),
            header: Header::default(),
            notes: Vec::new().into_iter(),
            delimiter,
            width: 0,
            lines: 0,
            last: (0, 0),
            offset,
            limits: limits.clone(),
            ended: false,
        };
        let mut notes = Vec::new();
        match table.advance() {
            Ok(Some(row)) => {
                table.width = table.record.len();
                let names: Vec<String> =
                    table.record.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
                table.header = Header::new(names.iter().map(String::as_str));
                notes.append(&mut table.header.notes);
                if let Some(fault) = row.fault {
                    notes.push(Step::Note { place: Some(Place::Line(row.line)), fault });
                    table.header.usable = false;
                }
            }
            Ok(None) => {}
            Err(error) => notes.push(Step::Note { place: Some(Place::Line(1)), fault: fault_of(error)? }),
        }
        table.ended = !table.header.usable;
        table.notes = notes.into_iter();
        Ok(table)
    }

    /// The next record, and where it stands.
    fn advance(&mut self) -> std::io::Result<Option<At>> {
        self.reader.get_mut().forget_before(self.last.1);
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                let text = error.to_string();
                // The other kinds arise only where records are asked to be text or of one length.
                let csv::ErrorKind::Io(error) = error.into_kind() else {
                    return Err(std::io::Error::other(text));
                };
                return Err(error);
            }
        }
        let start = self.record.position().map_or(0, csv::Position::byte);
        let end = self.reader.position().byte();
        let raw = self.reader.get_ref().between(start, end);
        // The parser ends a record at the carriage return: the line feed behind it leads the next one.
        let blank = raw.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let before = newlines(raw.get(..blank).unwrap_or_default());
        let inside = newlines(raw.get(blank..).unwrap_or_default());
        let line = self.lines + before + 1;
        // Only the end of the file ends a record whose quote is open.
        let open = self.reader.get_ref().ended()
            && leaves_open(raw.get(blank..).unwrap_or_default(), self.delimiter);
        let fault = if open {
            let lines = inside + u64::from(!raw.ends_with(b"\n"));
            let message = format!(
                "a quote is not closed: the rest of the file, {lines} lines from here on, is one cell"
            );
            Some(Fault::new(Code::UnclosedQuote, message))
        } else if std::str::from_utf8(self.record.as_slice()).is_ok() {
            None
        } else {
            encoding::fault(raw, self.offset + start)
        };
        self.lines += before + inside;
        self.last = (start + blank as u64, end);
        Ok(Some(At { line, fault }))
    }

    fn draft(&self) -> Result<Draft, Vec<Fault>> {
        let found = self.record.len();
        if found != self.width {
            let more = if found > self.width { "; a text that holds the delimiter needs quotes" } else { "" };
            let message = format!("has {found} cells where the header has {}{more}", self.width);
            return Err(vec![Fault::new(Code::RowLength, message)]);
        }
        let mut fields = Fields::default();
        let several = self.header.contents() > 1;
        let either = self.header.has(Column::Label) && self.header.has(Column::Labels);
        for &(index, column) in &self.header.columns {
            let text = String::from_utf8_lossy(self.record.get(index).unwrap_or_default()).into_owned();
            // Where a table has two columns for one thing, an empty cell leaves it to the other.
            let left_out = text.trim().is_empty()
                && match column {
                    Column::Text | Column::Image | Column::Audio => several,
                    Column::Label | Column::Labels => either,
                    Column::Group | Column::Split | Column::Id => true,
                };
            *column.of_fields(&mut fields) = match column {
                _ if left_out => Cell::Absent,
                Column::Labels => split_labels(&text),
                Column::Text
                | Column::Image
                | Column::Audio
                | Column::Label
                | Column::Group
                | Column::Split
                | Column::Id => Cell::Text(text),
            };
        }
        fields.check(&self.limits)
    }
}

/// Where a record stands.
struct At {
    line: u64,
    fault: Option<Fault>,
}

/// Whether a record ends within a quote: one opens where a cell begins, and two within it are a letter.
fn leaves_open(record: &[u8], delimiter: u8) -> bool {
    let (mut open, mut begins) = (false, true);
    let mut bytes = record.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if open && byte == b'"' {
            open = bytes.next_if_eq(&b'"').is_some();
        } else if !open {
            open = begins && byte == b'"';
            begins = byte == delimiter;
        }
    }
    open
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

impl<R: Read + Send> Rows for Delimited<R> {
    fn next(&mut self) -> Result<Option<Step>, DatasetError> {
        if let Some(note) = self.notes.next() {
            return Ok(Some(note));
        }
        if self.ended {
            return Ok(None);
        }
        match self.advance() {
            Ok(Some(At { line, fault: Some(fault) })) => {
                Ok(Some(Step::Row { place: Place::Line(line), draft: Err(vec![fault]) }))
            }
            Ok(Some(At { line, fault: None })) => {
                let size: usize = self.record.as_slice().len();
                if size > self.limits.max_line_bytes {
                    let message = format!(
                        "the record has {size} bytes; at most {} are taken",
                        self.limits.max_line_bytes
                    );
                    return Ok(Some(Step::wrong(Place::Line(line), Code::LineTooLong, message)));
                }
                Ok(Some(Step::Row { place: Place::Line(line), draft: self.draft() }))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.ended = true;
                let place = Some(Place::Line(self.lines + 1));
                Ok(Some(Step::Note { place, fault: fault_of(error)? }))
            }
        }
    }

    fn piece(&self) -> Option<(Piece, &[u8])> {
        let (start, end) = self.last;
        let piece = Piece { start: self.offset + start, end: self.offset + end };
        Some((piece, self.reader.get_ref().between(start, end)))
    }

    fn position(&self) -> Option<u64> {
        Some(self.reader.position().byte())
    }
}

#[cfg(test)]
mod tests {
    use super::leaves_open;

    #[test]
    fn a_quote_is_open_where_a_cell_begins_with_it_until_the_next_that_stands_alone() {
        for record in ["\"a", "a,\"b,c\nd", "\"a\"\"", "\"a\"\"\"\"", "\"a\",\"", "\"a,\"\"b\"\""] {
            assert!(leaves_open(record.as_bytes(), b','), "{record}");
        }
        for record in ["", "\"a\"", "\"a\"\"\"", "a\"b", "a,b\",c", "\"a\"b\"", "\"a\",\"b\nc\"\n"] {
            assert!(!leaves_open(record.as_bytes(), b','), "{record}");
        }
    }
}
