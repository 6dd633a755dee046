//! `Sqrt`: `y = √x`; `dx = dy / 2y`, infinite at 0.
//!
//! <https://onnx.ai/onnx/operators/onnx__Sqrt.html>, operator sets from 6. Emits `Mul` by a half and `Div`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Sqrt;

impl Op for Sqrt {
    fn name(&self) -> &'static str {
        "Sqrt"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let half = emit.number(0.5, x)?;
        let halved = emit.node("Mul", &[d, &half]);
        let dx = emit.node("Div", &[&halved, site.output(0)?]);
        emit.give(x, dx);
        Ok(())
    }
}
