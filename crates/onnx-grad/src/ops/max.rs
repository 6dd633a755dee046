//! `Max`: the largest of any number of values, element by element, with broadcasting; `dy` goes to the value that it came
//! from, in equal parts where several are equal (as PyTorch has it), summed over the axes that it was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__Max.html>, operator sets from 8. Emits see [`extremum`](super::extremum).

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Max;

impl Op for Max {
    fn name(&self) -> &'static str {
        "Max"
    }

    fn since(&self) -> i64 {
        8
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        super::extremum::backward(site, d, emit)
    }
}
