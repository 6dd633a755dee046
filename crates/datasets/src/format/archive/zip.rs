//! Zip archives: the directory is judged whole before any entry is unpacked.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Seek, SeekFrom};

use ::zip::{CompressionMethod, ZipArchive, result::ZipError};

use super::Listing;
use super::layout::{self, Entry, Folders, Role};
use crate::draft::{Fault, Step};
use crate::format::{Rows, fault_of};
use crate::source::SourceReader;
use crate::{Code, DatasetError, Limits, Place, Source};

type Archive = ZipArchive<BufReader<SourceReader>>;

/// The directory's end is looked for in this many bytes: a comment of any length, and the records behind it.
const TAIL: u64 = (64 << 10) + 200;

/// The rows of a zip archive.
pub(crate) struct Zip {
    archive: Option<Archive>,
    notes: std::vec::IntoIter<Step>,
    listing: Listing,
    /// Of each entry, unpacked.
    sizes: Vec<u64>,
    roles: std::vec::IntoIter<Role>,
    next: usize,
    limits: Limits,
    position: u64,
}

impl Zip {
    pub(crate) fn new(source: &Source, limits: &Limits) -> Result<Self, DatasetError> {
        let mut zip = Self {
            archive: None,
            notes: Vec::new().into_iter(),
            listing: Listing::new(Vec::new(), Folders::default()),
            sizes: Vec::new(),
            roles: Vec::new().into_iter(),
            next: 0,
            limits: limits.clone(),
            position: 0,
        };
        let notes = match zip.open(source) {
            Ok(notes) => notes,
            Err(Failure::Fault(fault)) => vec![Step::about_file(fault)],
            Err(Failure::Error(error)) => return Err(error),
        };
        zip.notes = notes.into_iter();
        Ok(zip)
    }

    /// Reads the directory; what cannot be read at all, or would cost too much, is a fault of the file.
    fn open(&mut self, source: &Source) -> Result<Vec<Step>, Failure> {
        let too_many = || {
            let message = format!("the archive has more than {} entries", self.limits.max_entries);
            Failure::Fault(Fault::new(Code::TooManyEntries, message))
        };
        if declared_entries(source)? > self.limits.max_entries {
            return Err(too_many());
        }
        let mut archive = ZipArchive::new(BufReader::with_capacity(64 << 10, source.reader_at(0)))?;
        if archive.len() as u64 > self.limits.max_entries {
            return Err(too_many());
        }
        let (mut list, mut total): (Vec<Entry>, u64) = (Vec::new(), 0);
        for index in 0..archive.len() {
            let (entry, size) = entry(&mut archive, index, &self.limits)?;
            total = total.saturating_add(size);
            list.push(entry);
            self.sizes.push(size);
        }
        if total > self.limits.max_unpacked_bytes {
            let message =
                format!("unpacks to {total} bytes; at most {} are taken", self.limits.max_unpacked_bytes);
            return Err(Failure::Fault(Fault::new(Code::TooLarge, message)));
        }
        if self.limits.is_suspicious(source.bytes(), total) {
            let message = format!("its {} bytes would unpack to {total}", source.bytes());
            return Err(Failure::Fault(Fault::new(Code::SuspiciousRatio, message)));
        }
        if list.iter().any(|entry| entry.path == "[Content_Types].xml") {
            let message = "an Excel, Word or PowerPoint file; save the table as CSV";
            return Err(Failure::Fault(Fault::new(Code::UnknownFormat, message)));
        }
        let mut notes = Vec::new();
        if archive.has_duplicate_names() {
            let fault = || Fault::new(Code::DuplicatePath, "the archive has this path twice");
            let paths = repeated(source, archive.central_directory_start(), self.limits.max_entries)?;
            let note = |path: String| Step::Note { place: Some(Place::Path(path.into())), fault: fault() };
            notes.extend(paths.into_iter().map(note));
        }
        if archive.has_duplicate_names() && notes.is_empty() {
            let fault = Fault::new(Code::DuplicatePath, "the archive has a path twice");
            notes.push(Step::about_file(fault));
        }
        let (roles, groups, folders) = layout::roles(&list, &self.limits);
        self.listing = Listing::new(list, folders);
        notes.extend(super::groups_note(&groups));
        self.roles = roles.into_iter();
        self.archive = Some(archive);
        Ok(notes)
    }

    fn read(&mut self, index: usize) -> Result<Result<Vec<u8>, Fault>, DatasetError> {
        let Some(archive) = &mut self.archive else { return Err(DatasetError::Bug("no open archive")) };
        let size = self.sizes.get(index).copied().unwrap_or(0);
        match archive.by_index(index) {
            Ok(file) => {
                self.position = file.header_start();
                super::content(file, size, &self.limits)
            }
            Err(error) => match Failure::from(error) {
                Failure::Fault(fault) => Ok(Err(fault)),
                Failure::Error(error) => Err(error),
            },
        }
    }
}

impl Rows for Zip {
    fn next(&mut self) -> Result<Option<Step>, DatasetError> {
        if let Some(note) = self.notes.next() {
            return Ok(Some(note));
        }
        for role in self.roles.by_ref() {
            let index = self.next;
            self.next += 1;
            let path = self.listing.path(index).to_owned();
            let place = Place::Path(path.as_str().into());
            match role {
                Role::Skip => {}
                Role::Report(fault) => return Ok(Some(super::report(place, fault))),
                Role::Example(seat) => {
                    return Ok(Some(match self.read(index)? {
                        Ok(bytes) => super::row(&path, bytes, seat, &self.limits),
                        Err(fault) => Step::Row { place, draft: Err(vec![fault]) },
                    }));
                }
            }
        }
        Ok(None)
    }

    fn listing(&self) -> Option<&Listing> {
        Some(&self.listing)
    }

    fn position(&self) -> Option<u64> {
        Some(self.position)
    }
}

/// What stops the opening.
enum Failure {
    Fault(Fault),
    Error(DatasetError),
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Self {
        Self::Error(error)
    }
}

impl From<ZipError> for Failure {
    fn from(error: ZipError) -> Self {
        let text = error.to_string().to_ascii_lowercase();
        if let ZipError::Io(error) = error {
            return fault_of(error).map_or_else(Self::Error, Self::Fault);
        }
        Self::Fault(if let ZipError::CompressionMethodNotSupported(method) = error {
            unsupported(&method.to_string())
        } else if matches!(error, ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) {
            Fault::new(Code::EncryptedEntry, "the entry is encrypted")
        } else {
            Fault::new(Code::DamagedFile, text)
        })
    }
}

fn unsupported(method: &str) -> Fault {
    let message = format!("packed by the method {method}; stored and deflated entries are read");
    Fault::new(Code::UnsupportedCompression, message)
}

/// What the directory says of an entry, and its unpacked size in bytes.
fn entry(archive: &mut Archive, index: usize, limits: &Limits) -> Result<(Entry, u64), Failure> {
    let file = archive.by_index_data(index)?;
    let path = String::from_utf8_lossy(file.name_raw()).into_owned();
    let path = file.name().map_or(path, std::borrow::Cow::into_owned);
    let (packed, size) = (file.compressed_size(), file.size());
    let kind = file.unix_mode().map_or(0, |mode| mode & 0o170_000);
    let refusal = if !matches!(kind, 0 | 0o100_000 | 0o040_000) {
        Some(Fault::new(Code::LinkEntry, "a link or special file is not read"))
    } else if file.encrypted() {
        Some(Fault::new(Code::EncryptedEntry, "the entry is encrypted"))
    } else if !matches!(file.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        Some(unsupported(&file.compression().to_string()))
    } else if size > limits.max_entry_bytes {
        let message = format!("unpacks to {size} bytes; at most {} are taken", limits.max_entry_bytes);
        Some(Fault::new(Code::EntryTooLarge, message))
    } else if limits.is_suspicious(packed, size) {
        let message = format!("its {packed} bytes would unpack to {size}");
        Some(Fault::new(Code::SuspiciousRatio, message))
    } else {
        None
    };
    Ok((Entry { path, is_folder: file.is_dir(), refusal }, size))
}

/// Paths that the directory, from byte `start` on, has more than once: the library keeps the last of them alone.
/// Source: APPNOTE.TXT, 4.3.12.
fn repeated(source: &Source, start: u64, entries_max: u64) -> Result<Vec<String>, DatasetError> {
    let mut reader = BufReader::with_capacity(64 << 10, source.reader_at(start));
    let (mut seen, mut repeated) = (BTreeSet::new(), Vec::new());
    for _ in 0..entries_max {
        match directory_name(&mut reader) {
            Ok(Some(name)) if seen.contains(&name) => {
                repeated.push(String::from_utf8_lossy(&name).into_owned());
            }
            Ok(Some(name)) => drop(seen.insert(name)),
            Ok(None) => break,
            Err(error) => {
                fault_of(error)?;
                break;
            }
        }
    }
    Ok(repeated)
}

/// The name in the directory's next header, and the reader behind that header; `None` where there is no header.
fn directory_name(reader: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut header = [0; 46];
    reader.read_exact(&mut header)?;
    let [b'P', b'K', 1, 2, ..] = header else { return Ok(None) };
    let [name, extra, comment] = [28, 30, 32]
        .map(|at| header.get(at..at + 2).and_then(|two| two.try_into().ok()).map_or(0, u16::from_le_bytes));
    let mut bytes = vec![0; usize::from(name)];
    reader.read_exact(&mut bytes)?;
    let rest = u64::from(extra) + u64::from(comment);
    std::io::copy(&mut reader.take(rest), &mut std::io::sink())?;
    Ok(Some(bytes))
}

/// The number of entries that the directory's end states, read before memory is taken for them: the largest of all
/// that look like one. Source: APPNOTE.TXT, 4.3.14 and 4.3.16.
fn declared_entries(source: &Source) -> Result<u64, DatasetError> {
    let mut tail = Vec::new();
    let mut reader = source.reader_at(0);
    reader.seek(SeekFrom::Start(source.bytes().saturating_sub(TAIL)))?;
    if let Err(error) = reader.take(TAIL).read_to_end(&mut tail) {
        fault_of(error)?;
    }
    let short = memchr::memmem::find_iter(&tail, b"PK\x05\x06")
        .filter_map(|at| tail.get(at + 10..at + 12)?.try_into().ok().map(u16::from_le_bytes))
        .map(u64::from);
    let number = |at: usize| tail.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let long = memchr::memmem::find_iter(&tail, b"PK\x06\x06").filter_map(|at| {
        // Packed data may hold the mark by chance, but not with its length and the next record's mark.
        let length = usize::try_from(number(at + 4)?).ok()?;
        let next = at.checked_add(12)?.checked_add(length)?;
        tail.get(next..)?.starts_with(b"PK\x06\x07").then(|| number(at + 32))?
    });
    Ok(short.chain(long).max().unwrap_or(0))
}
