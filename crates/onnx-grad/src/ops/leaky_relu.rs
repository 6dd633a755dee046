//! `LeakyRelu`: `y = x` where `x > 0`, else `αx`; `dx = dy` and `α·dy` there (`α·dy` at 0, as PyTorch has it).
//!
//! <https://onnx.ai/onnx/operators/onnx__LeakyRelu.html>, operator sets from 6, `α` 0.01 where it is not stated. Emits `Greater`, `Where` and `Mul`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct LeakyRelu;

impl Op for LeakyRelu {
    fn name(&self) -> &'static str {
        "LeakyRelu"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let zero = emit.number(0.0, x)?;
        let one = emit.number(1.0, x)?;
        let slope = emit.number(f64::from(site.node.float("alpha").unwrap_or(0.01)), x)?;
        let above = emit.node("Greater", &[x, &zero]);
        let slope = emit.node("Where", &[&above, &one, &slope]);
        let dx = emit.node("Mul", &[d, &slope]);
        emit.give(x, dx);
        Ok(())
    }
}
