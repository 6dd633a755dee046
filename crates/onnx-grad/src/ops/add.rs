//! `Add`: `z = x + y` with broadcasting; `dx = dz`, `dy = dz`, each summed over the axes it was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__Add.html>, operator sets from 7. Emits nothing where shapes agree, else
//! `ReduceSum`, with a `Reshape` before it where a list was added to rows.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Add;

impl Op for Add {
    fn name(&self) -> &'static str {
        "Add"
    }

    fn since(&self) -> i64 {
        7
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        for at in 0..2 {
            let x = site.input(at)?;
            if emit.wants(x) {
                let dx = emit.sum_to(d, site.output(0)?, x)?;
                emit.give(x, dx);
            }
        }
        Ok(())
    }
}
