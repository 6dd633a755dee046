//! Binary cross-entropy, for rows that may have several labels: `Σ w·(ln(1 + e^z) - t·z)`, `dz = w·(σ(z) - t)`.
//!
//! `ln(1 + e^z)` is written `max(z, 0) + ln(1 + e^-|z|)`, which does not overflow.

use super::{Emitted, Loss, leading, read, sum_all};
use crate::emit::Emit;
use crate::error::GradError;

/// Binary cross-entropy of each label of each row. Inputs: `targets`, `[n, labels]` from 0 to 1, and `sample_weight`,
/// `[n, labels]`: one weight for each decision, so that labels may be rare, and may be unknown (0).
#[derive(Debug, Clone)]
pub struct BinaryCrossEntropy {
    /// The logits, `[n, labels]`.
    pub logits: String,
}

impl Loss for BinaryCrossEntropy {
    fn reads(&self) -> Vec<&str> {
        vec![&self.logits]
    }

    fn emit(&self, emit: &mut Emit<'_>) -> Result<Emitted, GradError> {
        let z = self.logits.as_str();
        let fact = read(z, 2, emit)?;
        let targets = emit.input("targets", fact.elements, leading(fact, 2));
        let weight = emit.input("sample_weight", fact.elements, leading(fact, 2));
        let one = emit.number(1.0, z)?;
        let size = emit.node("Abs", &[z]);
        let size = emit.node("Neg", &[&size]);
        let small = emit.node("Exp", &[&size]);
        let small = emit.node("Add", &[&small, &one]);
        let small = emit.node("Log", &[&small]);
        let positive = emit.node("Relu", &[z]);
        let partition = emit.node("Add", &[&positive, &small]);
        let gain = emit.node("Mul", &[&targets, z]);
        let terms = emit.node("Sub", &[&partition, &gain]);
        let terms = emit.node("Mul", &[&terms, &weight]);
        let loss = sum_all(&terms, 2, emit);
        let share = emit.node("Sigmoid", &[z]);
        let off = emit.node("Sub", &[&share, &targets]);
        let gradient = emit.node("Mul", &[&off, &weight]);
        Ok(Emitted { loss, gradients: vec![(z.to_owned(), gradient)], inputs: vec![targets, weight] })
    }
}
