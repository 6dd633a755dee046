//! `ReverseGradient`, of this crate's own set: `y = x`; `dx = -λ·dy` with a number `λ` that callers give (Ganin & Lempitsky
//! 2015).
//!
//! Emits forward `Identity`; back `Mul` and `Neg`.

use headstart_onnx::proto::Node;

use super::{OWN_SET, Op};
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReverseGradient;

impl Op for ReverseGradient {
    fn name(&self) -> &'static str {
        "ReverseGradient"
    }

    fn set(&self) -> &'static str {
        OWN_SET
    }

    fn since(&self) -> i64 {
        0
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        emit.push(Node::new("Identity", &[site.input(0)?], &[site.output(0)?], Vec::new()));
        Ok(Vec::new())
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let scaled = emit.node("Mul", &[d, site.input(1)?]);
        let dx = emit.node("Neg", &[&scaled]);
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
