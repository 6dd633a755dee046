//! `ReduceMin`: the smallest element along some axes; `dy` goes to it, in equal parts where several are equal (as PyTorch's
//! `amin` has it).
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceMin.html>, operator sets from 18 (axes as an input; rewritten from older ones). Emits see
//! [`extremum`](super::extremum).

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReduceMin;

impl Op for ReduceMin {
    fn name(&self) -> &'static str {
        "ReduceMin"
    }

    fn covers(&self) -> &'static str {
        "axes that do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        super::extremum::backward_along(site, d, emit)
    }
}
