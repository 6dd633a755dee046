//! `ReduceSum`: `y = Σ x` over some axes; `dx = dy` at each element that was summed.
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceSum.html>, operator sets from 13 (axes as an input). Emits `Expand` to the
//! shape of `x`, with an `Unsqueeze` before it where the axes were not kept.

use super::Op;
use super::reduction::Reduction;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReduceSum;

impl Op for ReduceSum {
    fn name(&self) -> &'static str {
        "ReduceSum"
    }

    fn covers(&self) -> &'static str {
        "axes that do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let reduction = Reduction::of(site)?;
        let dx = reduction.expand(site, d, emit)?;
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
