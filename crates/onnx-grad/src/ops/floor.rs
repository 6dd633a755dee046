//! `Floor`: the largest integer not above `x`; the gradient is 0 wherever there is one.
//!
//! <https://onnx.ai/onnx/operators/onnx__Floor.html>, operator sets from 6. Emits nothing: no gradient passes.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Floor;

impl Op for Floor {
    fn name(&self) -> &'static str {
        "Floor"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, _site: &Site<'_>, _d: &str, _emit: &mut Emit<'_>) -> Result<(), GradError> {
        Ok(())
    }
}
