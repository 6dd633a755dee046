//! `HardSigmoid`: `y = min(max(αx + β, 0), 1)`; `dx = α·dy` where `0 < y < 1`, else 0.
//!
//! <https://onnx.ai/onnx/operators/onnx__HardSigmoid.html>, operator sets from 6, `α` 0.2 and `β` 0.5 where they are not stated. Emits `Greater`, `Less`,
//! `And`, `Where` and `Mul`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct HardSigmoid;

impl Op for HardSigmoid {
    fn name(&self) -> &'static str {
        "HardSigmoid"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, y) = (site.input(0)?, site.output(0)?);
        let slope = emit.number(f64::from(site.node.float("alpha").unwrap_or(0.2)), x)?;
        let zero = emit.number(0.0, x)?;
        let one = emit.number(1.0, x)?;
        let above = emit.node("Greater", &[y, &zero]);
        let below = emit.node("Less", &[y, &one]);
        let inside = emit.node("And", &[&above, &below]);
        let slope = emit.node("Where", &[&inside, &slope, &zero]);
        let dx = emit.node("Mul", &[d, &slope]);
        emit.give(x, dx);
        Ok(())
    }
}
