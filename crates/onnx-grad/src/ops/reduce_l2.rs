//! `ReduceL2`: `y = √Σ x²` over some axes; `dx = dy·x / y`, 0 where `y` is 0 (as PyTorch has it).
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceL2.html>, operator sets from 18 (axes as an input; rewritten from older ones). Emits `Equal`,
//! `Where`, `Div` and `Mul`.

use super::Op;
use super::reduction::Reduction;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReduceL2;

impl Op for ReduceL2 {
    fn name(&self) -> &'static str {
        "ReduceL2"
    }

    fn covers(&self) -> &'static str {
        "one axis or more, which do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let reduction = Reduction::of(site)?;
        let (y, d) = (reduction.restore(site.output(0)?, emit), reduction.restore(d, emit));
        let (zero, one) = (emit.number(0.0, x)?, emit.number(1.0, x)?);
        // Where the length is 0, so is every element.
        let nothing = emit.node("Equal", &[&y, &zero]);
        let length = emit.node("Where", &[&nothing, &one, &y]);
        let share = emit.node("Div", &[&d, &length]);
        let dx = emit.node("Mul", &[x, &share]);
        emit.give(x, dx);
        Ok(())
    }
}
