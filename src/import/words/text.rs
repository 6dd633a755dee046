//! Lines of a word and its values: GloVe's, and with a first line of counts word2vec's and fastText's `.vec`.

use anyhow::{Context as _, ensure};

use super::super::source::{Source, read_until};
use super::super::{ImportArguments, Kind};
use super::{Draft, Take, import};

/// GloVe's text form.
pub(in super::super) const GLOVE: Kind = Kind {
    name: "glove",
    what: "word vectors in GloVe's text form",
    recognise: |source| {
        let mut lines = source.head_lines();
        lines.next().and_then(|line| values(line, None)).is_some_and(|(_, values)| values.len() > 1)
    },
    import: |source, arguments, draft| lines(source, arguments, draft, "which words stand near each other"),
};

/// word2vec's text form, which fastText's `.vec` is too.
pub(in super::super) const WORD2VEC_TEXT: Kind = Kind {
    name: "word2vec-text",
    what: "word vectors in the text form of word2vec and fastText",
    recognise: |source| {
        let mut lines = source.head_lines();
        let header = lines.next().and_then(header);
        header.zip(lines.next()).is_some_and(|((_, dimension), line)| values(line, Some(dimension)).is_some())
    },
    import: |source, arguments, draft| lines(source, arguments, draft, "which words stand near each other"),
};

/// Words and values of a first line of word2vec's forms.
pub(super) fn header(line: &str) -> Option<(usize, usize)> {
    let (words, dimension) = line.trim_end().split_once(' ')?;
    let (words, dimension) = (words.parse().ok()?, dimension.trim().parse().ok()?);
    (1..=65_536).contains(&dimension).then_some((words, dimension))
}

/// A line's word and its values, all but the first or the last `dimension`: a word may hold spaces.
fn values(line: &str, dimension: Option<usize>) -> Option<(&str, Vec<f32>)> {
    let line = line.trim_end();
    let word = match dimension {
        None => line.split(' ').next()?,
        Some(dimension) => line.rsplitn(dimension + 1, ' ').nth(dimension)?,
    };
    let rest = line.get(word.len()..)?.split_ascii_whitespace();
    let values: Vec<f32> = rest.map(|value| value.parse().ok()).collect::<Option<_>>()?;
    (!word.is_empty() && !values.is_empty()).then_some((word, values))
}

fn lines(
    source: &Source,
    arguments: &ImportArguments,
    draft: &mut Draft<'_>,
    trained: &str,
) -> anyhow::Result<()> {
    import(source, arguments, draft, trained, |take| read(source, take))
}

fn read(source: &Source, take: Take<'_>) -> anyhow::Result<()> {
    let mut reader = source.reader()?;
    let (mut line, mut number, mut words) = (Vec::new(), 0, 0);
    let (mut promised, mut dimension) = (None, None);
    while read_until(&mut reader, b'\n', &mut line)? {
        number += 1;
        let text = std::str::from_utf8(&line).with_context(|| format!("line {number} is not UTF-8"))?;
        if number == 1
            && let Some((count, values)) = header(text)
        {
            (promised, dimension) = (Some(count), Some(values));
            continue;
        }
        if text.trim().is_empty() {
            continue;
        }
        let (word, vector) =
            values(text, dimension).with_context(|| format!("line {number} is not a word and its values"))?;
        dimension = Some(vector.len());
        words += 1;
        if !take(word, &vector).with_context(|| format!("line {number}"))? {
            return Ok(());
        }
    }
    let promised = promised.unwrap_or(words);
    ensure!(words >= promised, "it has {words} words, its first line says {promised}: it was cut short");
    Ok(())
}
