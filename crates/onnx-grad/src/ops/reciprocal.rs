//! `Reciprocal`: `y = 1 / x`; `dx = -dy·y²`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Reciprocal.html>, operator sets from 6. Emits `Mul` twice and `Neg`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Reciprocal;

impl Op for Reciprocal {
    fn name(&self) -> &'static str {
        "Reciprocal"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let y = site.output(0)?;
        let square = emit.node("Mul", &[y, y]);
        let product = emit.node("Mul", &[d, &square]);
        let dx = emit.node("Neg", &[&product]);
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
