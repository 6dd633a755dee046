//! `Flatten`: the same elements as a matrix; `dx = dy` in the shape of `x`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Flatten.html>, operator sets from 1. Emits `Reshape`, as that of `Reshape`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Flatten;

impl Op for Flatten {
    fn name(&self) -> &'static str {
        "Flatten"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let dx = emit.reshape(d, site.output(0)?, x)?;
        emit.give(x, dx);
        Ok(())
    }
}
