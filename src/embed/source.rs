//! What is embedded: the lines of a file, or the pictures of a folder, one item at a time.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use headstart_types::payload::Modality;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// File endings taken for pictures.
const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// What is embedded.
pub(super) enum Source {
    /// The lines of a file.
    Texts(Texts),
    /// Pictures of a folder, or one.
    Pictures {
        /// The folder, in its canonical form.
        folder: PathBuf,
        /// In order of path.
        pictures: Vec<Picture>,
    },
}

/// A file with a text on each line.
pub(super) struct Texts {
    path: PathBuf,
    json: bool,
}

/// A picture's file.
pub(super) struct Picture {
    path: PathBuf,
    /// Its path in the folder.
    pub(super) name: String,
}

/// One item, read.
pub(super) struct Item {
    /// Where it stands, for people.
    pub(super) place: String,
    /// The picture's name; a text has none.
    pub(super) file: Option<String>,
    /// The text's UTF-8, or the picture's file.
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
            collect_pictures(path, &mut paths).with_context(unreadable)?;
            paths.sort();
            ensure!(!paths.is_empty(), "{} holds no pictures ({})", path.display(), PICTURES.join(", "));
            let pictures = paths.into_iter().map(|file| Picture::within(path, file));
            let pictures = pictures.collect::<anyhow::Result<_>>()?;
            return Ok(Self::Pictures { folder: path.canonicalize().with_context(unreadable)?, pictures });
        }
        ensure!(metadata.is_file(), "{} is neither a file nor a folder", path.display());
        if is_picture(path) {
            let file = path.canonicalize().with_context(unreadable)?;
            let folder = file.parent().unwrap_or(Path::new("/")).to_path_buf();
            let pictures = vec![Picture { path: path.to_path_buf(), ..Picture::within(&folder, file)? }];
            return Ok(Self::Pictures { folder, pictures });
        }
        let json = path.extension().is_some_and(|ending| ending == "jsonl" || ending == "ndjson");
        Ok(Self::Texts(Texts { path: path.to_path_buf(), json }))
    }

    /// What a backbone must read.
    pub(super) fn modality(&self) -> Modality {
        match self {
            Self::Texts(_) => Modality::Text,
            Self::Pictures { .. } => Modality::Image,
        }
    }

    /// How many items there are.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn count(&self) -> anyhow::Result<usize> {
        match self {
            Self::Texts(texts) => texts.count(),
            Self::Pictures { pictures, .. } => Ok(pictures.len()),
        }
    }

    /// What is still to do: texts behind the first `done`, pictures whose name is not among `names`.
    ///
    /// # Errors
    /// When the file cannot be read; an item's error names its line or file.
    pub(super) fn items_behind(&self, done: usize, names: &HashSet<String>) -> anyhow::Result<Items<'_>> {
        match self {
            Self::Texts(texts) => Ok(Box::new(texts.items()?.skip(done))),
            Self::Pictures { pictures, .. } => {
                let rest: Vec<&Picture> =
                    pictures.iter().filter(|picture| !names.contains(&picture.name)).collect();
                Ok(Box::new(rest.into_iter().map(Picture::item)))
            }
        }
    }

    /// Those of `names` that no picture has any more, in order.
    pub(super) fn lost(&self, names: &HashSet<String>) -> Vec<String> {
        let Self::Pictures { pictures, .. } = self else { return Vec::new() };
        let there: HashSet<&String> = pictures.iter().map(|picture| &picture.name).collect();
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
            Self::Pictures { pictures, .. } => pictures.iter().any(|picture| is_it(&picture.path)),
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

impl Picture {
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
        self.0.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    PICTURES.contains(&ending.as_str())
}

fn collect_pictures(folder: &Path, pictures: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_pictures(&path, pictures)?;
        } else if is_picture(&path) {
            pictures.push(path);
        }
    }
    Ok(())
}
