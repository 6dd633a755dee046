//! `PRelu`: `y = x` where `x > 0`, else `s·x` with a slope `s` that broadcasts to `x`; `dx = dy` and `s·dy` there,
//! `ds = x·dy` where `x ≤ 0`, summed over the axes that `s` was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__PRelu.html>, operator sets from 7. Emits `Greater`, `Mul` and `Where`, and `ReduceSum` for the slope.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct PRelu;

impl Op for PRelu {
    fn name(&self) -> &'static str {
        "PRelu"
    }

    fn since(&self) -> i64 {
        7
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, slope) = (site.input(0)?, site.input(1)?);
        let zero = emit.number(0.0, x)?;
        let above = emit.node("Greater", &[x, &zero]);
        if emit.wants(x) {
            let below = emit.node("Mul", &[d, slope]);
            let dx = emit.node("Where", &[&above, d, &below]);
            emit.give(x, dx);
        }
        if emit.wants(slope) {
            let product = emit.node("Mul", &[d, x]);
            let below = emit.node("Where", &[&above, &zero, &product]);
            let sum = emit.sum_to(&below, site.output(0)?, slope)?;
            emit.give(slope, sum);
        }
        Ok(())
    }
}
