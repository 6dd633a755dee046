//! The file that vectors go to: what stands in it is theirs, or it is refused untouched.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::record::Record;
use super::source::Source;

/// A fixed header size leaves room for any count: it is written again with every write.
const NPY_HEADER: usize = 128;

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An object a line.
    Jsonl,
    /// One NumPy array.
    Npy,
}

/// A file that vectors may go to.
pub(super) struct Output {
    pub(super) path: PathBuf,
    pub(super) form: Form,
}

/// The vectors an output holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// How many.
    pub(super) rows: usize,
    /// Bytes up to the end of the last.
    pub(super) keep: u64,
    /// Whether nothing has to be written for the file to be right.
    pub(super) whole: bool,
    /// Names of pictures, where lines have them.
    pub(super) names: HashSet<String>,
}

/// A line of vectors.
#[derive(Serialize, Deserialize)]
pub(super) struct Line<F, E> {
    pub(super) index: usize,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<F>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) truncated_tokens: usize,
    pub(super) embedding: E,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Output {
    /// A place for vectors. Nothing is made or changed.
    ///
    /// # Errors
    /// When the file or its side file is one that is read, or the place cannot have one.
    pub(super) fn at(path: PathBuf, source: &Source) -> anyhow::Result<Self> {
        let form = match path.extension().and_then(|ending| ending.to_str()) {
            Some("npy") => Form::Npy,
            Some("jsonl" | "ndjson") => Form::Jsonl,
            _ => bail!("{}: the output is .jsonl or .npy", path.display()),
        };
        for file in [&path, &Record::path(&path)] {
            match std::fs::metadata(file) {
                Ok(there) if source.reads(&there) => {
                    bail!("{} would be written over: it is what is embedded", file.display())
                }
                Ok(there) => ensure!(there.is_file(), "{} is no file", file.display()),
                Err(_) => {}
            }
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        ensure!(
            folder.is_none_or(Path::is_dir),
            "{} cannot be written: there is no such folder",
            path.display()
        );
        Ok(Self { path, form })
    }

    /// The record of the vectors that are there; `None` where there are none.
    ///
    /// # Errors
    /// When something else is there.
    pub(super) fn begun(&self) -> anyhow::Result<Option<Record>> {
        if std::fs::metadata(&self.path).map_or(0, |there| there.len()) == 0 {
            return Ok(None);
        }
        let record = Record::read(&self.path)?;
        ensure!(
            record.is_some(),
            "{} is not empty, and no {} says what made it: name another output, or write it anew with --overwrite",
            self.path.display(),
            Record::path(&self.path).display()
        );
        Ok(record)
    }

    /// The vectors that are there, at most `most`; a half-written one behind them does not count.
    ///
    /// # Errors
    /// When there is anything that is no vector of this dimension.
    pub(super) fn held(&self, dimension: usize, most: usize) -> anyhow::Result<Held> {
        let file =
            File::open(&self.path).with_context(|| format!("{} cannot be read", self.path.display()))?;
        let held = match self.form {
            Form::Jsonl => held_lines(file, dimension, most),
            Form::Npy => held_rows(file, dimension, most),
        };
        held.with_context(|| {
            format!("{} was not written by `headstart embed` alone and is left as it is", self.path.display())
        })
    }
}

/// NumPy's format, version 1.0: magic, version, header length, a dictionary padded with spaces.
pub(super) fn npy_header(rows: usize, dimension: usize) -> Vec<u8> {
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}");
    let length = NPY_HEADER - 10;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(format!("{text:<width$}\n", width = length - 1).into_bytes());
    header
}

fn held_rows(mut file: File, dimension: usize, most: usize) -> anyhow::Result<Held> {
    let length = file.metadata()?.len();
    let mut header = Vec::with_capacity(NPY_HEADER);
    file.by_ref().take(NPY_HEADER as u64).read_to_end(&mut header)?;
    if header.len() < NPY_HEADER {
        ensure!(npy_header(0, dimension).starts_with(&header), "it does not begin as a .npy file does");
        return Ok(Held::default());
    }
    let said = String::from_utf8_lossy(&header);
    let shape = said.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(','));
    let counted = shape.and_then(|(rows, _)| rows.parse().ok());
    ensure!(
        counted.is_some_and(|rows| npy_header(rows, dimension) == header),
        "its header is not that of 32-bit floats with {dimension} columns"
    );
    let row = 4 * dimension as u64;
    let rows = usize::try_from((length - NPY_HEADER as u64) / row)?.min(most);
    let keep = NPY_HEADER as u64 + rows as u64 * row;
    Ok(Held { rows, keep, whole: keep == length && counted == Some(rows), names: HashSet::new() })
}

fn held_lines(file: File, dimension: usize, most: usize) -> anyhow::Result<Held> {
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut held = Held::default();
    let (mut line, mut number, mut end) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        end += reader.read_until(b'\n', &mut line)? as u64;
        if line.last() != Some(&b'\n') {
            let begin = format!("{{\"index\":{number},").into_bytes();
            let is_ours = line.starts_with(&begin) || begin.starts_with(&line);
            ensure!(is_ours, "line {} is unfinished and no vector", number + 1);
            held.whole = held.keep == length;
            return Ok(held);
        }
        let read: Line<String, Vec<IgnoredAny>> =
            serde_json::from_slice(&line).with_context(|| format!("line {} is no vector", number + 1))?;
        ensure!(read.index == number, "line {} has the index {}", number + 1, read.index);
        let values = read.embedding.len();
        ensure!(values == dimension, "line {} has {values} values, not {dimension}", number + 1);
        number += 1;
        if held.rows < most {
            held.rows += 1;
            held.keep = end;
            if let Some(name) = read.file {
                ensure!(held.names.insert(name), "line {number} has the file of an earlier line");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    }

    fn lines(text: &str) -> anyhow::Result<Held> {
        held_lines(file(text.as_bytes()), 2, 2)
    }

    #[test]
    fn whole_lines_are_kept_and_a_half_written_one_is_not() {
        let (first, second) = (
            "{\"index\":0,\"file\":\"a.png\",\"embedding\":[0.5,1]}\n",
            "{\"index\":1,\"embedding\":[0,1]}\n",
        );
        let both = format!("{first}{second}");
        let held = lines(&both).unwrap();
        assert_eq!((held.rows, held.keep, held.whole), (2, both.len() as u64, true));
        assert!(held.names.contains("a.png"));
        for cut in first.len()..both.len() {
            let held = lines(&both[..cut]).unwrap();
            assert_eq!(
                (held.rows, held.keep, held.whole),
                (1, first.len() as u64, cut == first.len()),
                "{cut}"
            );
        }
        let more = lines(&format!("{both}{{\"index\":2,\"embedding\":[0,1]}}\n")).unwrap();
        assert_eq!((more.rows, more.keep, more.whole), (2, both.len() as u64, false));
    }

    #[test]
    fn lines_of_somebody_else_are_no_vectors() {
        for text in [
            "some prose\n",
            "{\"index\":0,\"embedding\":[0,1]}\nand notes",
            "{\"index\":1,\"embedding\":[0,1]}\n",
            "{\"index\":0,\"embedding\":[0,1,2]}\n",
            "{\"text\":\"a\"}\n",
            "{\"index\":0,\"file\":\"a\",\"embedding\":[0,1]}\n{\"index\":1,\"file\":\"a\",\"embedding\":[0,1]}\n",
        ] {
            assert!(lines(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rows_count_from_the_length_and_only_under_the_same_header() {
        let mut bytes = npy_header(0, 2);
        assert_eq!(bytes.len(), NPY_HEADER);
        bytes.extend([0; 8 + 8 + 3]);
        let held = held_rows(file(&bytes), 2, 9).unwrap();
        assert_eq!((held.rows, held.keep, held.whole), (2, 128 + 16, false));
        assert_eq!(held_rows(file(&bytes), 2, 1).unwrap().rows, 1);
        assert!(held_rows(file(&bytes), 3, 9).is_err());
        assert_eq!(held_rows(file(&bytes[..50]), 2, 9).unwrap(), Held::default());
        assert!(held_rows(file(b"prose"), 2, 9).is_err());
        bytes.truncate(128 + 16);
        bytes[..NPY_HEADER].copy_from_slice(&npy_header(2, 2));
        assert!(held_rows(file(&bytes), 2, 9).unwrap().whole);
        let other: Vec<u8> = String::from_utf8_lossy(&npy_header(2, 2)[10..]).replace("<f4", "<f8").into();
        bytes[10..NPY_HEADER].copy_from_slice(&other);
        assert!(held_rows(file(&bytes), 2, 9).is_err());
    }
}
