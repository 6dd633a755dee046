//! The formats: told by content first and by name second, each read row by row.

mod archive;
mod columns;
mod delimited;
mod encoding;
pub(crate) mod gzip;
mod jsonl;
mod lines;
mod pages;
mod parquet;
mod recognise;
mod refused;
mod tape;

use std::io::{BufReader, Cursor, Read};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::draft::{Fault, Step};
use crate::{Code, DatasetError, Limits, Source};

pub(crate) use archive::{Listing, tar_pieces};
pub(crate) use parquet::{cost_of_copying, guarded};
pub(crate) use refused::{HandleFailed, fault_of};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum Format {
    /// One JSON object a line.
    #[serde(rename = "jsonl")]
    JsonLines,
    /// Comma, semicolon or bar between cells.
    #[serde(rename = "csv")]
    Csv,
    /// A tab between cells.
    #[serde(rename = "tsv")]
    Tsv,
    /// Apache Parquet.
    #[serde(rename = "parquet")]
    Parquet,
    /// A zip archive of class folders.
    #[serde(rename = "zip")]
    Zip,
    /// A tar archive of class folders.
    #[serde(rename = "tar")]
    Tar,
}

/// A file's rows, in a stable order.
pub(crate) trait Rows: Send {
    /// The next row or note; `None` at the end, also where damage makes an early one.
    ///
    /// # Errors
    /// Only when the upload's handle fails.
    fn next(&mut self) -> Result<Option<Step>, DatasetError>;

    /// The last row's piece of the file, unpacked, and its bytes, of which none are kept of a row that is too long; `None` where
    /// rows are no pieces of text.
    fn piece(&self) -> Option<(Piece, &[u8])> {
        None
    }

    /// Everything that an archive holds, read or not; `None` of other formats.
    fn listing(&self) -> Option<&Listing> {
        None
    }

    /// About how many bytes of the file, or of what it unpacks to, lie behind.
    fn position(&self) -> Option<u64>;
}

/// A range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A file of no rows: something to say in their place.
struct Nothing(Option<Fault>);

impl Rows for Nothing {
    fn next(&mut self) -> Result<Option<Step>, DatasetError> {
        Ok(self.0.take().map(Step::about_file))
    }

    fn position(&self) -> Option<u64> {
        None
    }
}

/// An open file.
pub(crate) struct Opened {
    pub(crate) format: Option<Format>,
    pub(crate) rows: Box<dyn Rows>,
}

impl Opened {
    fn nothing(fault: Fault) -> Self {
        Self { format: None, rows: Box::new(Nothing(Some(fault))) }
    }

    fn rows(format: Format, rows: impl Rows + 'static) -> Self {
        Self { format: Some(format), rows: Box::new(rows) }
    }
}

/// Bytes that are looked at to tell a format and a delimiter.
const HEAD: u64 = 64 << 10;

/// Recognises a file and opens it.
pub(crate) fn open(source: &Source, limits: &Limits) -> Result<Opened, DatasetError> {
    use recognise::Kind;
    let head = source.head(HEAD).map_err(handle_error)?;
    if head.is_empty() {
        return Ok(Opened::nothing(Fault::new(Code::EmptyFile, "the file has no bytes")));
    }
    match recognise::kind(&head, source) {
        Kind::Zip => Ok(Opened::rows(Format::Zip, archive::Zip::new(source, limits)?)),
        Kind::Parquet => Ok(Opened::rows(Format::Parquet, parquet::Table::new(source, limits)?)),
        Kind::Tar => {
            let open = {
                let source = source.clone();
                move || -> Box<dyn Read + Send> {
                    Box::new(BufReader::with_capacity(64 << 10, source.reader_at(0)))
                }
            };
            Ok(Opened::rows(Format::Tar, archive::Tar::new(Box::new(open), limits)?))
        }
        Kind::Gzip => open_gzip(source, limits),
        Kind::Text => text(head, source.reader_at(HEAD), source, limits),
        Kind::Refused(fault) => Ok(Opened::nothing(fault)),
    }
}

fn open_gzip(source: &Source, limits: &Limits) -> Result<Opened, DatasetError> {
    use recognise::Kind;
    let mut unpacked = gzip::Unpacked::new(source, limits);
    let mut head = Vec::new();
    if let Err(error) = unpacked.by_ref().take(HEAD).read_to_end(&mut head) {
        return Ok(Opened::nothing(fault_of(error)?));
    }
    if head.is_empty() {
        return Ok(Opened::nothing(Fault::new(Code::EmptyFile, "the file unpacks to no bytes")));
    }
    match recognise::kind(&head, source) {
        Kind::Tar => {
            let (source, within) = (source.clone(), limits.clone());
            let open = move || -> Box<dyn Read + Send> { Box::new(gzip::Unpacked::new(&source, &within)) };
            Ok(Opened::rows(Format::Tar, archive::Tar::new(Box::new(open), limits)?))
        }
        Kind::Text => text(head, unpacked, source, limits),
        Kind::Zip | Kind::Parquet | Kind::Gzip => {
            let message = "a packed file was packed once more with gzip; upload what is inside";
            Ok(Opened::nothing(Fault::new(Code::UnsupportedCompression, message)))
        }
        Kind::Refused(fault) => Ok(Opened::nothing(fault)),
    }
}

/// Text is JSON Lines or a table.
fn text(
    head: Vec<u8>,
    rest: impl Read + Send + 'static,
    source: &Source,
    limits: &Limits,
) -> Result<Opened, DatasetError> {
    let mark: usize = if head.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    let start = head.get(mark..).unwrap_or_default();
    let visible = start.trim_ascii_start();
    if visible.is_empty() && start.len() < usize::try_from(HEAD).unwrap_or(usize::MAX) - mark {
        return Ok(Opened::nothing(Fault::new(Code::EmptyFile, "the file holds white space only")));
    }
    let named = |endings: &[&str]| source.is_named(endings);
    let json = visible.starts_with(b"{")
        || visible.starts_with(b"[")
        || named(&[".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz"]);
    let delimiter = delimited::delimiter(start, named(&[".tsv", ".tsv.gz", ".tab", ".tab.gz"]));
    let mut stream = Cursor::new(head).chain(rest);
    stream.get_mut().0.set_position(mark as u64);
    if json {
        let reader = BufReader::with_capacity(64 << 10, stream);
        return Ok(Opened::rows(Format::JsonLines, jsonl::JsonLines::new(reader, mark as u64, limits)));
    }
    let format = if delimiter == b'\t' { Format::Tsv } else { Format::Csv };
    Ok(Opened::rows(format, delimited::Delimited::new(stream, delimiter, mark as u64, limits)?))
}

/// An error met where no decoder stands between.
fn handle_error(error: std::io::Error) -> DatasetError {
    match fault_of(error) {
        Err(error) => error,
        Ok(fault) => DatasetError::Io(std::io::Error::other(fault.message)),
    }
}
