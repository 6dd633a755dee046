//! `Relu`: `y = max(x, 0)`; `dx = dy` where `x > 0`, else 0 (0 at 0 itself, as PyTorch has it).
//!
//! <https://onnx.ai/onnx/operators/onnx__Relu.html>, operator sets from 1. Emits `Mul(dy, Sign(y))`: written with the
//! output, so that `x` need not be kept and the runtime can still join the node with a convolution before it.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Relu;

impl Op for Relu {
    fn name(&self) -> &'static str {
        "Relu"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let passes = emit.node("Sign", &[site.output(0)?]);
        let dx = emit.node("Mul", &[d, &passes]);
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
