//! `LogSoftmax`: `y = x - ln Σ eˣ` along an axis; `dx = dy - e^y·Σ dy` along it.
//!
//! <https://onnx.ai/onnx/operators/onnx__LogSoftmax.html>, operator sets from 13 (one axis; before, all axes from one on, which is rewritten first). Emits
//! `ReduceSum`, `Exp`, `Mul` and `Sub`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct LogSoftmax;

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        "LogSoftmax"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let axis = site.node.int("axis").unwrap_or(-1);
        let sum = emit.sum(d, &[axis], true);
        let share = emit.node("Exp", &[site.output(0)?]);
        let part = emit.node("Mul", &[&share, &sum]);
        let dx = emit.node("Sub", &[d, &part]);
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
