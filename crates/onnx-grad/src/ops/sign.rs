//! `Sign`: -1, 0 or 1; the gradient is 0 wherever there is one.
//!
//! <https://onnx.ai/onnx/operators/onnx__Sign.html>, operator sets from 9. Emits nothing: no gradient passes.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Sign;

impl Op for Sign {
    fn name(&self) -> &'static str {
        "Sign"
    }

    fn since(&self) -> i64 {
        9
    }

    fn backward(&self, _site: &Site<'_>, _d: &str, _emit: &mut Emit<'_>) -> Result<(), GradError> {
        Ok(())
    }
}
