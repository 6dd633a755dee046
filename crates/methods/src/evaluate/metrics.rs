//! Counts of right and wrong decisions, and the metrics that follow from them.

use ndarray::ArrayView2;

/// Decisions counted by class: enough for every metric that looks at the decision alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Items that are of the class.
    support: Vec<usize>,
    /// Items said to be of the class.
    said: Vec<usize>,
    /// Items that are and were said to be.
    right: Vec<usize>,
}

/// Precision, recall and F1 of one class; 0 where the denominator is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScores {
    /// Share of what was said to be of the class that is.
    pub precision: f64,
    /// Share of what is of the class that was said to be.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// Items of the class.
    pub support: usize,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Self {
        Self { support: vec![0; classes], said: vec![0; classes], right: vec![0; classes] }
    }

    /// Every item has one class and is said to be of one.
    pub fn of(targets: &[u32], predicted: &[u32], classes: usize) -> Self {
        let mut tally = Self::new(classes);
        for (&target, &predicted) in targets.iter().zip(predicted) {
            tally.add(target, predicted);
        }
        tally
    }

    /// Counts one item of one class; classes out of range are not counted.
    pub fn add(&mut self, target: u32, predicted: u32) {
        self.add_decision(target, true, target == predicted);
        if target != predicted {
            self.add_decision(predicted, false, true);
        }
    }

    /// Counts the decision about one label of one item.
    pub fn add_decision(&mut self, class: u32, is: bool, said: bool) {
        let class = class as usize;
        let bump = |counts: &mut Vec<usize>, by: bool| {
            if let Some(count) = counts.get_mut(class) {
                *count += usize::from(by);
            }
        };
        bump(&mut self.support, is);
        bump(&mut self.said, said);
        bump(&mut self.right, is && said);
    }

    /// Forgets everything counted.
    pub fn clear(&mut self) {
        for counts in [&mut self.support, &mut self.said, &mut self.right] {
            counts.fill(0);
        }
    }

    /// Share of items named right; where every item has one class.
    pub fn accuracy(&self) -> f64 {
        ratio(self.right.iter().sum(), self.support.iter().sum())
    }

    /// Mean recall of the classes that occur.
    pub fn balanced_accuracy(&self) -> f64 {
        let recalls =
            self.right.iter().zip(&self.support).filter(|(_, s)| **s > 0).map(|(r, s)| ratio(*r, *s));
        mean(recalls)
    }

    /// Mean F1 of the classes that occur or were said to.
    pub fn macro_f1(&self) -> f64 {
        let counted = |class: &usize| self.total(*class) > 0;
        mean((0..self.support.len()).filter(counted).map(|class| self.f1(class)))
    }

    /// F1 of all decisions pooled.
    pub fn micro_f1(&self) -> f64 {
        let right: usize = self.right.iter().sum();
        ratio(2 * right, (0..self.support.len()).map(|class| self.total(class)).sum())
    }

    /// One entry a class.
    pub fn classes(&self) -> Vec<ClassScores> {
        let scores = |class: usize| {
            let [support, said, right] = self.counts(class);
            ClassScores {
                precision: ratio(right, said),
                recall: ratio(right, support),
                f1: self.f1(class),
                support,
            }
        };
        (0..self.support.len()).map(scores).collect()
    }

    fn counts(&self, class: usize) -> [usize; 3] {
        [&self.support, &self.said, &self.right].map(|counts| counts.get(class).copied().unwrap_or(0))
    }

    fn total(&self, class: usize) -> usize {
        let [support, said, _] = self.counts(class);
        support + said
    }

    fn f1(&self, class: usize) -> f64 {
        let [support, said, right] = self.counts(class);
        ratio(2 * right, support + said)
    }
}

/// The class with the highest score in each row, the first of equals: `[n, classes]` → `n`.
pub fn best_classes<T: PartialOrd + Copy>(scores: ArrayView2<'_, T>) -> Vec<u32> {
    scores.outer_iter().map(|row| best(row.iter().copied())).collect()
}

fn best<T: PartialOrd + Copy>(row: impl Iterator<Item = T>) -> u32 {
    let mut best: Option<(u32, T)> = None;
    for (class, score) in (0u32..).zip(row) {
        if best.is_none_or(|(_, top)| score > top) {
            best = Some((class, score));
        }
    }
    best.map_or(0, |(class, _)| class)
}

/// Mean negative logarithm of the right class's probability, in nats. Probabilities are kept away from 0 by the
/// smallest step of an f64 below 1, as scikit-learn does.
pub fn log_loss(probabilities: ArrayView2<'_, f64>, targets: &[u32]) -> f64 {
    let losses = probabilities.outer_iter().zip(targets).map(|(row, &target)| {
        -row.get(target as usize).copied().unwrap_or(0.0).clamp(f64::EPSILON, 1.0).ln()
    });
    mean(losses)
}

/// Where the labels `said` and the labels an item `has` meet: the F1 of one item, 1 where both are empty. Both
/// ascending.
pub fn item_f1(has: &[u32], said: &[u32]) -> f64 {
    if has.is_empty() && said.is_empty() {
        return 1.0;
    }
    let both = said.iter().filter(|label| has.binary_search(label).is_ok()).count();
    ratio(2 * both, has.len() + said.len())
}

/// A quotient of counts; 0 where the denominator is.
pub(crate) fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The mean of a sequence; 0 of an empty one.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0usize), |(sum, n), value| (sum + value, n + 1));
    if n == 0 { 0.0 } else { sum / n as f64 }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_class_nobody_has_or_names_counts_nowhere() {
        let tally = Tally::of(&[0, 0, 1], &[0, 1, 1], 5);
        assert!((tally.accuracy() - 2.0 / 3.0).abs() < 1e-12);
        assert!((tally.balanced_accuracy() - 0.75).abs() < 1e-12);
        assert!((tally.macro_f1() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(tally.classes().len(), 5);
        assert_eq!(tally.classes()[4], ClassScores { precision: 0.0, recall: 0.0, f1: 0.0, support: 0 });
    }

    #[test]
    fn the_first_of_equal_scores_wins() {
        assert_eq!(best_classes(array![[0.5f64, 0.5], [0.1, 0.9]].view()), [0, 1]);
    }

    #[test]
    fn an_item_without_labels_that_is_given_none_is_right() {
        assert_eq!([item_f1(&[], &[]), item_f1(&[], &[1]), item_f1(&[1, 2], &[2])], [1.0, 0.0, 2.0 / 3.0]);
    }
}
