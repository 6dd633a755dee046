//! `ReduceMax`: the largest element along some axes; `dy` goes to it, in equal parts where several are equal (as PyTorch's
//! `amax` has it).
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceMax.html>, operator sets from 18 (axes as an input; rewritten from older ones). Emits see
//! [`extremum`](super::extremum).

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReduceMax;

impl Op for ReduceMax {
    fn name(&self) -> &'static str {
        "ReduceMax"
    }

    fn covers(&self) -> &'static str {
        "axes that do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        super::extremum::backward_along(site, d, emit)
    }
}
