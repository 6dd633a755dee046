//! What is imported: a folder; or a file, how it begins, and reading it with a bar that shows how far.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bytes that a kind may look at to recognise a source.
const HEAD: usize = 64 << 10;

/// Longest line: more would be no line of any format, and must not fill the memory.
const LONGEST_LINE: u64 = 16 << 20;

/// A source.
pub(super) struct Source {
    path: PathBuf,
    head: Vec<u8>,
    bytes: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            return Ok(Self { path: path.to_owned(), head: Vec::new(), bytes: 0 });
        }
        let read = || -> std::io::Result<(Vec<u8>, u64)> {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            let mut head = Vec::new();
            file.take(HEAD as u64).read_to_end(&mut head)?;
            Ok((head, bytes))
        };
        let (head, bytes) = read().with_context(|| path.display().to_string())?;
        ensure!(!head.is_empty(), "{} is empty", path.display());
        Ok(Self { path: path.to_owned(), head, bytes })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a folder that has this file.
    pub(super) fn has(&self, file: &str) -> bool {
        self.path.join(file).is_file()
    }

    /// How it begins: up to 64 KiB; nothing of a folder.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Lines of the head that are whole, as text; none where it is no text.
    pub(super) fn head_lines(&self) -> impl Iterator<Item = &str> {
        let whole = self.head.len() as u64 == self.bytes;
        let ends = if whole {
            self.head.len()
        } else {
            self.head.iter().rposition(|byte| *byte == b'\n').unwrap_or(0)
        };
        std::str::from_utf8(self.head.get(..ends).unwrap_or_default()).unwrap_or_default().lines()
    }

    pub(super) fn is_compressed(&self) -> bool {
        const MAGIC: [&[u8]; 7] = [
            b"\x1f\x8b",
            b"PK\x03\x04",
            b"BZh",
            b"\xfd7zXZ",
            b"7z\xbc\xaf",
            b"\x28\xb5\x2f\xfd",
            b"\x5d\x00\x00",
        ];
        MAGIC.iter().any(|magic| self.head.starts_with(magic))
    }

    /// The whole of it, from the start, with a bar on the terminal.
    pub(super) fn reader(&self) -> anyhow::Result<Reader> {
        let file = File::open(&self.path).with_context(|| self.path.display().to_string())?;
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(self.bytes), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {eta} left") {
            bar.set_style(style);
        }
        Ok(BufReader::with_capacity(1 << 20, Counted { file, bar }))
    }
}

/// A source's bytes.
pub(super) type Reader = BufReader<Counted>;

/// A file whose bar moves as it is read.
pub(super) struct Counted {
    file: File,
    bar: ProgressBar,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Reads up to and with `end` into an emptied buffer, whose length is then without it; `false` at the end of the source.
pub(super) fn read_until(reader: &mut Reader, end: u8, into: &mut Vec<u8>) -> anyhow::Result<bool> {
    into.clear();
    reader.by_ref().take(LONGEST_LINE).read_until(end, into)?;
    ensure!((into.len() as u64) < LONGEST_LINE, "a line has more than {LONGEST_LINE} bytes");
    let found = !into.is_empty();
    if into.last() == Some(&end) {
        into.pop();
    }
    Ok(found)
}
