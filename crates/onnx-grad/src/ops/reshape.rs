//! `Reshape`: the same elements in another shape; `dx = dy` in the shape of `x`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Reshape.html>, operator sets from 5. Emits `Reshape` to a constant shape where
//! sizes that depend on the inputs can be copied or are one, else to a shape made of the sizes of the graph's inputs.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Reshape;

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "Reshape"
    }

    fn since(&self) -> i64 {
        5
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let dx = emit.reshape(d, site.output(0)?, x)?;
        emit.give(x, dx);
        Ok(())
    }
}
