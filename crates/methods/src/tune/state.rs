//! All that a run can go on from, as bytes.

use headstart_types::runner::Trained;
use serde::{Deserialize, Serialize};

use super::train::Epoch;
use crate::container::{Reader, Writer};
use crate::error::MethodError;
use crate::optim::fused::{Optimiser, Rule};

const WHAT: &str = "checkpoint";

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    pub(super) optimiser: Optimiser,
    /// The weights at this step.
    pub(super) weights: Vec<Vec<f32>>,
    /// Those of the best epoch; the first ones before there is one.
    pub(super) best_weights: Vec<Vec<f32>>,
    pub(super) best_epoch: usize,
    pub(super) epochs: Vec<Epoch>,
    /// Epochs since the best.
    pub(super) stale: usize,
    /// Steps done of the epoch that runs.
    pub(super) batch: usize,
    /// Loss of its rows, summed, but for steps that were not finite.
    pub(super) loss: f64,
    /// Rows of that sum.
    pub(super) counted: usize,
    /// Steps in a row that were not finite.
    pub(super) missteps: u32,
}

#[derive(Serialize, Deserialize)]
struct Document {
    steps: u32,
    best_epoch: usize,
    epochs: Vec<Epoch>,
    stale: usize,
    batch: usize,
    loss: f64,
    counted: usize,
    missteps: u32,
}

impl State {
    pub(super) fn new(optimiser: Optimiser, weights: &[Trained]) -> Self {
        let weights: Vec<Vec<f32>> = weights.iter().map(|weight| weight.values.clone()).collect();
        Self {
            optimiser,
            best_weights: weights.clone(),
            weights,
            best_epoch: 0,
            epochs: Vec::new(),
            stale: 0,
            batch: 0,
            loss: 0.0,
            counted: 0,
            missteps: 0,
        }
    }

    pub(super) fn best(&self) -> Option<&Epoch> {
        self.epochs.get(self.best_epoch)
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, MethodError> {
        let mut writer = Writer::default();
        let (steps, first, second) = self.optimiser.parts();
        for (name, tensors) in
            [("weight", &self.weights), ("best", &self.best_weights), ("first", first), ("second", second)]
        {
            for (at, tensor) in tensors.iter().enumerate() {
                writer.floats(&format!("{name}.{at}"), tensor);
            }
        }
        let document = Document {
            steps,
            best_epoch: self.best_epoch,
            epochs: self.epochs.clone(),
            stale: self.stale,
            batch: self.batch,
            loss: self.loss,
            counted: self.counted,
            missteps: self.missteps,
        };
        writer.finish(WHAT, &document)
    }

    /// # Errors
    /// [`MethodError::Stored`] for bytes of another run.
    pub(super) fn read(bytes: &[u8], rule: Rule, sizes: &[usize]) -> Result<Self, MethodError> {
        let reader = Reader::new(WHAT, bytes)?;
        let document: Document = reader.document()?;
        let tensors = |name: &str| -> Result<Vec<Vec<f32>>, MethodError> {
            (0..sizes.len()).map(|at| reader.floats(&format!("{name}.{at}"))).collect()
        };
        let stored = |problem: &str| MethodError::Stored { what: WHAT, problem: problem.to_owned() };
        let (weights, best_weights) = (tensors("weight")?, tensors("best")?);
        let fits =
            |tensors: &[Vec<f32>]| tensors.iter().zip(sizes).all(|(tensor, size)| tensor.len() == *size);
        if !fits(&weights) || !fits(&best_weights) {
            return Err(stored("weights of other sizes"));
        }
        let optimiser = Optimiser::of(rule, document.steps, tensors("first")?, tensors("second")?);
        Ok(Self {
            optimiser,
            weights,
            best_weights,
            best_epoch: document.best_epoch,
            epochs: document.epochs,
            stale: document.stale,
            batch: document.batch,
            loss: document.loss,
            counted: document.counted,
            missteps: document.missteps,
        })
    }
}
