//! `ReduceLogSum`: `y = ln Σ x` over some axes; `dx = dy / e^y`.
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceLogSum.html>, operator sets from 18 (axes as an input; rewritten from older ones). Emits `Neg`, `Exp`, `Mul` and `Expand`.

use super::Op;
use super::reduction::Reduction;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReduceLogSum;

impl Op for ReduceLogSum {
    fn name(&self) -> &'static str {
        "ReduceLogSum"
    }

    fn covers(&self) -> &'static str {
        "one axis or more, which do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let reduction = Reduction::of(site)?;
        let opposite = emit.node("Neg", &[site.output(0)?]);
        let share = emit.node("Exp", &[&opposite]);
        let product = emit.node("Mul", &[d, &share]);
        let dx = reduction.expand(site, &product, emit)?;
        emit.give(x, dx);
        Ok(())
    }
}
