//! `Exp`: `y = eˣ`; `dx = dy·y`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Exp.html>, operator sets from 6. Emits `Mul`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Exp;

impl Op for Exp {
    fn name(&self) -> &'static str {
        "Exp"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let dx = emit.node("Mul", &[d, site.output(0)?]);
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
