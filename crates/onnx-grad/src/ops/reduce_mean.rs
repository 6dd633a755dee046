//! `ReduceMean`: `y = Σ x / n` over some axes; `dx = dy / n` at each element.
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceMean.html>, operator sets from 18 (axes as an input; rewritten from older ones). Emits `Mul` (`Div` where `n` depends on
//! the inputs), `Unsqueeze` where the axes were not kept, and `Expand`.

use super::Op;
use super::reduction::Reduction;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReduceMean;

impl Op for ReduceMean {
    fn name(&self) -> &'static str {
        "ReduceMean"
    }

    fn covers(&self) -> &'static str {
        "axes that do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let reduction = Reduction::of(site)?;
        let d = reduction.over_count(site, d, emit)?;
        let dx = reduction.expand(site, &d, emit)?;
        emit.give(x, dx);
        Ok(())
    }
}
