//! `Mul`: `z = x·y` with broadcasting; `dx = dz·y`, `dy = dz·x`, each summed over the axes it was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__Mul.html>, operator sets from 7. Emits `Mul`, and `ReduceSum` where shapes differ.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Mul;

impl Op for Mul {
    fn name(&self) -> &'static str {
        "Mul"
    }

    fn since(&self) -> i64 {
        7
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        for (at, other) in [(0, 1), (1, 0)] {
            let x = site.input(at)?;
            if emit.wants(x) {
                let product = emit.node("Mul", &[d, site.input(other)?]);
                let dx = emit.sum_to(&product, site.output(0)?, x)?;
                emit.give(x, dx);
            }
        }
        Ok(())
    }
}
