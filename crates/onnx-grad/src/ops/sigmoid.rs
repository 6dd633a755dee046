//! `Sigmoid`: `y = 1 / (1 + e⁻ˣ)`; `dx = dy·y·(1 - y)`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Sigmoid.html>, operator sets from 6. Emits `Sub` and `Mul` twice.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Sigmoid;

impl Op for Sigmoid {
    fn name(&self) -> &'static str {
        "Sigmoid"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, y) = (site.input(0)?, site.output(0)?);
        let one = emit.number(1.0, x)?;
        let rest = emit.node("Sub", &[&one, y]);
        let slope = emit.node("Mul", &[y, &rest]);
        let dx = emit.node("Mul", &[d, &slope]);
        emit.give(x, dx);
        Ok(())
    }
}
