//! `Neg`: `y = -x`; `dx = -dy`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Neg.html>, operator sets from 6. Emits `Neg`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Neg;

impl Op for Neg {
    fn name(&self) -> &'static str {
        "Neg"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let dx = emit.node("Neg", &[d]);
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
