//! A `.npy` file with a row a word, and a list of the words beside it.

use std::io::{BufRead as _, BufReader, Read as _};

use anyhow::{Context as _, ensure};
use half::f16;

use super::super::source::Source;
use super::super::{ImportArguments, Kind};
use super::{Draft, Take, import};

/// NumPy's file with a list of words.
pub(in super::super) const NPY: Kind = Kind {
    name: "npy",
    what: "a NumPy file with a row a word",
    recognise: |source| source.head().starts_with(MAGIC),
    import: |source, arguments, draft| rows(source, arguments, draft),
};

const MAGIC: &[u8] = b"\x93NUMPY";

/// What a header says.
struct Header {
    bytes: usize,
    value: fn(&[u8]) -> f32,
    value_bytes: usize,
    rows: usize,
    dimension: usize,
}

/// Reads a header: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
fn header(head: &[u8]) -> Option<Header> {
    let (start, length) = match head.get(6)? {
        1 => (10, usize::from(u16::from_le_bytes(head.get(8..10)?.try_into().ok()?))),
        _ => (12, u32::from_le_bytes(head.get(8..12)?.try_into().ok()?) as usize),
    };
    let text = std::str::from_utf8(head.get(start..start + length)?).ok()?;
    let field = |name: &str| text.split_once(name).map(|(_, rest)| rest.trim_start_matches([':', ' ', '\'']));
    let (value, value_bytes): (fn(&[u8]) -> f32, _) = match field("'descr'")?.get(..3)? {
        "<f2" => (|bytes| bytes.try_into().map_or(f32::NAN, |two| f16::from_le_bytes(two).to_f32()), 2),
        "<f4" => (|bytes| bytes.try_into().map_or(f32::NAN, f32::from_le_bytes), 4),
        "<f8" => (|bytes| bytes.try_into().map_or(f32::NAN, |eight| f64::from_le_bytes(eight) as f32), 8),
        _ => return None,
    };
    if !field("'fortran_order'")?.starts_with("False") {
        return None;
    }
    let shape = field("'shape'")?.strip_prefix('(')?.split_once(')')?.0;
    let (rows, dimension) = shape.split_once(',')?;
    let (rows, dimension) = (rows.trim().parse().ok()?, dimension.trim().trim_end_matches(',').parse().ok()?);
    (1..=65_536).contains(&dimension).then_some(Header {
        bytes: start + length,
        value,
        value_bytes,
        rows,
        dimension,
    })
}

fn rows(source: &Source, arguments: &ImportArguments, draft: &mut Draft) -> anyhow::Result<()> {
    let header = header(source.head())
        .context("it is not a table of little-endian floats, row after row, `[words, values]`")?;
    let list = arguments.words.words.clone().unwrap_or_else(|| source.path().with_extension("txt"));
    let words = std::fs::File::open(&list)
        .with_context(|| format!("{}: the words, one a line; else name them by `--words`", list.display()))?;
    draft.note(format!("words are the lines of {}", list.display()));
    import(source, arguments, draft, "which words stand near each other", |take| {
        read(source, &header, BufReader::new(words), take)
    })
}

fn read(
    source: &Source,
    header: &Header,
    mut words: BufReader<std::fs::File>,
    take: Take<'_>,
) -> anyhow::Result<()> {
    let mut reader = source.reader()?;
    std::io::copy(&mut reader.by_ref().take(header.bytes as u64), &mut std::io::sink())?;
    let mut bytes = vec![0; header.value_bytes * header.dimension];
    let mut word = String::new();
    for row in 0..header.rows {
        word.clear();
        let found = words.read_line(&mut word)?;
        ensure!(found > 0, "it has {} rows, and {row} words stand in the list", header.rows);
        reader.read_exact(&mut bytes).with_context(|| format!("row {row} is cut short"))?;
        let vector: Vec<f32> = bytes.chunks_exact(header.value_bytes).map(header.value).collect();
        let word = word.trim_end_matches(['\n', '\r']);
        if !take(word, &vector).with_context(|| format!("row {row}"))? {
            return Ok(());
        }
    }
    word.clear();
    let more = words.read_line(&mut word)? > 0;
    ensure!(!more, "it has {} rows, and more words stand in the list", header.rows);
    Ok(())
}
