//! Telling what a file is from its first bytes.

use super::encoding;
use crate::draft::Fault;
use crate::{Code, Source};

/// What the first bytes say.
pub(crate) enum Kind {
    Zip,
    Parquet,
    Gzip,
    Tar,
    Text,
    /// Nothing that is read.
    Refused(Fault),
}

/// Compressions that are not read.
const PACKED: [(&[u8], &str); 7] = [
    (b"7z\xBC\xAF\x27\x1C", "7-Zip"),
    (b"Rar!\x1A\x07", "RAR"),
    (b"\xFD7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xB5\x2F\xFD", "Zstandard"),
    (b"\x04\x22\x4D\x18", "LZ4"),
    (b"\x1F\x9D", "compress"),
];

/// Formats that are not read, with what to do instead.
const OTHERS: [(&[u8], &str); 9] = [
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old Excel or Word file; save it as CSV"),
    (b"ARROW1", "an Arrow or Feather file; save it as Parquet"),
    (b"Obj\x01", "an Avro file; save it as Parquet"),
    (b"ORC", "an ORC file; save it as Parquet"),
    (b"SQLite format 3\0", "an SQLite database; export a table as CSV"),
    (b"\x89HDF\r\n\x1A\n", "an HDF5 file; save it as Parquet"),
    (b"\x93NUMPY", "a NumPy array; save texts, pictures or sounds, not arrays"),
    (b"%PDF-", "a PDF document"),
    (b"\x80\x04\x95", "a Python pickle; save it as Parquet or CSV"),
];

/// What a file that begins like this is.
pub(crate) fn kind(head: &[u8], source: &Source) -> Kind {
    let starts = |magic: &[u8]| head.starts_with(magic);
    if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") || starts(b"PK\x07\x08") {
        return Kind::Zip;
    }
    if starts(b"PAR1") {
        return Kind::Parquet;
    }
    if starts(b"PARE") {
        return refused(Code::UnknownFormat, "an encrypted Parquet file; save it without encryption");
    }
    if starts(b"\x1F\x8B") {
        return Kind::Gzip;
    }
    if head.get(257..262) == Some(b"ustar") {
        return Kind::Tar;
    }
    if let Some((_, name)) = PACKED.iter().find(|(magic, _)| starts(magic)) {
        return refused(Code::UnsupportedCompression, &format!("packed with {name}; zip or tar.gz are read"));
    }
    if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| starts(magic)) {
        return refused(Code::UnknownFormat, &format!("the file is {name}"));
    }
    if let Some(encoding) = encoding::foreign(head) {
        return refused(Code::WrongEncoding, &format!("the file is {encoding}; save it as UTF-8"));
    }
    if let Some(format) = headstart_media::Format::recognise(head) {
        let message =
            format!("the file is one {} picture; upload an archive of class folders", format.name());
        return refused(Code::UnknownFormat, &message);
    }
    if let Some(format) = headstart_media::SoundFormat::recognise(head) {
        let message = format!("the file is one {} sound; upload an archive of class folders", format.name());
        return refused(Code::UnknownFormat, &message);
    }
    if source.is_named(&[".tar", ".tar.gz", ".tgz"]) && head.len() >= 512 {
        // The oldest kind of tar has no mark.
        return Kind::Tar;
    }
    let binary = head.iter().filter(|&&byte| byte < 9 || (14..32).contains(&byte)).count();
    if binary * 20 > head.len() {
        return refused(Code::UnknownFormat, "JSON Lines, CSV, TSV, Parquet, zip, tar and tar.gz are read");
    }
    Kind::Text
}

fn refused(code: Code, message: &str) -> Kind {
    Kind::Refused(Fault::new(code, message))
}
