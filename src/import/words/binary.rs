//! word2vec's binary form: a line with counts, then each word, a space, and its values as little-endian 32-bit floats.

use std::io::Read as _;

use anyhow::{Context as _, ensure};

use super::super::Kind;
use super::super::source::{Source, read_until};
use super::text::header;
use super::{Take, import};

/// word2vec's binary form.
pub(in super::super) const WORD2VEC_BINARY: Kind = Kind {
    name: "word2vec-binary",
    what: "word vectors in word2vec's binary form",
    recognise: |source| {
        let mut parts = source.head().splitn(2, |byte| *byte == b'\n');
        let header = parts.next().and_then(|line| std::str::from_utf8(line).ok()).and_then(header);
        let values = parts.next().and_then(|rest| rest.splitn(2, |byte| *byte == b' ').nth(1));
        // A text form has digits where the values are.
        let text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        header.zip(values).is_some_and(|((_, dimension), values)| {
            values.len() >= 4 * dimension && !values.iter().take(4 * dimension).all(text)
        })
    },
    import: |source, arguments, draft| {
        import(source, arguments, draft, "which words stand near each other", |take| read(source, take))
    },
};

fn read(source: &Source, take: Take<'_>) -> anyhow::Result<()> {
    let mut reader = source.reader()?;
    let mut word = Vec::new();
    ensure!(read_until(&mut reader, b'\n', &mut word)?, "it is empty");
    let counts = std::str::from_utf8(&word).ok().and_then(header);
    let (words, dimension) = counts.context("its first line is not the number of words and of values")?;
    let mut bytes = vec![0; 4 * dimension];
    let mut vector = Vec::with_capacity(dimension);
    for number in 1..=words {
        let cut = || format!("it was cut short: its first line says {words} words, {number} does not end");
        ensure!(read_until(&mut reader, b' ', &mut word)?, cut());
        reader.read_exact(&mut bytes).with_context(cut)?;
        vector.clear();
        vector.extend(bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)));
        let written = String::from_utf8_lossy(word.trim_ascii_start());
        if !take(&written, &vector).with_context(|| format!("word {number}"))? {
            break;
        }
    }
    Ok(())
}
