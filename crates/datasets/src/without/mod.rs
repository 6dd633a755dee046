//! Rows taken out of a file: found by where they stand, by their group or by their text, and the file written again
//! without them. All else keeps its bytes and, but for Parquet, its place: in a text, empty lines stay behind. From an
//! archive goes with a group all that lies in its folders, and with a file what else is known of it there.

mod parquet;
mod text;
mod zip;

use std::collections::HashSet;
use std::io::{self, BufReader, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::draft::{Draft, Material, Step};
use crate::format::{self, Format, HandleFailed, Piece, Rows, gzip, tar_pieces};
use crate::{Content, DatasetError, Limits, Place, Source};

/// Which rows are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Those that stand there.
    Places(HashSet<Place>),
    /// Those of a group.
    Group(String),
    /// Those with this text, letter for letter; of rows that cannot be read, those whose bytes hold it.
    Text(String),
}

/// Where the rows stand that are to go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order of the file.
    pub places: Vec<Place>,
    /// Rows and files of an archive that cannot be read, and so were not compared.
    pub unreadable: u64,
    /// What has to go from an archive with them, or as a group's, and is no row.
    beside: Vec<Place>,
    format: Option<Format>,
    /// Where they lie in the bytes of a text, unpacked.
    pieces: Vec<Piece>,
}

impl Found {
    /// Whether nothing is to go.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.beside.is_empty()
    }

    /// Everything that is to go.
    fn gone(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().chain(&self.beside)
    }
}

/// Looks for rows. `seen` is given what each of them shows.
///
/// # Errors
/// [`DatasetError::Io`] when the handle fails.
pub fn find(
    source: &Source,
    wanted: &Wanted,
    limits: &Limits,
    seen: &mut dyn FnMut(Content),
) -> Result<Found, DatasetError> {
    let mut opened = format::open(source, limits)?;
    let mut found = Found { format: opened.format, ..Found::default() };
    while let Some(step) = opened.rows.next()? {
        let (place, draft) = match step {
            Step::Row { place, draft } => (place, draft.ok()),
            // A file in an archive that is no example, as a list beside the folders.
            Step::Note { place: Some(place @ Place::Path(_)), fault } if fault.code.is_unread() => {
                (place, None)
            }
            Step::Note { .. } => continue,
        };
        let taken = match &draft {
            Some(draft) => wanted.takes(&place, draft),
            None => wanted.names(&place) || wanted.takes_unread(&place, opened.rows.as_ref()),
        };
        if !taken {
            found.unreadable += u64::from(draft.is_none() && !matches!(wanted, Wanted::Places(_)));
            continue;
        }
        if let Some(content) = draft.and_then(|draft| content(draft.material, limits)) {
            seen(content);
        }
        found.pieces.extend(opened.rows.piece().map(|(piece, _)| piece));
        found.places.push(place);
    }
    if let Some(listing) = opened.rows.listing() {
        let beside = listing.beside(&paths(&found.places), wanted.group());
        found.beside = beside.into_iter().map(|path| Place::Path(path.into())).collect();
    }
    Ok(found)
}

/// Writes a file again without the rows that were found in it.
///
/// # Errors
/// [`DatasetError::CannotRewrite`] for a file that is damaged or of a kind that cannot be written; [`DatasetError::Io`]
/// when a handle fails.
pub fn write_without(
    source: &Source,
    found: &Found,
    limits: &Limits,
    out: impl Write + Send,
) -> Result<(), DatasetError> {
    let out = Out(out);
    match found.format {
        None => Err(DatasetError::CannotRewrite("nothing can be read of it".into())),
        Some(Format::JsonLines | Format::Csv | Format::Tsv) => {
            packed(source, limits, out, |from, to| text::cut(from, to, &found.pieces, text::Left::LineEnds))
        }
        Some(Format::Tar) => {
            let pieces = tar_pieces(plain(source, limits)?, &paths(found.gone()))?;
            packed(source, limits, out, |from, to| text::cut(from, to, &pieces, text::Left::Nothing))
        }
        Some(Format::Zip) => zip::copy(source, &paths(found.gone()), out),
        Some(Format::Parquet) => parquet::copy(source, &lines(&found.places), limits, out),
    }
}

impl Wanted {
    fn names(&self, place: &Place) -> bool {
        matches!(self, Self::Places(places) if places.contains(place))
    }

    fn group(&self) -> Option<&str> {
        match self {
            Self::Group(group) => Some(group.trim()),
            Self::Places(_) | Self::Text(_) => None,
        }
    }

    fn takes(&self, place: &Place, draft: &Draft) -> bool {
        match self {
            Self::Places(places) => places.contains(place),
            Self::Group(group) => draft.group.as_deref() == Some(group.trim()),
            Self::Text(text) => matches!(&draft.material, Material::Text(found) if found == text),
        }
    }

    /// Whether the last row, which is wrong or no example, is wanted as far as its path and its bytes tell.
    fn takes_unread(&self, place: &Place, rows: &dyn Rows) -> bool {
        if let (Some(listing), Place::Path(path), Some(group)) = (rows.listing(), place, self.group()) {
            return listing.is_of_group(path, group);
        }
        let Some((_, bytes)) = rows.piece() else { return false };
        let object = serde_json::from_slice::<serde_json::Value>(bytes).ok();
        let field = |name: &str| object.as_ref().and_then(|object| object.get(name)?.as_str());
        match self {
            Self::Places(_) => false,
            Self::Group(group) => field("group").map(str::trim) == Some(group.trim()),
            Self::Text(text) => {
                let escaped = serde_json::Value::from(text.as_str()).to_string();
                let escaped = escaped.trim_start_matches('"').trim_end_matches('"');
                let holds = |wanted: &str| memchr::memmem::find(bytes, wanted.as_bytes()).is_some();
                field("text") == Some(text) || holds(text) || holds(escaped)
            }
        }
    }
}

fn content(material: Material, limits: &Limits) -> Option<Content> {
    material.content(limits).ok()
}

fn paths<'a>(places: impl IntoIterator<Item = &'a Place>) -> HashSet<&'a str> {
    let mut paths = HashSet::new();
    for place in places {
        match place {
            Place::Path(path) => drop(paths.insert(&**path)),
            Place::Line(_) => {}
        }
    }
    paths
}

fn lines(places: &[Place]) -> HashSet<u64> {
    let line = |place: &Place| match place {
        Place::Line(line) => Some(*line),
        Place::Path(_) => None,
    };
    places.iter().filter_map(line).collect()
}

/// Whether a file is packed with gzip.
fn is_packed(source: &Source) -> Result<bool, DatasetError> {
    Ok(source.head(2).map_err(cannot)?.starts_with(b"\x1F\x8B"))
}

/// A file's bytes, unpacked.
fn plain(source: &Source, limits: &Limits) -> Result<Box<dyn Read + Send>, DatasetError> {
    Ok(if is_packed(source)? {
        Box::new(gzip::Unpacked::new(source, limits))
    } else {
        Box::new(BufReader::with_capacity(64 << 10, source.reader_at(0)))
    })
}

/// Copies a file's bytes, and packs them as they were.
fn packed<W: Write>(
    source: &Source,
    limits: &Limits,
    mut out: W,
    copy: impl FnOnce(&mut dyn Read, &mut dyn Write) -> io::Result<()>,
) -> Result<(), DatasetError> {
    let mut from = plain(source, limits)?;
    let copied = if is_packed(source)? {
        let mut packer = GzEncoder::new(out, Compression::default());
        let copied = copy(&mut from, &mut packer).and_then(|()| packer.finish());
        copied.and_then(|mut out| out.flush())
    } else {
        copy(&mut from, &mut out).and_then(|()| out.flush())
    };
    copied.map_err(cannot)
}

/// What an error of copying means: a handle that failed, or a file that cannot be read to its end.
fn cannot(error: io::Error) -> DatasetError {
    match format::fault_of(error) {
        Ok(fault) => DatasetError::CannotRewrite(fault.message),
        Err(error) => error,
    }
}

/// Where the new file goes: its errors are a handle's, whatever packs on the way.
struct Out<W>(W);

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(failed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(failed)
    }
}

fn failed(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), HandleFailed(error))
}
