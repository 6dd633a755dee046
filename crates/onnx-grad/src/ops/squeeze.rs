//! `Squeeze`: axes of one element left out; `dx = dy` with them put in again.
//!
//! <https://onnx.ai/onnx/operators/onnx__Squeeze.html>, operator sets from 1. Emits `Unsqueeze`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Squeeze;

impl Op for Squeeze {
    fn name(&self) -> &'static str {
        "Squeeze"
    }

    fn covers(&self) -> &'static str {
        "axes that do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, fact) = (site.input(0)?, site.input_fact(0)?);
        let mut axes = match site.integers(1)? {
            Some(axes) => axes
                .into_iter()
                .map(|axis| Ok(site.axis(axis, fact.rank())? as i64))
                .collect::<Result<Vec<i64>, GradError>>()?,
            None => {
                (0..fact.rank()).filter(|&axis| fact.size(axis) == Some(1)).map(|axis| axis as i64).collect()
            }
        };
        axes.sort_unstable();
        let axes = emit.integers(&axes);
        let dx = emit.node("Unsqueeze", &[d, &axes]);
        emit.give(x, dx);
        Ok(())
    }
}
