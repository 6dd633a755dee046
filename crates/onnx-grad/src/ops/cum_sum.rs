//! `CumSum`: sums of all elements before each one along an axis; `dx` is the same sums of `dy` from the other end.
//!
//! <https://onnx.ai/onnx/operators/onnx__CumSum.html>, operator sets from 11. Emits `CumSum`.

use headstart_onnx::proto::Attribute;

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct CumSum;

impl Op for CumSum {
    fn name(&self) -> &'static str {
        "CumSum"
    }

    fn since(&self) -> i64 {
        11
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let told = |name| site.node.int(name).unwrap_or_default();
        let attributes = vec![
            Attribute::int("exclusive", told("exclusive")),
            Attribute::int("reverse", 1 - told("reverse")),
        ];
        let dx = emit.node_with("CumSum", &[d, site.input(1)?], attributes);
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
