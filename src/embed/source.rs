//! What is embedded: the lines of a file, or the pictures or sounds of a folder, one item at a time.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use headstart_types::hex;
use headstart_types::payload::Modality;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// File endings taken for pictures.
const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// File endings taken for sounds.
const SOUNDS: [&str; 9] = ["wav", "wave", "flac", "mp3", "ogg", "oga", "opus", "m4a", "mp4"];

/// File endings of tables: a line of one is no text, and its header and labels would be embedded as such.
const TABLES: [&str; 3] = ["csv", "tsv", "parquet"];

/// What is embedded.
pub(super) enum Source {
    /// The lines of a file.
    Texts(Texts),
    /// Pictures or sounds of a folder, or one.
    Files {
        /// What all of them are.
        modality: Modality,
        /// The folder, in its canonical form.
        folder: PathBuf,
        /// In order of path.
        files: Vec<MediaFile>,
    },
}

/// A file with a text on each line.
pub(super) struct Texts {
    path: PathBuf,
    json: bool,
}

/// The file of a picture or sound.
pub(super) struct MediaFile {
    path: PathBuf,
    /// Its path in the folder.
    pub(super) name: String,
}

/// One item, read.
pub(super) struct Item {
    /// Where it stands, for people.
    pub(super) place: String,
    /// The file's name; a text has none.
    pub(super) file: Option<String>,
    /// The text's UTF-8, or the file of a picture or sound.
    pub(super) bytes: Vec<u8>,
}

/// Items in order; reading ends with the first that cannot be read.
pub(super) type Items<'a> = Box<dyn Iterator<Item = anyhow::Result<Item>> + 'a>;

#[derive(Deserialize)]
struct TextLine {
    text: String,
}

impl Source {
    /// Looks at a file or folder.
    ///
    /// # Errors
    /// When there is nothing to embed.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let unreadable = || format!("{} cannot be read", path.display());
        let metadata = std::fs::metadata(path).with_context(unreadable)?;
        if metadata.is_dir() {
            let mut paths = Vec::new();
            collect_files(path, &mut paths).with_context(unreadable)?;
            paths.sort_by(|(left, _), (right, _)| left.cmp(right));
            let modality = paths.first().map(|(_, modality)| *modality).with_context(|| {
                let (pictures, sounds) = (PICTURES.join(", "), SOUNDS.join(", "));
                format!("{} holds no pictures ({pictures}) and no sounds ({sounds})", path.display())
            })?;
            ensure!(
                paths.iter().all(|(_, other)| *other == modality),
                "{} holds pictures and sounds: no backbone reads both",
                path.display()
            );
            let files = paths.into_iter().map(|(file, _)| MediaFile::within(path, file));
            let files = files.collect::<anyhow::Result<_>>()?;
            return Ok(Self::Files {
                modality,
                folder: path.canonicalize().with_context(unreadable)?,
                files,
            });
        }
        ensure!(metadata.is_file(), "{} is neither a file nor a folder", path.display());
        if let Some(modality) = modality_of(path) {
            let file = path.canonicalize().with_context(unreadable)?;
            let folder = file.parent().unwrap_or(Path::new("/")).to_path_buf();
            let files = vec![MediaFile { path: path.to_path_buf(), ..MediaFile::within(&folder, file)? }];
            return Ok(Self::Files { modality, folder, files });
        }
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        ensure!(
            ending.as_deref().is_none_or(|ending| !TABLES.contains(&ending)),
            "{} is a table, whose lines are no texts: give a file with a text on each line, or JSON lines with `text` as .jsonl",
            path.display()
        );
        let json = path.extension().is_some_and(|ending| ending == "jsonl" || ending == "ndjson");
        Ok(Self::Texts(Texts { path: path.to_path_buf(), json }))
    }

    /// What a backbone must read.
    pub(super) fn modality(&self) -> Modality {
        match self {
            Self::Texts(_) => Modality::Text,
            Self::Files { modality, .. } => *modality,
        }
    }

    /// How many items there are.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn count(&self) -> anyhow::Result<usize> {
        match self {
            Self::Texts(texts) => texts.count(),
            Self::Files { files, .. } => Ok(files.len()),
        }
    }

    /// What is still to do: texts behind the first `done`, files whose name is not among `names`.
    ///
    /// # Errors
    /// When the file cannot be read; an item's error names its line or file.
    pub(super) fn items_behind(&self, done: usize, names: &HashSet<String>) -> anyhow::Result<Items<'_>> {
        match self {
            Self::Texts(texts) => Ok(Box::new(texts.items()?.skip(done))),
            Self::Files { files, .. } => {
                let rest: Vec<&MediaFile> = files.iter().filter(|file| !names.contains(&file.name)).collect();
                Ok(Box::new(rest.into_iter().map(MediaFile::item)))
            }
        }
    }

    /// Those of `names` that no file has any more, in order.
    pub(super) fn lost(&self, names: &HashSet<String>) -> Vec<String> {
        let Self::Files { files, .. } = self else { return Vec::new() };
        let there: HashSet<&String> = files.iter().map(|file| &file.name).collect();
        let mut lost: Vec<String> = names.iter().filter(|name| !there.contains(name)).cloned().collect();
        lost.sort();
        lost
    }

    /// Whether a file is one of those that are read, by whatever name.
    pub(super) fn reads(&self, file: &Metadata) -> bool {
        let is_it = |path: &Path| {
            std::fs::metadata(path).is_ok_and(|own| (own.dev(), own.ino()) == (file.dev(), file.ino()))
        };
        match self {
            Self::Texts(texts) => is_it(&texts.path),
            Self::Files { files, .. } => files.iter().any(|file| is_it(&file.path)),
        }
    }
}

impl Texts {
    fn count(&self) -> anyhow::Result<usize> {
        let (mut lines, mut file) = (0, self.open()?);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line).with_context(|| self.path.display().to_string())? > 0 {
            lines += 1;
            line.clear();
        }
        Ok(lines)
    }

    fn items(&self) -> anyhow::Result<Items<'_>> {
        let mut file = self.open()?;
        let mut number = 0;
        Ok(Box::new(std::iter::from_fn(move || {
            number += 1;
            let place = format!("{}: line {number}", self.path.display());
            let mut line = Vec::new();
            match file.read_until(b'\n', &mut line).with_context(|| place.clone()) {
                Ok(0) => None,
                Ok(_) => {
                    Some(self.text(line, &place).map(|text| Item { place, file: None, bytes: text.into() }))
                }
                Err(error) => Some(Err(error)),
            }
        })))
    }

    /// What the first texts are, as one running hash.
    ///
    /// # Errors
    /// When the file or one of them cannot be read.
    pub(super) fn digest(&self, count: usize) -> anyhow::Result<TextsDigest> {
        let mut digest = TextsDigest::default();
        for item in self.items()?.take(count) {
            digest.add(&item?.bytes);
        }
        Ok(digest)
    }

    fn open(&self) -> anyhow::Result<BufReader<File>> {
        let file =
            File::open(&self.path).with_context(|| format!("{} cannot be read", self.path.display()))?;
        Ok(BufReader::new(file))
    }

    fn text(&self, mut line: Vec<u8>, place: &str) -> anyhow::Result<String> {
        if line.pop_if(|last| *last == b'\n').is_some() {
            line.pop_if(|last| *last == b'\r');
        }
        let line = String::from_utf8(line).ok().with_context(|| format!("{place} is not UTF-8 text"))?;
        let text = if self.json {
            serde_json::from_str::<TextLine>(&line).with_context(|| place.to_owned())?.text
        } else {
            line
        };
        ensure!(!text.is_empty(), "{place} has no text");
        Ok(text)
    }
}

impl MediaFile {
    fn within(folder: &Path, path: PathBuf) -> anyhow::Result<Self> {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_str();
        let name = name.with_context(|| format!("{}: the name is not UTF-8", path.display()))?.to_owned();
        Ok(Self { path, name })
    }

    fn item(&self) -> anyhow::Result<Item> {
        let place = self.path.display().to_string();
        let bytes = std::fs::read(&self.path).with_context(|| format!("{place} cannot be read"))?;
        Ok(Item { place, file: Some(self.name.clone()), bytes })
    }
}

/// A running hash of texts in order.
#[derive(Clone, Default)]
pub(super) struct TextsDigest(Sha256);

impl TextsDigest {
    pub(super) fn add(&mut self, text: &[u8]) {
        // The length keeps two texts from hashing as one that holds both.
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    pub(super) fn hex(&self) -> String {
        hex(&self.0.clone().finalize())
    }
}

/// What a file's ending says that it is.
fn modality_of(path: &Path) -> Option<Modality> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let known = [(&PICTURES[..], Modality::Image), (&SOUNDS[..], Modality::Audio)];
    known.into_iter().find(|(endings, _)| endings.contains(&ending.as_str())).map(|(_, modality)| modality)
}

fn collect_files(folder: &Path, files: &mut Vec<(PathBuf, Modality)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_files(&path, files)?;
        } else if let Some(modality) = modality_of(&path) {
            files.push((path, modality));
        }
    }
    Ok(())
}
