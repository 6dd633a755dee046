//! `GatherElements`: elements of `x` along an axis, as a tensor of indices says; `dx` is the sum of `dy` over all
//! places that took an element.
//!
//! <https://onnx.ai/onnx/operators/onnx__GatherElements.html>, operator sets from 11. Emits `ScatterElements` that
//! adds to zeros.

use headstart_onnx::proto::Attribute;

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct GatherElements;

impl Op for GatherElements {
    fn name(&self) -> &'static str {
        "GatherElements"
    }

    fn since(&self) -> i64 {
        11
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let zeros = emit.zeros(x)?;
        let axis = site.node.int("axis").unwrap_or_default();
        let told = vec![Attribute::int("axis", axis), Attribute::string("reduction", "add")];
        let dx = emit.node_with("ScatterElements", &[&zeros, site.input(1)?, d], told);
        emit.give(x, dx);
        Ok(())
    }
}
