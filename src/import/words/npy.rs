//! A `.npy` file with a row a word, and a list of the words beside it.

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};

use anyhow::{Context as _, ensure};
use half::f16;

use super::super::source::{Reader, Source};
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

/// Bytes read at a time: where the file holds column after column, each block is a read a column.
const BLOCK_BYTES: usize = 64 << 20;

/// What a header says.
struct Header {
    bytes: usize,
    value: fn(&[u8]) -> f32,
    value_bytes: usize,
    by_column: bool,
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
    let by_column = field("'fortran_order'")?.starts_with("True");
    let shape = field("'shape'")?.strip_prefix('(')?.split_once(')')?.0;
    let (rows, dimension) = shape.split_once(',')?;
    let (rows, dimension) = (rows.trim().parse().ok()?, dimension.trim().trim_end_matches(',').parse().ok()?);
    let bytes = start + length;
    // No file is longer; what is added and multiplied below stays within.
    let _ = usize::checked_mul(rows, dimension)?.checked_mul(value_bytes)?.checked_add(bytes)?;
    (1..=65_536).contains(&dimension).then_some(Header {
        bytes,
        value,
        value_bytes,
        by_column,
        rows,
        dimension,
    })
}

fn rows(source: &Source, arguments: &ImportArguments, draft: &mut Draft<'_>) -> anyhow::Result<()> {
    let header =
        header(source.head()).context("it is not a table of little-endian floats, `[words, values]`")?;
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
    let mut word = String::new();
    let most = (BLOCK_BYTES / (header.dimension * header.value_bytes)).max(1);
    for start in (0..header.rows).step_by(most) {
        let rows = most.min(header.rows - start);
        let block = block(&mut reader, header, start, rows)
            .with_context(|| format!("rows {start} to {} are not all there", start + rows - 1))?;
        for row in 0..rows {
            let number = start + row;
            word.clear();
            let found = words.read_line(&mut word)?;
            ensure!(found > 0, "it has {} rows, and {number} words stand in the list", header.rows);
            let word = word.trim_end_matches(['\n', '\r']);
            let vector = vector(&block, header, row, rows);
            if !take(word, &vector).with_context(|| format!("row {number}"))? {
                return Ok(());
            }
        }
    }
    word.clear();
    let more = words.read_line(&mut word)? > 0;
    ensure!(!more, "it has {} rows, and more words stand in the list", header.rows);
    Ok(())
}

/// The bytes of rows that stand one after another, in the order of the file.
fn block(reader: &mut Reader, header: &Header, start: usize, rows: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; rows * header.dimension * header.value_bytes];
    let (each, first, apart) = if header.by_column {
        (rows, start, header.rows)
    } else {
        (rows * header.dimension, start * header.dimension, 0)
    };
    for (place, part) in bytes.chunks_exact_mut(each * header.value_bytes).enumerate() {
        let at = header.bytes + (place * apart + first) * header.value_bytes;
        reader.seek(SeekFrom::Start(at as u64))?;
        reader.read_exact(part)?;
    }
    Ok(bytes)
}

/// A row of a block of so many.
fn vector(block: &[u8], header: &Header, row: usize, rows: usize) -> Vec<f32> {
    let values = block.chunks_exact(header.value_bytes);
    if header.by_column {
        values.skip(row).step_by(rows).map(header.value).collect()
    } else {
        values.skip(row * header.dimension).take(header.dimension).map(header.value).collect()
    }
}
