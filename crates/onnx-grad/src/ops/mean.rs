//! `Mean`: the mean of `n` values with broadcasting; each gets `dy / n`, summed over the axes it was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__Mean.html>, operator sets from 8. Emits `Mul`, and `ReduceSum` where shapes differ.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Mean;

impl Op for Mean {
    fn name(&self) -> &'static str {
        "Mean"
    }

    fn since(&self) -> i64 {
        8
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let share = emit.number(1.0 / site.node.input.len() as f64, site.output(0)?)?;
        let d = emit.node("Mul", &[d, &share]);
        for x in &site.node.input {
            if emit.wants(x) {
                let dx = emit.sum_to(&d, site.output(0)?, x)?;
                emit.give(x, dx);
            }
        }
        Ok(())
    }
}
