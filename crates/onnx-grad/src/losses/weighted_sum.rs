//! `loss = Σ w·y` with weights that callers give: any gradient of any value, and what derivatives are checked with.

use headstart_onnx::proto::Dimension;

use super::{Emitted, Loss};
use crate::emit::Emit;
use crate::error::GradError;

/// The sum of the elements of some values, each times a weight that callers give as inputs named `cotangent`, one of
/// each value's shape: the gradients are then those of the values, weighted so.
#[derive(Debug, Clone)]
pub struct WeightedSum {
    /// The values, of one type of floats.
    pub values: Vec<String>,
}

impl Loss for WeightedSum {
    fn reads(&self) -> Vec<&str> {
        self.values.iter().map(String::as_str).collect()
    }

    fn emit(&self, emit: &mut Emit<'_>) -> Result<Emitted, GradError> {
        let mut loss: Option<String> = None;
        let (mut gradients, mut inputs) = (Vec::new(), Vec::new());
        for value in &self.values {
            let fact = emit.fact(value)?;
            let dimension = |axis| fact.size(axis).map_or_else(Dimension::default, Dimension::of);
            let shape = (0..fact.rank()).map(dimension).collect();
            let weights = emit.input("cotangent", fact.elements, shape);
            let mut term = emit.node("Mul", &[value, &weights]);
            if fact.rank() > 0 {
                let axes: Vec<i64> = (0..fact.rank() as i64).collect();
                term = emit.sum(&term, &axes, false);
            }
            loss = Some(match loss {
                Some(sum) => emit.node("Add", &[&sum, &term]),
                None => term,
            });
            gradients.push((value.clone(), weights.clone()));
            inputs.push(weights);
        }
        Ok(Emitted { loss: loss.ok_or(GradError::Nothing)?, gradients, inputs })
    }
}
