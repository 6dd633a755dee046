//! What the paths of an archive mean: class folders, splits above them, and what is no example.
//!
//! A class is the folder that an example lies in. Above it may stand, in this order or another, a split (`train`,
//! `val`, `test` and their other names) and folders that part the examples otherwise, such as domains: those become
//! the group. One folder around everything is not looked at. All examples lie equally deep, so that a folder of
//! folders is never taken for a class by accident.

use std::collections::{BTreeMap, BTreeSet};

use crate::draft::{Fault, checked_label};
use crate::{Code, Limits, Split};

/// What an archive says of an entry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// The path, as text; bytes that are not UTF-8 are replaced.
    pub(crate) path: String,
    pub(crate) is_folder: bool,
    /// Why it is refused whatever its path: a link, encryption, size.
    pub(crate) refusal: Option<Fault>,
}

/// What the name of a file says of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Picture,
    Sound,
    Text,
    /// Content alone decides.
    Open,
    /// An archive in the archive.
    Archive,
    /// Tables, notes, settings: what lies beside examples.
    Beside,
}

/// Where an example belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) label: String,
    pub(crate) group: Option<String>,
    pub(crate) split: Option<Split>,
    pub(crate) kind: Kind,
}

/// What is done with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// Passed over silently.
    Skip,
    /// Read as an example.
    Example(Seat),
    /// Reported, not read.
    Report(Fault),
}

/// What folders mean in an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Folders {
    /// The one around everything.
    pub(crate) wrapper: Option<String>,
    /// How many stand above the classes, splits not counted: they are the group.
    pub(crate) groups: usize,
}

/// Paths with more folders are no data set's.
const MOST_FOLDERS: usize = 32;
const MOST_PATH_BYTES: usize = 4096;

const PICTURES: [&str; 15] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif", "heic", "heif",
    "jp2",
];
const SOUNDS: [&str; 13] =
    ["wav", "wave", "flac", "mp3", "ogg", "oga", "opus", "m4a", "m4b", "mp4", "aac", "aif", "aiff"];
const ARCHIVES: [&str; 11] = ["zip", "tar", "tgz", "gz", "bz2", "xz", "7z", "rar", "zst", "tbz2", "txz"];
const BESIDE: [&str; 16] = [
    "csv", "tsv", "json", "jsonl", "parquet", "md", "rst", "html", "xml", "yaml", "yml", "toml", "ini",
    "log", "py", "db",
];

impl Kind {
    fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let Some((_, ending)) = name.rsplit_once('.') else { return Self::Open };
        if PICTURES.contains(&ending) {
            Self::Picture
        } else if SOUNDS.contains(&ending) {
            Self::Sound
        } else if matches!(ending, "txt" | "text") {
            Self::Text
        } else if ARCHIVES.contains(&ending) {
            Self::Archive
        } else if BESIDE.contains(&ending) {
            Self::Beside
        } else {
            Self::Open
        }
    }
}

/// A file that may be an example.
struct Candidate {
    index: usize,
    folders: Vec<String>,
    kind: Kind,
}

/// The role of every entry, in their order, the names of folders that became groups, and what folders mean.
pub(crate) fn roles(entries: &[Entry], limits: &Limits) -> (Vec<Role>, BTreeSet<String>, Folders) {
    let mut roles = Vec::with_capacity(entries.len());
    let mut candidates = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, entry) in entries.iter().enumerate() {
        roles.push(match first_look(entry, &mut seen) {
            Ok(Some((folders, kind))) => {
                candidates.push(Candidate { index, folders, kind });
                Role::Skip
            }
            Ok(None) => Role::Skip,
            Err(fault) => Role::Report(fault),
        });
    }
    let wrapper = wrapper(&candidates).map(str::to_owned);
    let wrapped = usize::from(wrapper.is_some());
    let mut depths: BTreeMap<usize, usize> = BTreeMap::new();
    let mut seats = Vec::with_capacity(candidates.len());
    for Candidate { index, folders, kind } in candidates {
        let seat = seat(folders.get(wrapped..).unwrap_or_default(), kind, limits);
        if let Ok((_, depth)) = &seat {
            *depths.entry(*depth).or_default() += 1;
        }
        seats.push((index, seat));
    }
    // Of equal counts the shallower is taken for what was meant.
    let usual = depths.iter().rev().max_by_key(|&(_, count)| count).map_or(1, |(&depth, _)| depth);
    let mut groups = BTreeSet::new();
    for (index, seat) in seats {
        let role = match seat {
            Ok((seat, depth)) if depth == usual => {
                groups.extend(seat.group.clone());
                Role::Example(seat)
            }
            Ok((_, depth)) => Role::Report(Fault::new(
                Code::MixedDepth,
                format!("lies {depth} folders deep, splits not counted; most files lie {usual} deep"),
            )),
            Err(fault) => Role::Report(fault),
        };
        if let Some(slot) = roles.get_mut(index) {
            *slot = role;
        }
    }
    (roles, groups, Folders { wrapper, groups: usual - 1 })
}

/// Refuses what is unsafe, passes over what is not data; what is left may be an example.
fn first_look(entry: &Entry, seen: &mut BTreeSet<Vec<String>>) -> Result<Option<(Vec<String>, Kind)>, Fault> {
    let mut parts = parts(&entry.path)?;
    if entry.is_folder {
        return Ok(None);
    }
    if parts.iter().any(|part| part.starts_with('.') || part == "__MACOSX") {
        return Ok(None);
    }
    if !seen.insert(parts.clone()) {
        return Err(Fault::new(Code::DuplicatePath, "the archive has this path twice"));
    }
    let Some(name) = parts.pop() else { return Ok(None) };
    if ["thumbs.db", "desktop.ini"].contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(None);
    }
    if let Some(refusal) = &entry.refusal {
        return Err(refusal.clone());
    }
    match Kind::of(&name) {
        Kind::Archive => Err(Fault::new(Code::NestedArchive, "an archive in the archive is not read")),
        Kind::Beside => Err(Fault::new(Code::IgnoredFile, "not read: neither a picture, a sound nor a text")),
        kind @ (Kind::Picture | Kind::Sound | Kind::Text | Kind::Open) => Ok(Some((parts, kind))),
    }
}

/// A path's parts, if no system can take it to lead anywhere but into the archive.
fn parts(path: &str) -> Result<Vec<String>, Fault> {
    let unsafe_path = |why: &str| Fault::new(Code::UnsafePath, format!("the path {why}"));
    if path.len() > MOST_PATH_BYTES {
        return Err(unsafe_path("is too long"));
    }
    if path.starts_with('/') {
        return Err(unsafe_path("is absolute"));
    }
    if path.contains('\\') {
        return Err(unsafe_path("has a backslash, which other systems take for a folder's end"));
    }
    if path.chars().any(char::is_control) {
        return Err(unsafe_path("has a control character"));
    }
    if path.contains('\u{FFFD}') {
        return Err(unsafe_path("is not UTF-8"));
    }
    let mut letters = path.chars();
    if letters.next().is_some_and(|letter| letter.is_ascii_alphabetic()) && letters.next() == Some(':') {
        return Err(unsafe_path("begins with a drive"));
    }
    let parts: Vec<String> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
    if parts.iter().any(|part| part == "..") {
        return Err(unsafe_path("has `..` in it, which is refused wherever it leads"));
    }
    if parts.len() > MOST_FOLDERS {
        return Err(unsafe_path("has too many folders"));
    }
    Ok(parts)
}

/// The one folder, that is no split, that lies around everything.
fn wrapper(candidates: &[Candidate]) -> Option<&str> {
    let mut inside = candidates.iter().filter(|candidate| !candidate.folders.is_empty());
    let wrapper = inside.next().and_then(|candidate| candidate.folders.first())?;
    let is_around = Split::parse(wrapper).is_none()
        && inside.all(|candidate| candidate.folders.first() == Some(wrapper))
        && candidates.iter().all(|candidate| candidate.folders.len() != 1 || candidate.kind == Kind::Open);
    is_around.then_some(wrapper)
}

/// Where a file in these folders belongs, and how deep it lies without the split.
fn seat(folders: &[String], kind: Kind, limits: &Limits) -> Result<(Seat, usize), Fault> {
    let Some((class, above)) = folders.split_last() else {
        return Err(match kind {
            Kind::Picture | Kind::Sound => Fault::new(Code::NoLabel, "lies in no class folder"),
            Kind::Text | Kind::Open | Kind::Archive | Kind::Beside => {
                Fault::new(Code::IgnoredFile, "not read: lies beside the class folders")
            }
        });
    };
    let mut split = None;
    let mut groups = Vec::new();
    for folder in above {
        match (split, Split::parse(folder)) {
            (None, Some(found)) => split = Some(found),
            (Some(_), _) | (None, None) => groups.push(folder.as_str()),
        }
    }
    if above.is_empty() && Split::parse(class).is_some() {
        return Err(Fault::new(Code::NoLabel, format!("lies in `{class}/` without a class folder")));
    }
    let depth = groups.len() + 1;
    let group = (!groups.is_empty()).then(|| groups.join("/"));
    Ok((Seat { label: checked_label(class, limits)?, group, split, kind }, depth))
}
