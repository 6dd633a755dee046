//! `Ceil`: the smallest integer not below `x`; the gradient is 0 wherever there is one.
//!
//! <https://onnx.ai/onnx/operators/onnx__Ceil.html>, operator sets from 6. Emits nothing: no gradient passes.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Ceil;

impl Op for Ceil {
    fn name(&self) -> &'static str {
        "Ceil"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, _site: &Site<'_>, _d: &str, _emit: &mut Emit<'_>) -> Result<(), GradError> {
        Ok(())
    }
}
