//! `Tanh`: `y = tanh x`; `dx = dy·(1 - y²)`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Tanh.html>, operator sets from 6. Emits `Mul`, `Sub` and `Mul`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Tanh;

impl Op for Tanh {
    fn name(&self) -> &'static str {
        "Tanh"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, y) = (site.input(0)?, site.output(0)?);
        let one = emit.number(1.0, x)?;
        let square = emit.node("Mul", &[y, y]);
        let slope = emit.node("Sub", &[&one, &square]);
        let dx = emit.node("Mul", &[d, &slope]);
        emit.give(x, dx);
        Ok(())
    }
}
