//! What SIF needs (Arora, Liang and Ma, "A simple but tough-to-beat baseline for sentence embeddings", 2017): how
//! likely each word is, and the direction that all texts share.

use headstart_types::Truncate;

use crate::error::TableError;
use crate::table::Table;

/// Words that the expected component is made of: the likeliest. The rest have weights near one and little mass.
const LIKELIEST: usize = 100_000;

/// Words of a text, where no texts are given.
const EXPECTED_WORDS: f64 = 10.0;

/// Steps of the power iteration; with the gap that texts have, a dozen are enough.
const STEPS: usize = 500;

/// Probabilities by rank: the word of row r has one in proportion to 1 / (r + 1) (Zipf's law).
#[must_use]
pub fn zipf(rows: usize) -> Vec<f32> {
    let total: f64 = (1..=rows).map(|rank| 1.0 / rank as f64).sum();
    (1..=rows).map(|rank| (1.0 / (rank as f64 * total)) as f32).collect()
}

/// Probabilities from how often each row's word was seen; all zero where none was.
#[must_use]
pub fn from_counts(counts: &[u64]) -> Vec<f32> {
    let total: u64 = counts.iter().sum();
    counts.iter().map(|count| (*count as f64 / total.max(1) as f64) as f32).collect()
}

/// The direction of unit length that given texts share: the first right singular vector of their weighted means, one
/// text a row, not centred. `None` where no text has a known word.
///
/// The table must have SIF's weights, and neither component nor normalisation.
///
/// # Errors
/// [`TableError::Damaged`].
pub fn component_of<'t>(
    table: &Table,
    texts: impl IntoIterator<Item = &'t str>,
) -> Result<Option<Vec<f32>>, TableError> {
    let mut moment = Moment::new(table.dimension());
    for text in texts {
        let words = table.read(text, Truncate::End).unwrap_or_default();
        moment.add(1.0, &table.embed(&words.rows)?);
    }
    Ok(moment.direction())
}

/// The direction of unit length that texts share which draw their words by the table's probabilities: with the
/// weighted vector x of a word, `E[ss']` of a mean s of n words is `E[xx'] / n + (1 - 1/n) E[x] E[x]'`, of which this is the
/// first eigenvector. No text is needed, in any language. `None` where all probabilities are zero.
///
/// # Errors
/// [`TableError::Damaged`].
pub fn expected_component(table: &Table, smoothing: f64) -> Result<Option<Vec<f32>>, TableError> {
    let dimension = table.dimension();
    let mut likely: Vec<(u32, f64)> = table
        .index()
        .probabilities
        .iter()
        .enumerate()
        .map(|(row, probability)| (row as u32, f64::from(*probability)))
        .filter(|(_, probability)| *probability > 0.0)
        .collect();
    likely.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
    likely.truncate(LIKELIEST);
    let mut moment = Moment::new(dimension);
    let mut mean = vec![0.0_f64; dimension];
    let mut weighted = vec![0.0_f32; dimension];
    for (row, probability) in likely {
        weighted.fill(0.0);
        table.add(row, (smoothing / (smoothing + probability)) as f32, &mut weighted)?;
        moment.add(probability / EXPECTED_WORDS, &weighted);
        mean.iter_mut().zip(&weighted).for_each(|(mean, value)| *mean += probability * f64::from(*value));
    }
    let mean: Vec<f32> = mean.into_iter().map(|value| value as f32).collect();
    moment.add(1.0 - 1.0 / EXPECTED_WORDS, &mean);
    Ok(moment.direction())
}

/// A sum of outer products.
struct Moment {
    dimension: usize,
    sums: Vec<f64>,
}

impl Moment {
    fn new(dimension: usize) -> Self {
        Self { dimension, sums: vec![0.0; dimension * dimension] }
    }

    fn add(&mut self, weight: f64, vector: &[f32]) {
        for (row, left) in self.sums.chunks_exact_mut(self.dimension).zip(vector) {
            let left = weight * f64::from(*left);
            row.iter_mut().zip(vector).for_each(|(sum, right)| *sum += left * f64::from(*right));
        }
    }

    /// The first eigenvector, its largest value positive.
    fn direction(&self) -> Option<Vec<f32>> {
        // The row of the largest diagonal value is not orthogonal to it.
        let diagonal = |at: usize| self.sums[at * self.dimension + at];
        let start = (0..self.dimension).max_by(|a, b| diagonal(*a).total_cmp(&diagonal(*b)))?;
        let mut vector: Vec<f64> = self.sums.chunks_exact(self.dimension).nth(start)?.to_vec();
        for _ in 0..STEPS {
            let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
            if norm == 0.0 {
                return None;
            }
            vector.iter_mut().for_each(|value| *value /= norm);
            let next: Vec<f64> = self
                .sums
                .chunks_exact(self.dimension)
                .map(|row| row.iter().zip(&vector).map(|(left, right)| left * right).sum())
                .collect();
            vector = next;
        }
        let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        let largest = vector.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()))?;
        let scale = if largest < 0.0 { -1.0 / norm } else { 1.0 / norm };
        (norm > 0.0).then(|| vector.iter().map(|value| (value * scale) as f32).collect())
    }
}
