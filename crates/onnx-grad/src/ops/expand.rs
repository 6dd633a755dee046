//! `Expand`: a value repeated along axes of one element, and along new ones; `dx` is `dy` summed over them.
//!
//! <https://onnx.ai/onnx/operators/onnx__Expand.html>, operator sets from 8. Emits `ReduceSum`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Expand;

impl Op for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn since(&self) -> i64 {
        8
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let dx = emit.sum_to(d, site.output(0)?, x)?;
        emit.give(x, dx);
        Ok(())
    }
}
