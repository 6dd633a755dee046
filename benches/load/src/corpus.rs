//! Real texts and photos, in a seeded order.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::sample::Chance;

/// Of the order texts and photos are taken in.
const SEED: u64 = 20_240_601;

/// Columns that hold a text.
const TEXT_COLUMNS: [&str; 3] = ["text", "premise", "hypothesis"];

/// Encoded pictures are told apart by their first bytes.
const JPEG: &[u8] = &[0xFF, 0xD8, 0xFF];

/// What is sent.
pub(crate) struct Corpus {
    texts: Vec<String>,
    photos: Vec<Photo>,
    origin: String,
}

/// An encoded picture.
#[derive(Clone)]
pub(crate) struct Photo {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: &'static str,
}

impl Photo {
    fn new(bytes: Vec<u8>) -> Self {
        let content_type = if bytes.starts_with(JPEG) { "image/jpeg" } else { "image/png" };
        Self { bytes, content_type }
    }
}

impl Corpus {
    /// Reads `datasets/` of the test data, or, where there is none, whatever lies in `examples/`.
    ///
    /// # Errors
    /// When a folder is named that does not hold what it should, or when there is nothing to read at all.
    pub(crate) fn load(test_data: Option<&Path>) -> anyhow::Result<Self> {
        let mut corpus = match test_data {
            Some(folder) => Self::from_test_data(&folder.join("datasets"))?,
            None => Self::from_examples(Path::new("examples"))?,
        };
        Chance::new(SEED).shuffle(&mut corpus.texts);
        Chance::new(SEED).shuffle(&mut corpus.photos);
        Ok(corpus)
    }

    fn from_test_data(datasets: &Path) -> anyhow::Result<Self> {
        let folder = datasets.join("text");
        let mut texts = Vec::new();
        for file in files(&folder)? {
            texts.extend(read_texts(&file)?);
        }
        let archive = datasets.join("images/hymenoptera.zip");
        let photos: Vec<Photo> = read_archive(&archive, "")?.into_iter().map(Photo::new).collect();
        anyhow::ensure!(!texts.is_empty(), "{} holds no texts", folder.display());
        anyhow::ensure!(!photos.is_empty(), "{} holds no photos", archive.display());
        let origin = format!(
            "all {} texts of `datasets/text` and {} photos of `datasets/images/hymenoptera.zip`",
            texts.len(),
            photos.len()
        );
        Ok(Self { texts, photos, origin })
    }

    fn from_examples(folder: &Path) -> anyhow::Result<Self> {
        let mut texts = Vec::new();
        let mut photos = Vec::new();
        for file in files(folder)? {
            match extension(&file) {
                "csv" => texts.extend(read_texts(&file)?),
                "txt" => {
                    texts.extend(read(&file)?.lines().filter(|line| !line.is_empty()).map(str::to_owned))
                }
                "jpg" | "jpeg" | "png" => photos.push(Photo::new(fs::read(&file)?)),
                _ => {}
            }
        }
        anyhow::ensure!(
            !texts.is_empty() && !photos.is_empty(),
            "{} holds no texts or no photos",
            folder.display()
        );
        let origin = format!(
            "HEADSTART_TEST_DATA is not set: only the {} texts and {} pictures of `examples/`, repeated",
            texts.len(),
            photos.len()
        );
        Ok(Self { texts, photos, origin })
    }

    /// The first `count` texts that `keep` wants; begins again when there are fewer.
    pub(crate) fn texts(&self, count: usize, keep: impl Fn(&str) -> bool) -> Vec<&str> {
        let kept: Vec<&str> =
            self.texts.iter().map(String::as_str).filter(|text| keep(text)).take(count).collect();
        kept.iter().copied().cycle().take(if kept.is_empty() { 0 } else { count }).collect()
    }

    /// Every text.
    pub(crate) fn all_texts(&self) -> &[String] {
        &self.texts
    }

    /// Every photo.
    pub(crate) fn all_photos(&self) -> &[Photo] {
        &self.photos
    }

    /// The first `count` photos; begins again when there are fewer.
    pub(crate) fn photos(&self, count: usize) -> Vec<&Photo> {
        self.photos.iter().cycle().take(count).collect()
    }

    /// Where it all came from, in words.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }
}

/// Files of a folder and its sub-folders, in order of path.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// The text columns of a CSV file, packed or not; nothing of other files.
fn read_texts(path: &Path) -> anyhow::Result<Vec<String>> {
    let open = || File::open(path).with_context(|| format!("{} cannot be read", path.display()));
    let name = path.to_string_lossy();
    let table: Box<dyn Read> = if name.ends_with(".csv.gz") {
        Box::new(flate2::read::GzDecoder::new(open()?))
    } else if name.ends_with(".csv") {
        Box::new(open()?)
    } else {
        return Ok(Vec::new());
    };
    parse_texts(table).with_context(|| format!("{name} is not a table of texts"))
}

fn parse_texts(table: impl Read) -> anyhow::Result<Vec<String>> {
    let mut reader = csv::Reader::from_reader(table);
    let header = reader.headers()?;
    let columns: Vec<usize> = header
        .iter()
        .enumerate()
        .filter(|(_, name)| TEXT_COLUMNS.contains(name))
        .map(|(index, _)| index)
        .collect();
    let mut texts = Vec::new();
    for row in reader.records() {
        let row = row?;
        let cells = columns.iter().filter_map(|&column| row.get(column));
        texts.extend(cells.filter(|text| !text.trim().is_empty()).map(str::to_owned));
    }
    Ok(texts)
}

/// `count` recordings of an archive of `datasets/audio`, in a seeded order; begins again when there are fewer.
///
/// # Errors
/// Without test data, and when the archive cannot be read or holds no WAV files.
pub(crate) fn recordings(
    test_data: Option<&Path>,
    archive: &str,
    count: usize,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let folder = test_data.context("sounds are only in the test data: set HEADSTART_TEST_DATA")?;
    let path = folder.join("datasets/audio").join(archive);
    let mut files = read_archive(&path, ".wav")?;
    anyhow::ensure!(!files.is_empty(), "{} holds no recordings", path.display());
    Chance::new(SEED).shuffle(&mut files);
    Ok(files.iter().cloned().cycle().take(count).collect())
}

/// The files of an archive whose names end so.
fn read_archive(path: &Path, ending: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let mut archive =
        zip::ZipArchive::new(File::open(path).with_context(unreadable)?).with_context(unreadable)?;
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).with_context(unreadable)?;
        if member.is_file() && member.name().with_context(unreadable)?.ends_with(ending) {
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).with_context(unreadable)?;
            files.push(bytes);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_column_is_read_and_labels_are_not() {
        let table = "premise,hypothesis,label\n\"one, two\",three,neutral\nfour,,neutral\n";
        assert_eq!(parse_texts(table.as_bytes()).unwrap(), ["one, two", "three", "four"]);
    }

    #[test]
    fn a_small_corpus_begins_again() {
        let corpus =
            Corpus { texts: vec!["a".into(), "bb".into()], photos: Vec::new(), origin: String::new() };
        assert_eq!(corpus.texts(3, |_| true), ["a", "bb", "a"]);
        assert_eq!(corpus.texts(2, |text| text.len() == 1), ["a", "a"]);
        assert!(corpus.texts(2, |_| false).is_empty());
    }
}
