//! `Where`: `z = x` where a condition holds, else `y`, with broadcasting; `dx = dz` where it holds, `dy` where it
//! does not, else 0, each summed over the axes it was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__Where.html>, operator sets from 9. Emits `Where` with 0, and `ReduceSum` for
//! a broadcast.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Where;

impl Op for Where {
    fn name(&self) -> &'static str {
        "Where"
    }

    fn since(&self) -> i64 {
        9
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let condition = site.input(0)?;
        for at in 1..3 {
            let x = site.input(at)?;
            if emit.wants(x) {
                let zero = emit.number(0.0, x)?;
                let [held, not] = if at == 1 { [d, &zero] } else { [&zero, d] };
                let chosen = emit.node("Where", &[condition, held, not]);
                let dx = emit.sum_to(&chosen, site.output(0)?, x)?;
                emit.give(x, dx);
            }
        }
        Ok(())
    }
}
