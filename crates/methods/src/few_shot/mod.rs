//! Classifiers from no example to a few: zero-shot labels, and as examples come, what those say as well.
//!
//! Three rungs. Without examples the labels' names answer. With some, the cosines to the means of the labels that have
//! examples (Snell et al., "Prototypical networks", NeurIPS 2017) are pooled with zero-shot. With enough of every label
//! the prototype method's head, tuned on folds, takes the means' place. The pool is a logarithmic one (Genest & Zidek,
//! "Combining probability distributions", Statistical Science 1986): `p(label) ∝ zero_shot^(1 − weight) · said^weight`,
//! its weight chosen on examples that the means left out.

mod fit;
pub(crate) mod stored;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use headstart_types::Label;
use ndarray::{Array2, ArrayView1, Axis};
use serde::{Deserialize, Serialize};

use crate::data::DataError;
use crate::error::MethodError;
use crate::head::{Backbone, Head};

pub use stored::{load, save};

/// Most examples a classifier takes without a job.
pub const MOST_EXAMPLES: usize = 10_000;

/// Keeps logarithms of zero-shot probabilities finite.
const FLOOR: f32 = 1e-9;

/// What an example is known by: a digest of its content.
pub type Content = [u8; 32];

/// What an answer rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The labels' names and descriptions.
    ZeroShot,
    /// Those, and the means of a few examples.
    FewShot,
    /// Those, and a prototype head tuned on folds of the examples.
    Prototype,
}

impl Rung {
    /// The name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ZeroShot => "zero_shot",
            Self::FewShot => "few_shot",
            Self::Prototype => "prototype",
        }
    }
}

/// What zero-shot is asked with.
#[derive(Debug, Clone, PartialEq)]
pub struct Wording {
    /// The labels, in the order of every probability.
    pub labels: Vec<Label>,
    /// A sentence with `{}` where the label goes, in place of the backbone's own.
    pub template: Option<String>,
    /// Whether an item may have several labels.
    pub multi_label: bool,
    /// The backbone whose features and zero-shot labels are meant.
    pub backbone: Backbone,
}

/// What the examples say, and how much they weigh.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    head: Arc<Head>,
    /// The label of each class of the head.
    labels: Vec<usize>,
    /// From 0, zero-shot alone, to 1, the head alone.
    weight: f32,
    rung: Rung,
}

/// A classifier as it answers.
#[derive(Debug, Clone, PartialEq)]
pub struct FewShot {
    wording: Arc<Wording>,
    names: Arc<[String]>,
    said: Option<Said>,
}

/// An example as it comes: its numbers as the service computes them, and its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// As the backbone gives them.
    pub features: Vec<f32>,
    /// Zero-shot probabilities, in the order of the labels.
    pub zero_shot: Vec<f32>,
    /// Places of its labels, ascending.
    pub labels: Vec<u32>,
    /// What it is known by.
    pub content: Content,
}

/// The examples so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// `examples × dim`.
    features: Array2<f32>,
    /// `examples × labels`.
    zero_shot: Array2<f32>,
    labels: Vec<Vec<u32>>,
    contents: Vec<Content>,
}

/// What came of new examples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Examples that are new.
    pub added: usize,
    /// Examples that were there with other labels.
    pub replaced: usize,
    /// Examples that were there already.
    pub unchanged: usize,
    /// Examples that are there no more.
    pub forgotten: usize,
}

impl Changes {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added + self.replaced + self.forgotten == 0
    }
}

impl FewShot {
    /// A classifier without examples.
    #[must_use]
    pub fn new(wording: Wording) -> Self {
        let names = wording.labels.iter().map(|label| label.label.clone()).collect();
        Self { wording: Arc::new(wording), names, said: None }
    }

    /// The same labels with what `shown` says.
    ///
    /// # Errors
    /// [`MethodError`] when the examples do not fit together.
    pub fn fitted(&self, shown: &Shown) -> Result<Self, MethodError> {
        Ok(Self { said: fit::fit(&self.wording, &self.names, shown)?, ..self.clone() })
    }

    /// What zero-shot is asked with.
    #[must_use]
    pub fn wording(&self) -> &Arc<Wording> {
        &self.wording
    }

    /// The labels' names.
    #[must_use]
    pub fn names(&self) -> &Arc<[String]> {
        &self.names
    }

    /// What its answers rest on.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.said.as_ref().map_or(Rung::ZeroShot, |said| said.rung)
    }

    /// The head whose probabilities [`FewShot::pool`] wants.
    #[must_use]
    pub fn head(&self) -> Option<&Arc<Head>> {
        self.said.as_ref().map(|said| &said.head)
    }

    /// How much the examples weigh, from 0 to 1.
    #[must_use]
    pub fn weight(&self) -> f32 {
        self.said.as_ref().map_or(0.0, |said| said.weight)
    }

    /// Thresholds of the labels, where they were fitted.
    #[must_use]
    pub fn thresholds(&self) -> Option<&[f32]> {
        self.head().and_then(|head| head.parts().thresholds.as_deref())
    }

    /// An item's probabilities from what zero-shot gives it and what [`FewShot::head`] gives it. Labels without examples
    /// keep zero-shot's; the others share between them what zero-shot gives them together.
    #[must_use]
    pub fn pool(&self, zero_shot: &[f32], head: &[f32]) -> Vec<f32> {
        let mut pooled = zero_shot.to_vec();
        let Some(said) = &self.said else { return pooled };
        if self.wording.multi_label {
            // Every label has examples and is judged on its own.
            head.clone_into(&mut pooled);
            return pooled;
        }
        let within = |label: &usize| zero_shot.get(*label).copied().unwrap_or(0.0);
        let together: f32 = said.labels.iter().map(within).sum();
        let names: Vec<f32> = said.labels.iter().map(within).collect();
        let shares = fit::pooled(ArrayView1::from(&names), ArrayView1::from(head), said.weight);
        for (label, share) in said.labels.iter().zip(shares) {
            if let Some(value) = pooled.get_mut(*label) {
                *value = together * share;
            }
        }
        pooled
    }
}

impl Shown {
    /// No examples yet.
    #[must_use]
    pub fn none(labels: usize) -> Self {
        Self {
            features: Array2::zeros((0, 0)),
            zero_shot: Array2::zeros((0, labels)),
            labels: Vec::new(),
            contents: Vec::new(),
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// How many have each label.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.zero_shot.ncols()];
        for &label in self.labels.iter().flatten() {
            if let Some(count) = counts.get_mut(label as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// Whether the example is there.
    #[must_use]
    pub fn has(&self, content: &Content) -> bool {
        self.contents.contains(content)
    }

    /// What they are known by.
    #[must_use]
    pub fn contents(&self) -> &[Content] {
        &self.contents
    }

    /// Takes examples in. One that is there already takes the labels it comes with now.
    ///
    /// # Errors
    /// [`MethodError::Unsuitable`] when they become too many, [`MethodError::Width`] or [`MethodError::Data`] when their
    /// numbers do not fit.
    pub fn add(&mut self, examples: Vec<Example>) -> Result<Changes, MethodError> {
        let mut places: HashMap<Content, usize> = self.contents.iter().copied().zip(0..).collect();
        let mut changes = Changes::default();
        let dim = examples.first().map_or(0, |example| example.features.len());
        if self.is_empty() {
            self.features = Array2::zeros((0, dim));
        }
        for example in examples {
            self.check(&example)?;
            if let Some(place) = places.get(&example.content) {
                let known = self.labels.get_mut(*place).filter(|known| **known != example.labels);
                if let Some(known) = known {
                    *known = example.labels;
                    changes.replaced += 1;
                } else {
                    changes.unchanged += 1;
                }
                continue;
            }
            let stretched = |_| MethodError::Unsuitable("an example does not fit the others".to_owned());
            self.features.push_row(ArrayView1::from(&example.features)).map_err(stretched)?;
            self.zero_shot.push_row(ArrayView1::from(&example.zero_shot)).map_err(stretched)?;
            places.insert(example.content, self.len());
            self.contents.push(example.content);
            self.labels.push(example.labels);
            changes.added += 1;
        }
        if self.len() > MOST_EXAMPLES {
            let problem = format!("a classifier takes {MOST_EXAMPLES} examples without a job");
            return Err(MethodError::Unsuitable(problem));
        }
        Ok(changes)
    }

    /// Leaves examples out, as many as are there.
    pub fn forget(&mut self, contents: &[Content]) -> Changes {
        let gone: HashSet<&Content> = contents.iter().collect();
        let kept: Vec<usize> = (0..self.len())
            .filter(|row| self.contents.get(*row).is_none_or(|content| !gone.contains(content)))
            .collect();
        let forgotten = self.len() - kept.len();
        self.features = self.features.select(Axis(0), &kept);
        self.zero_shot = self.zero_shot.select(Axis(0), &kept);
        self.labels = kept.iter().filter_map(|row| self.labels.get(*row).cloned()).collect();
        self.contents = kept.iter().filter_map(|row| self.contents.get(*row).copied()).collect();
        Changes { forgotten, ..Changes::default() }
    }

    fn check(&self, example: &Example) -> Result<(), MethodError> {
        if example.features.len() != self.features.ncols() || example.features.is_empty() {
            let (expected, given) = (self.features.ncols(), example.features.len());
            return Err(MethodError::Width { expected, given });
        }
        if example.zero_shot.len() != self.zero_shot.ncols() {
            let (expected, given) = (self.zero_shot.ncols(), example.zero_shot.len());
            return Err(MethodError::Width { expected, given });
        }
        if example.features.iter().chain(&example.zero_shot).any(|value| !value.is_finite()) {
            return Err(DataError::NotFinite { row: self.len() }.into());
        }
        let classes = self.zero_shot.ncols();
        if let Some(&class) = example.labels.iter().find(|label| **label as usize >= classes) {
            return Err(DataError::UnknownClass { row: self.len(), class, classes }.into());
        }
        if !example.labels.is_sorted_by(|one, next| one < next) {
            return Err(DataError::Unordered { row: self.len() }.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
