//! `GlobalAveragePool`: the mean over the spatial axes, which stay as axes of one element; `dx = dy / elements` everywhere.
//!
//! <https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html>, operator sets from 1. Emits `Div` and `Expand`.

use super::Op;
use super::windows::{LEAD, count};
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct GlobalAveragePool;

impl Op for GlobalAveragePool {
    fn name(&self) -> &'static str {
        "GlobalAveragePool"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let spatial: Vec<usize> = (LEAD..site.input_fact(0)?.rank()).collect();
        let elements = count(x, &spatial, emit)?;
        let share = emit.node("Div", &[d, &elements]);
        let shape = emit.shape_of(x)?;
        let dx = emit.node("Expand", &[&share, &shape]);
        emit.give(x, dx);
        Ok(())
    }
}
