//! What is minimised, one file each.
//!
//! Every loss is a weighted sum over rows, whose weights callers give: `sample_weight`, which sums to 1 for a mean. Weights
//! of classes, rows that only fill a batch (weight 0) and batches taken in pieces all lie in it.

mod binary_cross_entropy;
mod contrastive;
mod cross_entropy;
mod domain_confusion;
mod mean_squared_error;
mod sequence_cross_entropy;
mod total;
mod weighted_sum;

pub use binary_cross_entropy::BinaryCrossEntropy;
pub use contrastive::Contrastive;
pub use cross_entropy::CrossEntropy;
pub use domain_confusion::DomainConfusion;
pub use mean_squared_error::MeanSquaredError;
pub use sequence_cross_entropy::SequenceCrossEntropy;
pub use total::Total;
pub use weighted_sum::WeightedSum;

use headstart_onnx::proto::Dimension;

use crate::emit::Emit;
use crate::error::GradError;
use crate::probe::Fact;

/// What a loss emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The name of the loss, a number without axes.
    pub loss: String,
    /// The loss's gradients by the values it reads.
    pub gradients: Vec<(String, String)>,
    /// Names of the inputs that it added, in the order its docs state them.
    pub inputs: Vec<String>,
}

/// What is minimised.
pub trait Loss {
    /// The values of the forward graph that it reads.
    fn reads(&self) -> Vec<&str>;

    /// Emits the loss, its gradients, and the inputs it needs.
    ///
    /// # Errors
    /// [`GradError::Loss`] where it does not fit what it reads.
    fn emit(&self, emit: &mut Emit<'_>) -> Result<Emitted, GradError>;
}

/// What is known of a value that a loss reads, which has to have `rank` axes.
fn read<'a>(value: &str, rank: usize, emit: &Emit<'a>) -> Result<&'a Fact, GradError> {
    let fact = emit.fact(value)?;
    if fact.rank() == rank && fact.is_float() {
        return Ok(fact);
    }
    let reason = format!("it reads floats of {rank} axes, the value has {}", fact.rank());
    Err(GradError::Loss { value: value.to_owned(), reason })
}

/// The first axes of a value, for an input of as many.
fn leading(fact: &Fact, axes: usize) -> Vec<Dimension> {
    (0..axes).map(|axis| fact.size(axis).map_or_else(Dimension::default, Dimension::of)).collect()
}

/// The sum of all elements of a value of `rank` axes.
fn sum_all(value: &str, rank: usize, emit: &mut Emit<'_>) -> String {
    let axes: Vec<i64> = (0..rank as i64).collect();
    emit.sum(value, &axes, false)
}
