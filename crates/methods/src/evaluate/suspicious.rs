//! Labels that look wrong: confident learning.

use ndarray::{ArrayView1, ArrayView2};

use super::metrics::{mean, ratio};
use crate::data::Targets;

/// A label that looks wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suspect {
    /// The row.
    pub row: usize,
    /// The label it has and perhaps should not have.
    pub label: Option<u32>,
    /// The label it lacks and perhaps should have.
    pub suggested: Option<u32>,
    /// Score of the label it has (of several labels: of having what it has).
    pub label_score: f64,
    /// Score of the other.
    pub suggested_score: f64,
}

/// Rows whose label looks wrong, the most suspicious first: largest lead of the suggested label, then lowest row.
///
/// `out_of_sample` `[n, classes]` are probabilities by models that did not see the row in training; those of the
/// fitted head itself would show nothing, for it has learnt the wrong labels too.
///
/// Source: Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels", §3: the
/// threshold of a class is the mean score that rows labelled so give it; a row is suspicious when, of the classes
/// whose threshold it reaches, the highest is another than its label and also its best class. With several labels a
/// row each label is judged by itself.
pub fn suspicious(out_of_sample: ArrayView2<'_, f64>, targets: &Targets) -> Vec<Suspect> {
    let mut suspects = match targets {
        Targets::Single(labels) => of_one(out_of_sample, labels),
        Targets::Multi(rows) => of_many(out_of_sample, rows),
    };
    let lead = |suspect: &Suspect| suspect.suggested_score - suspect.label_score;
    suspects.sort_by(|a, b| lead(b).total_cmp(&lead(a)).then(a.row.cmp(&b.row)));
    suspects
}

fn of_one(scores: ArrayView2<'_, f64>, labels: &[u32]) -> Vec<Suspect> {
    let thresholds = thresholds(scores, labels);
    let judge = |(row, (scores, &label)): (usize, (ArrayView1<'_, f64>, &u32))| {
        let best = highest(scores, |_| true)?;
        let confident = highest(scores, |class| reaches(scores, &thresholds, class))?;
        let score = |class: u32| scores.get(class as usize).copied().unwrap_or(0.0);
        (confident != label && best != label).then(|| Suspect {
            row,
            label: Some(label),
            suggested: Some(confident),
            label_score: score(label),
            suggested_score: score(confident),
        })
    };
    scores.outer_iter().zip(labels).enumerate().filter_map(judge).collect()
}

/// Each class's threshold; a class without rows cannot be reached.
fn thresholds(scores: ArrayView2<'_, f64>, labels: &[u32]) -> Vec<f64> {
    let mut sums = vec![0.0; scores.ncols()];
    let mut counts = vec![0usize; scores.ncols()];
    for (row, &label) in scores.outer_iter().zip(labels) {
        let label = label as usize;
        if let (Some(score), Some(sum), Some(count)) =
            (row.get(label), sums.get_mut(label), counts.get_mut(label))
        {
            *sum += score;
            *count += 1;
        }
    }
    sums.iter().zip(counts).map(|(sum, n)| if n == 0 { f64::INFINITY } else { sum / n as f64 }).collect()
}

fn reaches(scores: ArrayView1<'_, f64>, thresholds: &[f64], class: usize) -> bool {
    // A rounding error must not keep a row below the mean of rows that are all equal.
    const ROUNDING: f64 = 1e-6;
    match (scores.get(class), thresholds.get(class)) {
        (Some(score), Some(threshold)) => *score >= threshold - ROUNDING,
        _ => false,
    }
}

fn highest(scores: ArrayView1<'_, f64>, counts: impl Fn(usize) -> bool) -> Option<u32> {
    let mut best: Option<(usize, f64)> = None;
    for (class, &score) in scores.iter().enumerate() {
        if counts(class) && best.is_none_or(|(_, top)| score > top) {
            best = Some((class, score));
        }
    }
    best.map(|(class, _)| class as u32)
}

fn of_many(scores: ArrayView2<'_, f64>, rows: &[Vec<u32>]) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    for (label, column) in (0u32..).zip(scores.columns()) {
        let has = |row: usize| rows.get(row).is_some_and(|labels| labels.binary_search(&label).is_ok());
        let threshold = |kind: bool| {
            let of_kind = column.iter().enumerate().filter(|(row, _)| has(*row) == kind);
            let scores: Vec<f64> = of_kind.map(|(_, yes)| if kind { *yes } else { 1.0 - yes }).collect();
            (ratio(scores.len(), rows.len()) > 0.0).then(|| mean(scores.into_iter()))
        };
        let (Some(yes_from), Some(no_from)) = (threshold(true), threshold(false)) else { continue };
        for (row, &yes) in column.iter().enumerate().take(rows.len()) {
            let no = 1.0 - yes;
            let (has_score, other_score, other_from) =
                if has(row) { (yes, no, no_from) } else { (no, yes, yes_from) };
            if other_score > has_score && other_score >= other_from {
                let (kept, missing) = if has(row) { (Some(label), None) } else { (None, Some(label)) };
                suspects.push(Suspect {
                    row,
                    label: kept,
                    suggested: missing,
                    label_score: has_score,
                    suggested_score: other_score,
                });
            }
        }
    }
    suspects
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn a_flipped_label_is_found_and_the_rest_left_alone() {
        let mut scores = Array2::from_elem((20, 2), 0.1);
        for row in 0..20 {
            scores[[row, row % 2]] = 0.9;
        }
        let mut labels: Vec<u32> = (0..20).map(|row| row % 2).collect();
        labels[7] = 0;
        let found = suspicious(scores.view(), &Targets::Single(labels));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].row, found[0].label, found[0].suggested), (7, Some(0), Some(1)));
    }

    #[test]
    fn a_missing_label_and_a_superfluous_one_are_told_apart() {
        let scores = array![[0.95, 0.1], [0.9, 0.1], [0.05, 0.9], [0.1, 0.9], [0.9, 0.9], [0.1, 0.1]];
        let rows = vec![vec![0], vec![], vec![1], vec![0, 1], vec![0, 1], vec![]];
        let found = suspicious(scores.view(), &Targets::Multi(rows));
        let kinds: Vec<_> = found.iter().map(|s| (s.row, s.label, s.suggested)).collect();
        assert_eq!(kinds, [(1, None, Some(0)), (3, Some(0), None)]);
    }
}
