//! What a mistake weighs by class: `null`, `"balanced"`, or a number a class.

use std::{collections::BTreeMap, ops::Range};

use serde_json::Value;

use super::objective::{Answers, Weights};
use crate::{data::Targets, error::MethodError, method::hyperparameter};

/// The checked hyperparameter `class_weight`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ClassWeight {
    Equal,
    /// Inversely to frequency: `n / (classes · n_class)`, as scikit-learn does.
    Balanced,
    /// By name; 1 for classes that are not named.
    Given(BTreeMap<String, f32>),
}

impl ClassWeight {
    pub(crate) fn read(value: &Value) -> Result<Self, MethodError> {
        let wrong = |problem: &str| hyperparameter("class_weight", problem);
        match value {
            Value::Null => Ok(Self::Equal),
            Value::String(word) if word == "balanced" => Ok(Self::Balanced),
            Value::Object(given) => {
                let mut weights = BTreeMap::new();
                for (class, weight) in given {
                    let weight = weight.as_f64().filter(|weight| (1e-6..=1e6).contains(weight));
                    let path = format!("class_weight.{class}");
                    let weight =
                        weight.ok_or_else(|| hyperparameter(&path, "must lie between 1e-6 and 1e6"))?;
                    weights.insert(class.clone(), weight as f32);
                }
                Ok(Self::Given(weights))
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(wrong("must be null, \"balanced\" or an object of numbers by class"))
            }
        }
    }

    /// Checks that every class named exists.
    pub(crate) fn check_names(&self, classes: &[String]) -> Result<(), MethodError> {
        let Self::Given(given) = self else { return Ok(()) };
        match given.keys().find(|name| !classes.contains(name)) {
            Some(name) => {
                Err(hyperparameter(&format!("class_weight.{name}"), "is no class of these examples"))
            }
            None => Ok(()),
        }
    }

    /// The weights for rows in `ranges`.
    pub(super) fn of(&self, answers: &Answers, classes: &[String], ranges: &[Range<usize>]) -> Weights {
        let rows = ranges.iter().cloned().flatten();
        match answers {
            Answers::Softmax(all) => {
                let mut counts = vec![0usize; classes.len()];
                for &class in rows.filter_map(|row| all.get(row)) {
                    if let Some(count) = counts.get_mut(class as usize) {
                        *count += 1;
                    }
                }
                Weights::Class(self.by_class(classes, &counts))
            }
            Answers::Sigmoids(labels) => {
                let mut counts = vec![[0usize; 2]; labels.ncols()];
                for row in rows {
                    for (count, &label) in counts.iter_mut().zip(labels.row(row)) {
                        count[usize::from(label > 0.5)] += 1;
                    }
                }
                if labels.ncols() + 1 == classes.len() {
                    // Two classes share one output: its zeros are the first class.
                    let counts = counts.first().copied().unwrap_or_default();
                    let of = self.by_class(classes, &counts);
                    return Weights::Label(vec![[
                        of.first().copied().unwrap_or(1.0),
                        of.get(1).copied().unwrap_or(1.0),
                    ]]);
                }
                let each = counts.iter().zip(classes).map(|(count, class)| match self {
                    Self::Equal => [1.0, 1.0],
                    Self::Balanced => balanced(count).try_into().unwrap_or([1.0, 1.0]),
                    Self::Given(given) => [1.0, given.get(class).copied().unwrap_or(1.0)],
                });
                Weights::Label(each.collect())
            }
        }
    }

    /// What each class's rows weigh when held-out rows are scored; `None` where all weigh the same.
    pub(super) fn for_scores(&self, targets: &Targets, classes: &[String]) -> Option<Vec<f64>> {
        if *self == Self::Equal {
            return None;
        }
        let weights = self.by_class(classes, &targets.counts(classes.len()));
        Some(weights.into_iter().map(f64::from).collect())
    }

    /// What an answer weighs for rows without and with each class, for rows like these; `None` where all weigh the same. Of
    /// rows with one class each the second number alone counts.
    pub(crate) fn of_rows(&self, targets: &Targets, classes: &[String]) -> Option<Vec<[f32; 2]>> {
        let counts = targets.counts(classes.len());
        let pairs = match (self, targets) {
            (Self::Equal, _) => return None,
            (Self::Balanced, Targets::Multi(rows)) => {
                let sides =
                    |with: &usize| balanced(&[rows.len() - with, *with]).try_into().unwrap_or([1.0, 1.0]);
                counts.iter().map(sides).collect()
            }
            (Self::Balanced | Self::Given(_), _) => {
                self.by_class(classes, &counts).into_iter().map(|weight| [1.0, weight]).collect()
            }
        };
        Some(pairs)
    }

    fn by_class(&self, classes: &[String], counts: &[usize]) -> Vec<f32> {
        match self {
            Self::Equal => vec![1.0; classes.len()],
            Self::Balanced => balanced(counts),
            Self::Given(given) => {
                classes.iter().map(|name| given.get(name).copied().unwrap_or(1.0)).collect()
            }
        }
    }
}

fn balanced(counts: &[usize]) -> Vec<f32> {
    let present = counts.iter().filter(|count| **count > 0).count() as f64;
    let total = counts.iter().sum::<usize>() as f64;
    counts
        .iter()
        .map(|&count| if count == 0 { 1.0 } else { (total / (present * count as f64)) as f32 })
        .collect()
}
