//! `Softplus`: `y = ln(1 + eˣ)`; `dx = dy / (1 + e⁻ˣ)`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Softplus.html>, operator sets from 1. Emits `Sigmoid` and `Mul`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Softplus;

impl Op for Softplus {
    fn name(&self) -> &'static str {
        "Softplus"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let slope = emit.node("Sigmoid", &[x]);
        let dx = emit.node("Mul", &[d, &slope]);
        emit.give(x, dx);
        Ok(())
    }
}
