//! Tar archives, plain or unpacked on the way: headers are walked once for the paths, then again for the content.
//! Source: POSIX.1-2017 pax, and GNU tar's long names.

use std::collections::HashSet;
use std::io::{self, Read};

use ::tar::{EntryType, Header, PaxExtensions};

use super::Listing;
use super::layout::{self, Entry, Role};
use crate::draft::{Fault, Step};
use crate::format::{Piece, Rows, fault_of};
use crate::{Code, DatasetError, Limits, Place};

/// Opens the archive's bytes from their beginning.
pub(crate) type Open = Box<dyn Fn() -> Box<dyn Read + Send> + Send>;

const BLOCK: usize = 512;
/// Most bytes of a header's extensions: long names and attributes.
const MOST_EXTENSION: u64 = 256 << 10;

/// The rows of a tar archive.
pub(crate) struct Tar {
    walk: Walk,
    notes: std::vec::IntoIter<Step>,
    roles: std::vec::IntoIter<Role>,
    listing: Listing,
    damage: Option<Fault>,
    limits: Limits,
}

impl Tar {
    pub(crate) fn new(open: Open, limits: &Limits) -> Result<Self, DatasetError> {
        let mut walk = Walk::new(open());
        let (mut entries, mut damage) = (Vec::new(), None);
        let mut total: u64 = 0;
        loop {
            match walk.next() {
                Ok(Some(found)) => {
                    total = total.saturating_add(found.size);
                    entries.push(found.entry(limits));
                    damage = over(entries.len(), total, limits);
                    if damage.is_some() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    damage = Some(fault_of(error)?);
                    break;
                }
            }
        }
        // Of a damaged archive what can be read is judged; nothing is read of one that would cost too much.
        if damage.as_ref().is_some_and(|fault| fault.code != Code::DamagedFile) {
            entries.clear();
        }
        let (roles, groups, folders) = layout::roles(&entries, limits);
        let notes: Vec<Step> = super::groups_note(&groups).into_iter().collect();
        Ok(Self {
            walk: Walk::new(open()),
            notes: notes.into_iter(),
            roles: roles.into_iter(),
            listing: Listing::new(entries, folders),
            damage,
            limits: limits.clone(),
        })
    }
}

fn over(entries: usize, total: u64, limits: &Limits) -> Option<Fault> {
    if entries as u64 > limits.max_entries {
        let message = format!("the archive has more than {} entries", limits.max_entries);
        return Some(Fault::new(Code::TooManyEntries, message));
    }
    let message = || format!("unpacks to more than {} bytes", limits.max_unpacked_bytes);
    (total > limits.max_unpacked_bytes).then(|| Fault::new(Code::TooLarge, message()))
}

impl Rows for Tar {
    fn next(&mut self) -> Result<Option<Step>, DatasetError> {
        if let Some(note) = self.notes.next() {
            return Ok(Some(note));
        }
        for role in self.roles.by_ref() {
            let found = match self.walk.next() {
                Ok(Some(found)) => found,
                // The first walk came further: the file changed meanwhile.
                Ok(None) => return Err(DatasetError::Changed("an entry is gone".into())),
                Err(error) => return Ok(Some(Step::about_file(fault_of(error)?))),
            };
            let place = Place::Path(found.path.as_str().into());
            match role {
                Role::Skip => {}
                Role::Report(fault) => return Ok(Some(super::report(place, fault))),
                Role::Example(seat) => {
                    let bytes = super::content(self.walk.content(), found.size, &self.limits)?;
                    return Ok(Some(match bytes {
                        Ok(bytes) => super::row(&found.path, bytes, seat, &self.limits),
                        Err(fault) => Step::Row { place, draft: Err(vec![fault]) },
                    }));
                }
            }
        }
        Ok(self.damage.take().map(Step::about_file))
    }

    fn listing(&self) -> Option<&Listing> {
        Some(&self.listing)
    }

    fn position(&self) -> Option<u64> {
        Some(self.walk.position)
    }
}

/// Where the entries of these paths lie, each with the headers that belong to it; of a damaged archive, as far as it can
/// be read.
pub(crate) fn pieces(
    reader: Box<dyn Read + Send>,
    paths: &HashSet<&str>,
) -> Result<Vec<Piece>, DatasetError> {
    let mut walk = Walk::new(reader);
    let (mut pieces, mut start) = (Vec::new(), 0);
    loop {
        match walk.next() {
            Ok(Some(found)) => {
                let end = walk.position.saturating_add(walk.content).saturating_add(walk.padding);
                if paths.contains(found.path.as_str()) {
                    pieces.push(Piece { start, end });
                }
                start = end;
            }
            Ok(None) => return Ok(pieces),
            Err(error) => return fault_of(error).map(|_| pieces),
        }
    }
}

/// One header's statement.
struct Found {
    path: String,
    size: u64,
    kind: EntryType,
}

impl Found {
    fn entry(&self, limits: &Limits) -> Entry {
        let refusal =
            if !matches!(self.kind, EntryType::Regular | EntryType::Continuous | EntryType::Directory) {
                Some(Fault::new(Code::LinkEntry, "a link or special file is not read"))
            } else if self.size > limits.max_entry_bytes {
                let message =
                    format!("has {} bytes; at most {} are taken", self.size, limits.max_entry_bytes);
                Some(Fault::new(Code::EntryTooLarge, message))
            } else {
                None
            };
        Entry { path: self.path.clone(), is_folder: self.kind == EntryType::Directory, refusal }
    }
}

/// A walk over the headers, which passes over what was not read of an entry's content.
struct Walk {
    reader: Box<dyn Read + Send>,
    /// Bytes of the current entry that were not read.
    content: u64,
    /// Bytes that fill its last block.
    padding: u64,
    position: u64,
    ended: bool,
}

impl Walk {
    fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader, content: 0, padding: 0, position: 0, ended: false }
    }

    /// The next entry's content.
    fn content(&mut self) -> Content<'_> {
        Content(self)
    }

    /// The next entry; `None` at the end mark or at the end of the bytes.
    fn next(&mut self) -> io::Result<Option<Found>> {
        let (mut long_name, mut pax_path, mut pax_size) = (None, None, None);
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size = header.entry_size().map_err(damaged)?;
            if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
                let data = self.extension(size)?;
                if kind.is_gnu_longname() {
                    let name = data.split(|&byte| byte == 0).next().unwrap_or_default();
                    long_name = Some(String::from_utf8_lossy(name).into_owned());
                } else if kind.is_pax_local_extensions() {
                    (pax_path, pax_size) = pax(&data)?;
                }
                continue;
            }
            if kind.is_pax_global_extensions() {
                self.extension(size)?;
                continue;
            }
            let named = String::from_utf8_lossy(&header.path_bytes()).into_owned();
            let size = pax_size.unwrap_or(size);
            // Links and devices state a size at times, and have no content.
            let is_device = kind.is_character_special() || kind.is_block_special() || kind.is_fifo();
            let is_empty = is_device || kind.is_hard_link() || kind.is_symlink() || kind.is_dir();
            let stored = if is_empty { 0 } else { size };
            self.begin(stored);
            return Ok(Some(Found { path: pax_path.or(long_name).unwrap_or(named), size: stored, kind }));
        }
    }

    fn begin(&mut self, size: u64) {
        self.content = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let rest = self.content.saturating_add(self.padding);
        let passed = io::copy(&mut self.reader.by_ref().take(rest), &mut io::sink())?;
        self.position += passed;
        if passed < rest {
            return Err(cut_short());
        }
        (self.content, self.padding) = (0, 0);
        let mut header = Header::new_old();
        let mut filled = 0;
        while let Some(free) = header.as_mut_bytes().get_mut(filled..).filter(|free| !free.is_empty()) {
            match self.reader.read(free) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += filled as u64;
        self.ended = filled == 0 || header.as_bytes().iter().all(|&byte| byte == 0);
        if self.ended {
            return Ok(None);
        }
        if filled < BLOCK {
            return Err(cut_short());
        }
        // The sum is taken over the header with its own field blank.
        let sum: u32 = header
            .as_bytes()
            .iter()
            .enumerate()
            .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u32::from(byte) })
            .sum();
        if header.cksum().map_err(damaged)? != sum {
            return Err(Fault::new(Code::DamagedFile, "a tar header's checksum is wrong").into());
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MOST_EXTENSION {
            return Err(Fault::new(Code::DamagedFile, "a tar header's extension is too long").into());
        }
        self.begin(size);
        let mut data = Vec::new();
        self.content().read_to_end(&mut data)?;
        Ok(data)
    }
}

/// Reads within the current entry.
struct Content<'a>(&'a mut Walk);

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.content == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let read = self.0.reader.by_ref().take(self.0.content).read(buffer)?;
        if read == 0 {
            return Err(cut_short());
        }
        self.0.content -= read as u64;
        self.0.position += read as u64;
        Ok(read)
    }
}

fn pax(data: &[u8]) -> io::Result<(Option<String>, Option<u64>)> {
    let (mut path, mut size) = (None, None);
    for extension in PaxExtensions::new(data) {
        let extension = extension.map_err(damaged)?;
        match extension.key_bytes() {
            b"path" => path = Some(String::from_utf8_lossy(extension.value_bytes()).into_owned()),
            b"size" => {
                let text = std::str::from_utf8(extension.value_bytes()).ok();
                size = text.and_then(|text| text.parse().ok());
            }
            _ => {}
        }
    }
    Ok((path, size))
}

fn damaged(error: io::Error) -> io::Error {
    Fault::new(Code::DamagedFile, error.to_string().to_ascii_lowercase()).into()
}

fn cut_short() -> io::Error {
    Fault::new(Code::DamagedFile, "the archive is cut short").into()
}
