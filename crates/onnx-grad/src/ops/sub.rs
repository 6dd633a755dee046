//! `Sub`: `z = x - y` with broadcasting; `dx = dz`, `dy = -dz`, each summed over the axes it was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__Sub.html>, operator sets from 7. Emits `ReduceSum` where shapes differ, and `Neg` behind it for `y`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Sub;

impl Op for Sub {
    fn name(&self) -> &'static str {
        "Sub"
    }

    fn since(&self) -> i64 {
        7
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, y, z) = (site.input(0)?, site.input(1)?, site.output(0)?);
        if emit.wants(x) {
            let dx = emit.sum_to(d, z, x)?;
            emit.give(x, dx);
        }
        if emit.wants(y) {
            let sum = emit.sum_to(d, z, y)?;
            let dy = emit.node("Neg", &[&sum]);
            emit.give(y, dy);
        }
        Ok(())
    }
}
