//! Cross-entropy of sequences that have a class at each place, such as tokens with tags.

use super::cross_entropy::over_last_axis;
use super::{Emitted, Loss};
use crate::emit::Emit;
use crate::error::GradError;

/// Cross-entropy at each place of each row, see [`CrossEntropy`](super::CrossEntropy). Inputs: `labels`, int64
/// `[n, places]`, and `sample_weight`, `[n, places]`: 0 where a row is only filled up, or a place has no class.
#[derive(Debug, Clone)]
pub struct SequenceCrossEntropy {
    /// The logits, `[n, places, classes]`.
    pub logits: String,
    /// How much of a place's mass goes to all classes alike, from 0 to below 1.
    pub smoothing: f64,
}

impl Loss for SequenceCrossEntropy {
    fn reads(&self) -> Vec<&str> {
        vec![&self.logits]
    }

    fn emit(&self, emit: &mut Emit<'_>) -> Result<Emitted, GradError> {
        over_last_axis(&self.logits, 3, self.smoothing, emit)
    }
}
