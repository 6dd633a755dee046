//! Texts without transfer: TF-IDF of words and word pairs.

use std::collections::HashMap;

use ndarray::Array2;

use super::logistic::Logistic;
use super::sparse::SparseRows;
use crate::data::Targets;

/// What the report calls this learner.
pub const NAME: &str = "logistic regression on TF-IDF of words and word pairs";

/// Inverse strength of the shrinkage.
const C: f32 = 10.0;

/// Training and held-out texts, their terms counted once so that any part of the training texts is quick to learn.
#[derive(Debug, Clone)]
pub struct Texts {
    train: Vec<Counts>,
    held_out: Vec<Counts>,
    terms: usize,
}

/// How often each term occurs in a text, ascending by term.
type Counts = Vec<(u32, u32)>;

impl Texts {
    /// Counts the terms of all texts. Terms are lower-cased runs of two or more letters, digits or underscores, and
    /// neighbouring pairs of these.
    pub fn new<T: AsRef<str>>(train: &[T], held_out: &[T]) -> Self {
        let mut vocabulary = HashMap::new();
        let mut count = |texts: &[T]| -> Vec<Counts> {
            texts.iter().map(|text| count(text.as_ref(), &mut vocabulary)).collect()
        };
        let (train, held_out) = (count(train), count(held_out));
        Self { train, held_out, terms: vocabulary.len() }
    }

    /// Learns from the training texts of `rows` (`targets` are those of all training texts) and scores the held-out
    /// texts: `[held-out, classes]`. Terms and their weights come from `rows` alone.
    pub fn scores(&self, rows: &[usize], targets: &Targets, classes: usize, seed: u64) -> Array2<f32> {
        let rows: Vec<usize> = rows.iter().copied().filter(|row| *row < self.train.len()).collect();
        let weights = TermWeights::of(rows.iter().filter_map(|row| self.train.get(*row)), self.terms);
        let features = weights.rows(rows.iter().filter_map(|row| self.train.get(*row)));
        let model = Logistic::fit(&features, &targets.select(&rows), classes, C, seed);
        model.probabilities(&weights.rows(self.held_out.iter()))
    }
}

fn count(text: &str, vocabulary: &mut HashMap<String, u32>) -> Counts {
    let lower = text.to_lowercase();
    let is_word = |word: &&str| word.chars().nth(1).is_some();
    let words: Vec<&str> =
        lower.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(is_word).collect();
    let pairs = words.windows(2).map(|pair| pair.join(" "));
    let mut ids: Vec<u32> = words
        .iter()
        .map(|word| (*word).to_owned())
        .chain(pairs)
        .map(|term| {
            let next = vocabulary.len() as u32;
            *vocabulary.entry(term).or_insert(next)
        })
        .collect();
    ids.sort_unstable();
    ids.chunk_by(|a, b| a == b).filter_map(|same| Some((*same.first()?, same.len() as u32))).collect()
}

/// What each term weighs, learnt from some texts: scikit-learn's `TfidfVectorizer(ngram_range=(1, 2),
/// sublinear_tf=True)`, that is `(1 + ln count) · (ln((1 + n) / (1 + texts with the term)) + 1)`, rows of length 1.
struct TermWeights {
    /// By term: its column and weight; `None` for a term that does not occur.
    columns: Vec<Option<(u32, f64)>>,
    width: usize,
}

impl TermWeights {
    fn of<'a>(texts: impl Iterator<Item = &'a Counts>, terms: usize) -> Self {
        let mut occurs = vec![0u32; terms];
        let mut n = 0u32;
        for text in texts {
            n += 1;
            for &(term, _) in text {
                if let Some(count) = occurs.get_mut(term as usize) {
                    *count += 1;
                }
            }
        }
        let mut width = 0u32;
        let weigh = |texts: u32| {
            (texts > 0).then(|| {
                width += 1;
                (width - 1, (f64::from(1 + n) / f64::from(1 + texts)).ln() + 1.0)
            })
        };
        let columns = occurs.into_iter().map(weigh).collect();
        Self { columns, width: width as usize }
    }

    fn rows<'a>(&self, texts: impl Iterator<Item = &'a Counts>) -> SparseRows {
        let mut rows = SparseRows::new(self.width);
        for text in texts {
            let row: Vec<(u32, f64)> = text
                .iter()
                .filter_map(|&(term, count)| {
                    let (column, weight) = self.columns.get(term as usize).copied().flatten()?;
                    Some((column, (1.0 + f64::from(count).ln()) * weight))
                })
                .collect();
            let length = row.iter().map(|(_, value)| value * value).sum::<f64>().sqrt();
            rows.push(row.into_iter().map(|(column, value)| (column, (value / length) as f32)));
        }
        rows
    }
}

#[cfg(test)]
#[path = "tf_idf_test.rs"]
mod tests;
