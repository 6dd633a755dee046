//! `Trilu`: the upper or the lower triangle of each matrix, 0 elsewhere; `dx` is the same triangle of `dy`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Trilu.html>, operator sets from 14. Emits `Trilu`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Trilu;

impl Op for Trilu {
    fn name(&self) -> &'static str {
        "Trilu"
    }

    fn since(&self) -> i64 {
        14
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let operands: Vec<&str> = [d].into_iter().chain(site.node.reads(1)).collect();
        let dx = emit.node_with("Trilu", &operands, site.node.attribute.clone());
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
