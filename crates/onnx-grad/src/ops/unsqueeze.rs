//! `Unsqueeze`: axes of one element put in; `dx = dy` with them left out again.
//!
//! <https://onnx.ai/onnx/operators/onnx__Unsqueeze.html>, operator sets from 1. Emits `Squeeze`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Unsqueeze;

impl Op for Unsqueeze {
    fn name(&self) -> &'static str {
        "Unsqueeze"
    }

    fn covers(&self) -> &'static str {
        "axes that do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let axes = site.integers(1)?.ok_or_else(|| site.refuse("it has no axes"))?;
        let axes = emit.integers(&axes);
        let dx = emit.node("Squeeze", &[d, &axes]);
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
