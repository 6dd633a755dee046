//! Mean squared error: `Σ w·mean (y - t)²` with the mean over a row's elements; `dy = 2w/D·(y - t)`.

use super::{Emitted, Loss, leading, read, sum_all};
use crate::emit::Emit;
use crate::error::GradError;

/// Mean squared error of rows of numbers. Inputs: `targets`, `[n, d]`, and `sample_weight`, `[n]`.
#[derive(Debug, Clone)]
pub struct MeanSquaredError {
    /// The numbers, `[n, d]`.
    pub values: String,
}

impl Loss for MeanSquaredError {
    fn reads(&self) -> Vec<&str> {
        vec![&self.values]
    }

    fn emit(&self, emit: &mut Emit<'_>) -> Result<Emitted, GradError> {
        let y = self.values.as_str();
        let fact = read(y, 2, emit)?;
        let reason = "the length of a row depends on the graph's inputs".to_owned();
        let size = fact.size(1).ok_or(GradError::Loss { value: y.to_owned(), reason })?;
        let targets = emit.input("targets", fact.elements, leading(fact, 2));
        let weight = emit.input("sample_weight", fact.elements, leading(fact, 1));
        let share = emit.number(1.0 / size as f64, y)?;
        let share = emit.node("Mul", &[&weight, &share]);
        let last = emit.integers(&[-1]);
        let share = emit.node("Unsqueeze", &[&share, &last]);
        let off = emit.node("Sub", &[y, &targets]);
        let weighted = emit.node("Mul", &[&off, &share]);
        let terms = emit.node("Mul", &[&weighted, &off]);
        let loss = sum_all(&terms, 2, emit);
        let gradient = emit.node("Add", &[&weighted, &weighted]);
        Ok(Emitted { loss, gradients: vec![(y.to_owned(), gradient)], inputs: vec![targets, weight] })
    }
}
