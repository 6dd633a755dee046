//! `HardSwish`: `y = x·h`, `h = min(max(x/6 + 1/2, 0), 1)`; `dx = dy·(h + x/6)` where `0 < h < 1`, else `dy·h`
//! (Howard et al. 2019, MobileNetV3).
//!
//! <https://onnx.ai/onnx/operators/onnx__HardSwish.html>, operator sets from 14. Emits `Mul`, `Add` and `Clip` for `h`, `Greater`, `Less`, `And` and `Where` for
//! `x/6`, `Add` and `Mul`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct HardSwish;

impl Op for HardSwish {
    fn name(&self) -> &'static str {
        "HardSwish"
    }

    fn since(&self) -> i64 {
        14
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let sixth = emit.number(1.0 / 6.0, x)?;
        let half = emit.number(0.5, x)?;
        let zero = emit.number(0.0, x)?;
        let one = emit.number(1.0, x)?;
        let part = emit.node("Mul", &[x, &sixth]);
        let line = emit.node("Add", &[&part, &half]);
        let h = emit.node("Clip", &[&line, &zero, &one]);
        let above = emit.node("Greater", &[&line, &zero]);
        let below = emit.node("Less", &[&line, &one]);
        let inside = emit.node("And", &[&above, &below]);
        let part = emit.node("Where", &[&inside, &part, &zero]);
        let slope = emit.node("Add", &[&h, &part]);
        let dx = emit.node("Mul", &[d, &slope]);
        emit.give(x, dx);
        Ok(())
    }
}
