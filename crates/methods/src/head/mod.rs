//! A fitted classifier: plain matrices, checked when put together, and the scores they give.

mod product;
pub mod stack;

use std::sync::Arc;

use ndarray::{ArcArray2, Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use stack::{Ask, HeadId, Stack};

use crate::error::MethodError;

/// Where a head's features come from. Opaque here; a head never meets features of another backbone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backbone {
    /// Its name.
    pub id: String,
    /// The digest of its files.
    pub sha256: String,
}

/// What follows the first layer `z = x · rowsᵀ + bias`.
#[derive(Debug, Clone, PartialEq)]
pub enum Tail {
    /// Nothing: `z` holds the logits.
    Identity,
    /// `max(z, 0) · weightsᵀ + bias`.
    Layer {
        /// `classes × rows`.
        weights: Array2<f32>,
        /// One a class.
        bias: Vec<f32>,
    },
    /// The first `classes` rows are class means, the others keys of a cache (Zhang et al., "Tip-Adapter", ECCV 2022):
    /// `logit_c = scale · (z_c + alpha · Σ_{keys of c} exp(beta · (z_key − 1)))`.
    Cache {
        /// The class of every key, for rows `classes..`.
        classes: Vec<u32>,
        /// What cosines are multiplied with.
        scale: f32,
        /// The weight of the cache against the means.
        alpha: f32,
        /// How fast a key's say falls with its distance.
        beta: f32,
        /// The length of each class's sum of unit examples: with it a mean can take in further examples.
        mass: Vec<f32>,
    },
    /// Nothing: `z` holds the logits. Each row tells the examples with its class from those without it.
    Contrast {
        /// Means of unit examples, `(classes + 1) × dim`: of those with each class, and last of all of them. With them the
        /// rows can take in further examples.
        means: Array2<f32>,
        /// How many examples each mean is of.
        counts: Vec<u32>,
    },
}

/// A head's matrices and names, for exporters and for storing.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadParts {
    /// The method that fitted it.
    pub method: String,
    /// The hyperparameters it was fitted with.
    pub hyperparameters: Map<String, Value>,
    /// Where its features come from.
    pub backbone: Backbone,
    /// The classes' names, by index.
    pub classes: Arc<[String]>,
    /// Whether classes are judged one by one (sigmoid) instead of against each other (softmax).
    pub multi_label: bool,
    /// Whether features are divided by their Euclidean length first.
    pub normalise: bool,
    /// The first layer's weights, `rows × dim`.
    pub rows: ArcArray2<f32>,
    /// The first layer's bias, one a row.
    pub bias: Arc<[f32]>,
    /// What follows.
    pub tail: Tail,
    /// Logits are divided by it before they become probabilities.
    pub temperature: f32,
    /// The probability from which a class is said to apply, one a class, where they were fitted.
    pub thresholds: Option<Vec<f32>>,
}

/// A fitted classifier; its parts are known to fit together and to be finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Head(HeadParts);

impl Head {
    /// Checks parts and puts them together.
    ///
    /// # Errors
    ///
    /// [`MethodError::Head`] naming the part that does not fit.
    pub fn new(parts: HeadParts) -> Result<Self, MethodError> {
        let wrong = |part, problem: &str| Err(MethodError::Head { part, problem: problem.to_owned() });
        let (rows, dim) = parts.rows.dim();
        let classes = parts.classes.len();
        if classes < if parts.multi_label { 1 } else { 2 } {
            return wrong("classes", "are too few");
        }
        if rows == 0 || dim == 0 {
            return wrong("rows", "are empty");
        }
        if !parts.rows.is_standard_layout() || parts.rows.iter().any(|value| !value.is_finite()) {
            return wrong("rows", "are not finite or not row-major");
        }
        if parts.bias.len() != rows || parts.bias.iter().any(|value| !value.is_finite()) {
            return wrong("bias", "is not one finite number a row");
        }
        if !(parts.temperature.is_finite() && parts.temperature > 0.0) {
            return wrong("temperature", "is not a positive number");
        }
        let outside = |thresholds: &Vec<f32>| thresholds.iter().any(|t| !(0.0..=1.0).contains(t));
        if parts.thresholds.as_ref().is_some_and(|all| all.len() != classes || outside(all)) {
            return wrong("thresholds", "are not one probability a class");
        }
        check_tail(&parts.tail, (rows, dim), classes)?;
        Ok(Self(parts))
    }

    /// The matrices and names.
    pub fn parts(&self) -> &HeadParts {
        &self.0
    }

    /// The parts, to be changed and put together anew.
    pub fn into_parts(self) -> HeadParts {
        self.0
    }

    /// The classes' names, by index.
    pub fn classes(&self) -> &Arc<[String]> {
        &self.0.classes
    }

    /// Numbers a row of features.
    pub fn dim(&self) -> usize {
        self.0.rows.ncols()
    }

    /// Rows of the first layer.
    pub fn rows(&self) -> usize {
        self.0.rows.nrows()
    }

    /// Logits before the temperature: features `n × dim` to `n × classes`.
    ///
    /// # Errors
    ///
    /// [`MethodError::Width`] when the features have another width.
    pub fn logits(&self, features: ArrayView2<'_, f32>) -> Result<Array2<f32>, MethodError> {
        if features.ncols() != self.dim() {
            return Err(MethodError::Width { expected: self.dim(), given: features.ncols() });
        }
        let mut first = product::times_transposed(features, self.0.rows.view());
        let lengths = self.0.normalise.then(|| product::inverse_lengths(features));
        self.finish_first(&mut first, lengths.as_deref());
        Ok(self.tail(first))
    }

    /// Calibrated probabilities: features `n × dim` to `n × classes`; rows sum to 1 unless `multi_label`.
    ///
    /// # Errors
    ///
    /// [`MethodError::Width`] when the features have another width.
    pub fn probabilities(&self, features: ArrayView2<'_, f32>) -> Result<Array2<f32>, MethodError> {
        let mut logits = self.logits(features)?;
        self.squash(&mut logits);
        Ok(logits)
    }

    /// Turns logits into calibrated probabilities in place.
    pub fn squash(&self, logits: &mut Array2<f32>) {
        squash(logits, self.0.temperature, self.0.multi_label);
    }

    /// The head with another temperature and thresholds.
    ///
    /// # Errors
    ///
    /// [`MethodError::Head`] when they are out of range.
    pub fn calibrated(self, temperature: f32, thresholds: Option<Vec<f32>>) -> Result<Self, MethodError> {
        Self::new(HeadParts { temperature, thresholds, ..self.0 })
    }

    /// Scales the bare products by the features' inverse lengths and adds the bias.
    fn finish_first(&self, first: &mut Array2<f32>, inverse_lengths: Option<&[f32]>) {
        for (index, mut row) in first.outer_iter_mut().enumerate() {
            let factor = inverse_lengths.and_then(|all| all.get(index).copied()).unwrap_or(1.0);
            for (value, bias) in row.iter_mut().zip(self.0.bias.iter()) {
                *value = *value * factor + bias;
            }
        }
    }

    fn tail(&self, mut first: Array2<f32>) -> Array2<f32> {
        match &self.0.tail {
            Tail::Identity | Tail::Contrast { .. } => first,
            Tail::Layer { weights, bias } => {
                first.mapv_inplace(|value| value.max(0.0));
                let mut logits = product::times_transposed(first.view(), weights.view());
                for mut row in logits.outer_iter_mut() {
                    for (value, bias) in row.iter_mut().zip(bias) {
                        *value += bias;
                    }
                }
                logits
            }
            Tail::Cache { classes, scale, alpha, beta, .. } => {
                cache_logits(&first, self.0.classes.len(), classes, [*scale, *alpha, *beta])
            }
        }
    }
}

/// First-layer cosines with `count` means and then keys of `classes`, `n × (count + keys)`, to logits.
fn cache_logits(
    first: &Array2<f32>,
    count: usize,
    classes: &[u32],
    [scale, alpha, beta]: [f32; 3],
) -> Array2<f32> {
    let said = if alpha > 0.0 {
        affinities(first, count, classes, beta)
    } else {
        Array2::zeros((first.nrows(), count))
    };
    mix(first, &said, scale, alpha)
}

/// What the keys of each class say, `Σ exp(beta · (cosine − 1))`, `n × count`.
pub(crate) fn affinities(first: &Array2<f32>, count: usize, classes: &[u32], beta: f32) -> Array2<f32> {
    let mut said = Array2::zeros((first.nrows(), count));
    for (from, mut to) in first.outer_iter().zip(said.outer_iter_mut()) {
        for (&key, &class) in from.iter().skip(count).zip(classes) {
            if let Some(value) = to.get_mut(class as usize) {
                *value += (beta * (key - 1.0)).exp();
            }
        }
    }
    said
}

/// `scale · (cosine with the mean + alpha · what the keys say)`.
pub(crate) fn mix(first: &Array2<f32>, said: &Array2<f32>, scale: f32, alpha: f32) -> Array2<f32> {
    Array2::from_shape_fn(said.dim(), |place| scale * (first[place] + alpha * said[place]))
}

fn check_tail(tail: &Tail, (rows, dim): (usize, usize), classes: usize) -> Result<(), MethodError> {
    let fits = match tail {
        Tail::Identity => rows == classes,
        Tail::Layer { weights, bias } => {
            let finite = weights.iter().chain(bias).all(|value| value.is_finite());
            weights.dim() == (classes, rows) && bias.len() == classes && finite
        }
        Tail::Cache { classes: of, scale, alpha, beta, mass } => {
            let finite = [scale, alpha, beta].iter().all(|value| value.is_finite() && **value >= 0.0);
            of.len().checked_add(classes) == Some(rows)
                && of.iter().all(|&class| (class as usize) < classes)
                && mass.len() == classes
                && mass.iter().all(|value| value.is_finite() && *value >= 0.0)
                && finite
        }
        Tail::Contrast { means, counts } => {
            rows == classes
                && means.dim() == (classes + 1, dim)
                && counts.len() == classes + 1
                && means.iter().all(|value| value.is_finite())
        }
    };
    if fits {
        return Ok(());
    }
    Err(MethodError::Head { part: "tail", problem: "does not fit the first layer".to_owned() })
}

/// Softmax, or sigmoid one by one, of `logits / temperature`, in place, row by row.
pub(crate) fn squash(logits: &mut Array2<f32>, temperature: f32, multi_label: bool) {
    for mut row in logits.outer_iter_mut() {
        if let Some(row) = row.as_slice_mut() {
            squash_row(row, temperature, multi_label);
        }
    }
}

fn squash_row(row: &mut [f32], temperature: f32, multi_label: bool) {
    if multi_label {
        row.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value / temperature).exp()));
        return;
    }
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = ((*value - most) / temperature).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
}
