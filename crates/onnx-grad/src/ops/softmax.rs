//! `Softmax`: `y = eˣ / Σ eˣ` along an axis; `dx = y·(dy - Σ dy·y)` along it.
//!
//! <https://onnx.ai/onnx/operators/onnx__Softmax.html>, operator sets from 13 (one axis; before, all axes from one on, which is rewritten first). Emits `Mul`,
//! `ReduceSum`, `Sub` and `Mul`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Softmax;

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "Softmax"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, y) = (site.input(0)?, site.output(0)?);
        let axis = site.node.int("axis").unwrap_or(-1);
        let product = emit.node("Mul", &[d, y]);
        let sum = emit.sum(&product, &[axis], true);
        let rest = emit.node("Sub", &[d, &sum]);
        let dx = emit.node("Mul", &[y, &rest]);
        emit.give(x, dx);
        Ok(())
    }
}
