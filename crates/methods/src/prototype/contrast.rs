//! Several labels a row: whether a row is nearer to the mean of the rows with a label than to that of the rows without.
//!
//! The nearest class mean (Tibshirani et al., "Diagnosis of multiple cancer types by shrunken centroids", PNAS 2002, without
//! the shrinkage) of two classes, once for each label: a plane, so that a row of weights and a bias say it. The mean of all
//! rows is kept beside the labels' own: what it is without a label follows, also after further examples.

use ndarray::{Array1, Array2, ArrayView2};

use crate::{data::Targets, head::Tail};

/// Sums of unit rows: of those with each label, and last of all.
pub(super) struct Contrast {
    sums: Array2<f64>,
    counts: Vec<u32>,
}

impl Contrast {
    /// Of no rows of `dim` numbers.
    pub(super) fn new(labels: usize, dim: usize) -> Self {
        Self { sums: Array2::zeros((labels + 1, dim)), counts: vec![0; labels + 1] }
    }

    /// What [`Contrast::tail`] kept.
    pub(super) fn of(means: &Array2<f32>, counts: &[u32]) -> Self {
        let mut sums = means.mapv(f64::from);
        for (mut sum, &count) in sums.outer_iter_mut().zip(counts) {
            sum *= f64::from(count);
        }
        Self { sums, counts: counts.to_vec() }
    }

    /// Takes in rows of length 1.
    pub(super) fn add(&mut self, x: ArrayView2<'_, f32>, targets: &Targets) {
        let all = self.counts.len() - 1;
        for (row, x) in x.outer_iter().enumerate() {
            for place in targets.of(row).iter().map(|&label| label as usize).chain([all]) {
                self.sums.row_mut(place).zip_mut_with(&x, |sum, &value| *sum += f64::from(value));
                if let Some(count) = self.counts.get_mut(place) {
                    *count = count.saturating_add(1);
                }
            }
        }
    }

    /// A row and a bias a label: half the difference of the squared distances to the two means, times `scale`. A label
    /// that no row has is said of none, one that every row has of all.
    pub(super) fn planes(&self, scale: f32) -> (Array2<f32>, Vec<f32>) {
        let labels = self.counts.len() - 1;
        let mut rows = Array2::zeros((labels, self.sums.ncols()));
        let bias = (0..labels).map(|label| {
            match (self.count(label), self.others(label)) {
                (0, _) => return -scale,
                (_, 0) => return scale,
                (_, _) => {}
            }
            let (with, without) = (self.with(label), self.without(label));
            rows.row_mut(label).assign(&(&with - &without).mapv(|value| scale * value as f32));
            scale * ((without.dot(&without) - with.dot(&with)) / 2.0) as f32
        });
        let bias = bias.collect();
        (rows, bias)
    }

    /// All that further examples need.
    pub(super) fn tail(&self) -> Tail {
        let mut means = Array2::zeros(self.sums.dim());
        for place in 0..self.counts.len() {
            means.row_mut(place).assign(&self.with(place).mapv(|value| value as f32));
        }
        Tail::Contrast { means, counts: self.counts.clone() }
    }

    /// The mean at a place; zeros where nothing was met.
    fn with(&self, place: usize) -> Array1<f64> {
        mean(self.sums.row(place).to_owned(), self.count(place))
    }

    fn without(&self, label: usize) -> Array1<f64> {
        let all = self.counts.len() - 1;
        mean(&self.sums.row(all) - &self.sums.row(label), self.others(label))
    }

    /// How many rows are without a label.
    fn others(&self, label: usize) -> u32 {
        self.count(self.counts.len() - 1).saturating_sub(self.count(label))
    }

    fn count(&self, place: usize) -> u32 {
        self.counts.get(place).copied().unwrap_or(0)
    }
}

fn mean(sum: Array1<f64>, count: u32) -> Array1<f64> {
    sum / f64::from(count.max(1))
}
