//! `Identity`: `y = x`; `dx = dy`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Identity.html>, operator sets from 1. Emits nothing.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Identity;

impl Op for Identity {
    fn name(&self) -> &'static str {
        "Identity"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        emit.give(site.input(0)?, d.to_owned());
        Ok(())
    }
}
