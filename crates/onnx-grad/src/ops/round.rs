//! `Round`: the integer nearest to `x`; the gradient is 0 wherever there is one.
//!
//! <https://onnx.ai/onnx/operators/onnx__Round.html>, operator sets from 11. Emits nothing: no gradient passes.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Round;

impl Op for Round {
    fn name(&self) -> &'static str {
        "Round"
    }

    fn since(&self) -> i64 {
        11
    }

    fn backward(&self, _site: &Site<'_>, _d: &str, _emit: &mut Emit<'_>) -> Result<(), GradError> {
        Ok(())
    }
}
