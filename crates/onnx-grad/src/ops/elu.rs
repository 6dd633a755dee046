//! `Elu`: `y = x` where `x > 0`, else `α(eˣ - 1)`; `dx = dy` there, else `(y + α)·dy`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Elu.html>, operator sets from 6, `α` 1 where it is not stated. Emits `Greater`, `Add`, `Where` and `Mul`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Elu;

impl Op for Elu {
    fn name(&self) -> &'static str {
        "Elu"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, y) = (site.input(0)?, site.output(0)?);
        let zero = emit.number(0.0, x)?;
        let one = emit.number(1.0, x)?;
        let alpha = emit.number(f64::from(site.node.float("alpha").unwrap_or(1.0)), x)?;
        let above = emit.node("Greater", &[x, &zero]);
        let slope = emit.node("Add", &[y, &alpha]);
        let slope = emit.node("Where", &[&above, &one, &slope]);
        let dx = emit.node("Mul", &[d, &slope]);
        emit.give(x, dx);
        Ok(())
    }
}
