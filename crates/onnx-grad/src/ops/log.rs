//! `Log`: `y = ln x`; `dx = dy / x`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Log.html>, operator sets from 6. Emits `Div`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Log;

impl Op for Log {
    fn name(&self) -> &'static str {
        "Log"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let dx = emit.node("Div", &[d, x]);
        emit.give(x, dx);
        Ok(())
    }
}
