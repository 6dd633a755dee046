//! `ReduceL1`: `y = Σ |x|` over some axes; `dx = dy·sign(x)`, 0 at 0.
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceL1.html>, operator sets from 18 (axes as an input; rewritten from older ones). Emits `Sign` and `Mul`.

use super::Op;
use super::reduction::Reduction;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReduceL1;

impl Op for ReduceL1 {
    fn name(&self) -> &'static str {
        "ReduceL1"
    }

    fn covers(&self) -> &'static str {
        "one axis or more, which do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let reduction = Reduction::of(site)?;
        let d = reduction.restore(d, emit);
        let sign = emit.node("Sign", &[x]);
        let dx = emit.node("Mul", &[&sign, &d]);
        emit.give(x, dx);
        Ok(())
    }
}
