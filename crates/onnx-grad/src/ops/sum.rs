//! `Sum`: the sum of any number of values with broadcasting; each gets `dy`, summed over the axes it was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__Sum.html>, operator sets from 8. Emits `ReduceSum` where shapes differ.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Sum;

impl Op for Sum {
    fn name(&self) -> &'static str {
        "Sum"
    }

    fn since(&self) -> i64 {
        8
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        for x in &site.node.input {
            if emit.wants(x) {
                let dx = emit.sum_to(d, site.output(0)?, x)?;
                emit.give(x, dx);
            }
        }
        Ok(())
    }
}
