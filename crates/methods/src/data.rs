//! Labelled features as every method takes them, checked once when they are put together.

use std::{collections::BTreeSet, sync::Arc};

use ndarray::{Array2, ArrayView2, Axis};
use thiserror::Error;

use crate::error::MethodError;

/// The right answers, one per row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Exactly one class index a row.
    Single(Vec<u32>),
    /// Any number of class indices a row, ascending and without repeats.
    Multi(Vec<Vec<u32>>),
}

impl Targets {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Single(rows) => rows.len(),
            Self::Multi(rows) => rows.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a row may carry several classes or none.
    pub fn is_multi(&self) -> bool {
        matches!(self, Self::Multi(_))
    }

    /// The classes of one row; none for a row that does not exist.
    pub fn of(&self, row: usize) -> &[u32] {
        match self {
            Self::Single(rows) => rows.get(row).map_or(&[], std::slice::from_ref),
            Self::Multi(rows) => rows.get(row).map_or(&[], Vec::as_slice),
        }
    }

    /// The rows named, in that order; rows that do not exist are left out.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::Single(all) => Self::Single(rows.iter().filter_map(|&row| all.get(row).copied()).collect()),
            Self::Multi(all) => Self::Multi(rows.iter().filter_map(|&row| all.get(row).cloned()).collect()),
        }
    }

    /// How many rows each of `classes` classes has.
    pub fn counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for row in 0..self.len() {
            for &class in self.of(row) {
                if let Some(count) = counts.get_mut(class as usize) {
                    *count += 1;
                }
            }
        }
        counts
    }
}

/// Why labelled features do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DataError {
    /// No rows or no columns.
    #[error("no features: {rows} rows of {dim} numbers")]
    Empty {
        /// Rows given.
        rows: usize,
        /// Numbers a row.
        dim: usize,
    },
    /// Features, targets and groups disagree about the number of rows.
    #[error("{rows} rows of features but {given} {what}")]
    Length {
        /// Rows of features.
        rows: usize,
        /// Entries of the other.
        given: usize,
        /// What the other is.
        what: &'static str,
    },
    /// Fewer than two classes (one for several labels a row).
    #[error("{0} classes are too few")]
    Classes(usize),
    /// A target names no class.
    #[error("row {row} has class {class} of {classes}")]
    UnknownClass {
        /// The row.
        row: usize,
        /// The class index it has.
        class: u32,
        /// How many classes there are.
        classes: usize,
    },
    /// A row's classes are not ascending and distinct.
    #[error("row {row} has unordered or repeated classes")]
    Unordered {
        /// The row.
        row: usize,
    },
    /// A feature is not a finite number.
    #[error("row {row} has a feature that is not finite")]
    NotFinite {
        /// The row.
        row: usize,
    },
}

/// Labelled features: `n × dim` row-major f32, the targets, the classes' names, and a group a row where rows
/// belong together (one author, one patient) and must never be split.
#[derive(Debug, Clone)]
pub struct Examples {
    features: Array2<f32>,
    targets: Targets,
    classes: Arc<[String]>,
    groups: Option<Vec<u32>>,
}

impl Examples {
    /// Puts labelled features together.
    ///
    /// # Errors
    ///
    /// [`DataError`] when lengths disagree, a class does not exist or a number is not finite.
    pub fn new(
        features: Array2<f32>,
        targets: Targets,
        classes: Arc<[String]>,
        groups: Option<Vec<u32>>,
    ) -> Result<Self, DataError> {
        let (rows, dim) = features.dim();
        if rows == 0 || dim == 0 {
            return Err(DataError::Empty { rows, dim });
        }
        if targets.len() != rows {
            return Err(DataError::Length { rows, given: targets.len(), what: "targets" });
        }
        if let Some(given) = groups.as_ref().map(Vec::len).filter(|&given| given != rows) {
            return Err(DataError::Length { rows, given, what: "groups" });
        }
        if classes.len() < if targets.is_multi() { 1 } else { 2 } {
            return Err(DataError::Classes(classes.len()));
        }
        check_targets(&targets, classes.len())?;
        for (row, values) in features.outer_iter().enumerate() {
            if values.iter().any(|value| !value.is_finite()) {
                return Err(DataError::NotFinite { row });
            }
        }
        let features =
            if features.is_standard_layout() { features } else { features.as_standard_layout().to_owned() };
        Ok(Self { features, targets, classes, groups })
    }

    /// The same rows with features of another backbone.
    ///
    /// # Errors
    ///
    /// [`MethodError::Data`] as [`Examples::new`] says.
    pub fn with_features(self, features: Array2<f32>) -> Result<Self, MethodError> {
        Ok(Self::new(features, self.targets, self.classes, self.groups)?)
    }

    /// The features, `n × dim`, row-major.
    pub fn features(&self) -> ArrayView2<'_, f32> {
        self.features.view()
    }

    /// The right answers.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The classes' names, by index.
    pub fn classes(&self) -> &Arc<[String]> {
        &self.classes
    }

    /// The group of each row, where there are groups.
    pub fn groups(&self) -> Option<&[u32]> {
        self.groups.as_deref()
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.features.nrows()
    }

    /// Whether there is no row; never so for a value that [`Examples::new`] made.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers a row.
    pub fn dim(&self) -> usize {
        self.features.ncols()
    }

    /// A copy of the rows named, in that order; rows that do not exist are left out.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let kept: Vec<usize> = rows.iter().copied().filter(|&row| row < self.len()).collect();
        Self {
            features: self.features.select(Axis(0), &kept),
            targets: self.targets.select(&kept),
            classes: Arc::clone(&self.classes),
            groups: self
                .groups
                .as_ref()
                .map(|all| kept.iter().filter_map(|&row| all.get(row).copied()).collect()),
        }
    }
}

/// How many pieces can be parted: groups where there are groups, else rows.
pub(crate) fn units(examples: &Examples) -> usize {
    examples.groups().map_or(examples.len(), |groups| groups.iter().collect::<BTreeSet<_>>().len())
}

pub(crate) fn check_targets(targets: &Targets, classes: usize) -> Result<(), DataError> {
    for row in 0..targets.len() {
        let of = targets.of(row);
        if let Some(&class) = of.iter().find(|&&class| class as usize >= classes) {
            return Err(DataError::UnknownClass { row, class, classes });
        }
        if !of.is_sorted_by(|a, b| a < b) {
            return Err(DataError::Unordered { row });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn classes(n: usize) -> Arc<[String]> {
        (0..n).map(|i| format!("c{i}")).collect()
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let x = array![[1.0f32, 2.0], [3.0, 4.0]];
        let make = |targets, n| Examples::new(x.clone(), targets, classes(n), None).map(|_| ());
        assert_eq!(make(Targets::Single(vec![0, 1]), 2), Ok(()));
        assert_eq!(
            make(Targets::Single(vec![0]), 2),
            Err(DataError::Length { rows: 2, given: 1, what: "targets" })
        );
        assert_eq!(
            make(Targets::Single(vec![0, 2]), 2),
            Err(DataError::UnknownClass { row: 1, class: 2, classes: 2 })
        );
        assert_eq!(make(Targets::Single(vec![0, 0]), 1), Err(DataError::Classes(1)));
        assert_eq!(make(Targets::Multi(vec![vec![], vec![1, 1]]), 2), Err(DataError::Unordered { row: 1 }));
        let bad = Examples::new(array![[f32::NAN], [1.0]], Targets::Single(vec![0, 1]), classes(2), None);
        assert_eq!(bad.map(|_| ()), Err(DataError::NotFinite { row: 0 }));
    }

    #[test]
    fn a_selection_keeps_rows_with_their_answers_and_groups() {
        let x = array![[1.0f32], [2.0], [3.0]];
        let all = Examples::new(x, Targets::Single(vec![0, 1, 0]), classes(2), Some(vec![7, 8, 9])).unwrap();
        let some = all.select(&[2, 1]);
        assert_eq!(some.features(), array![[3.0f32], [2.0]]);
        assert_eq!(some.targets(), &Targets::Single(vec![0, 1]));
        assert_eq!(some.groups(), Some(&[9, 8][..]));
    }
}
