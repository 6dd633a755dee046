//! `Cast`: `y = x` in another type; `dx = dy` in the type of `x`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Cast.html>, operator sets from 6. Between floats of 32 and 64 bits; what becomes an integer or a truth value has no
//! gradient. Emits `Cast`, nothing where the types agree.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Cast;

impl Op for Cast {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn since(&self) -> i64 {
        6
    }

    fn covers(&self) -> &'static str {
        "between floats of 32 and 64 bits"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let same = site.input_fact(0)?.elements == site.output_fact(0)?.elements;
        let dx = if same { d.to_owned() } else { emit.cast(d, x)? };
        emit.give(x, dx);
        Ok(())
    }
}
