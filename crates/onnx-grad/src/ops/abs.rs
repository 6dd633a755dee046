//! `Abs`: `y = |x|`; `dx = dy·sign(x)`, 0 at 0.
//!
//! <https://onnx.ai/onnx/operators/onnx__Abs.html>, operator sets from 6. Emits `Sign` and `Mul`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Abs;

impl Op for Abs {
    fn name(&self) -> &'static str {
        "Abs"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let sign = emit.node("Sign", &[x]);
        let dx = emit.node("Mul", &[d, &sign]);
        emit.give(x, dx);
        Ok(())
    }
}
