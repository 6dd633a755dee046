//! `Dropout` at inference: `y = x`; `dx = dy`. Training graphs drop nothing: a node that is told to is refused.
//!
//! <https://onnx.ai/onnx/operators/onnx__Dropout.html>, operator sets from 12 (rate and mode as inputs). Emits nothing.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Dropout;

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn covers(&self) -> &'static str {
        "at inference"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        if site.integers(2)?.is_some_and(|mode| mode != [0]) {
            return Err(site.refuse("it drops elements"));
        }
        emit.give(site.input(0)?, d.to_owned());
        Ok(())
    }
}
