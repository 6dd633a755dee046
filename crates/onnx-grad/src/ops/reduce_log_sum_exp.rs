//! `ReduceLogSumExp`: `y = ln Σ eˣ` over some axes; `dx = dy·e^(x - y)`.
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceLogSumExp.html>, operator sets from 18 (axes as an input; rewritten from older ones). Emits `Sub`, `Exp` and `Mul`.

use super::Op;
use super::reduction::Reduction;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReduceLogSumExp;

impl Op for ReduceLogSumExp {
    fn name(&self) -> &'static str {
        "ReduceLogSumExp"
    }

    fn covers(&self) -> &'static str {
        "one axis or more, which do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let reduction = Reduction::of(site)?;
        let (y, d) = (reduction.restore(site.output(0)?, emit), reduction.restore(d, emit));
        let below = emit.node("Sub", &[x, &y]);
        let share = emit.node("Exp", &[&below]);
        let dx = emit.node("Mul", &[&share, &d]);
        emit.give(x, dx);
        Ok(())
    }
}
