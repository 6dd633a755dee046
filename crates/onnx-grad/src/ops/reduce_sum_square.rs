//! `ReduceSumSquare`: `y = Σ x²` over some axes; `dx = 2x·dy`.
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceSumSquare.html>, operator sets from 18 (axes as an input; rewritten from older ones). Emits `Mul` twice.

use super::Op;
use super::reduction::Reduction;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReduceSumSquare;

impl Op for ReduceSumSquare {
    fn name(&self) -> &'static str {
        "ReduceSumSquare"
    }

    fn covers(&self) -> &'static str {
        "one axis or more, which do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let reduction = Reduction::of(site)?;
        let two = emit.number(2.0, x)?;
        let d = reduction.restore(d, emit);
        let doubled = emit.node("Mul", &[&d, &two]);
        let dx = emit.node("Mul", &[x, &doubled]);
        emit.give(x, dx);
        Ok(())
    }
}
