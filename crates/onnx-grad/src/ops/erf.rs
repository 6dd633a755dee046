//! `Erf`: `y = erf x`; `dx = dy · 2/√π · e^(-x²)`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Erf.html>, operator sets from 9. Emits `Mul`, `Sub`, `Exp` and `Mul`: the factor stands in the exponent, which saves
//! a pass.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Erf;

impl Op for Erf {
    fn name(&self) -> &'static str {
        "Erf"
    }

    fn since(&self) -> i64 {
        9
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let factor = emit.number(std::f64::consts::FRAC_2_SQRT_PI.ln(), x)?;
        let square = emit.node("Mul", &[x, x]);
        let exponent = emit.node("Sub", &[&factor, &square]);
        let slope = emit.node("Exp", &[&exponent]);
        let dx = emit.node("Mul", &[d, &slope]);
        emit.give(x, dx);
        Ok(())
    }
}
