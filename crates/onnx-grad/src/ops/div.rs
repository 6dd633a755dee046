//! `Div`: `z = x / y` with broadcasting; `dx = dz / y`, `dy = -dz·z / y`, each summed over the axes it was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__Div.html>, operator sets from 7. Emits `Div`, for `y` with `Mul` before and `Neg` behind it, and `ReduceSum` where
//! shapes differ.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Div;

impl Op for Div {
    fn name(&self) -> &'static str {
        "Div"
    }

    fn since(&self) -> i64 {
        7
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, y, z) = (site.input(0)?, site.input(1)?, site.output(0)?);
        if !emit.wants(x) && !emit.wants(y) {
            return Ok(());
        }
        let quotient = emit.node("Div", &[d, y]);
        if emit.wants(x) {
            let dx = emit.sum_to(&quotient, z, x)?;
            emit.give(x, dx);
        }
        if emit.wants(y) {
            let product = emit.node("Mul", &[&quotient, z]);
            let sum = emit.sum_to(&product, z, y)?;
            let dy = emit.node("Neg", &[&sum]);
            emit.give(y, dy);
        }
        Ok(())
    }
}
