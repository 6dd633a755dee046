//! `Gelu`: `y = x·P`, `P = (1 + erf(x/√2)) / 2`; `dx = dy·(P + x·e^(-x²/2) / √2π)`. With `approximate = "tanh"`:
//! `P = (1 + tanh u) / 2`, `u = √(2/π)·(x + 0.044715 x³)`; `dx = dy·(P + 2x·P·(1 - P)·u')` (Hendrycks & Gimpel 2016).
//!
//! <https://onnx.ai/onnx/operators/onnx__Gelu.html>, operator sets from 20, and the runtime's own of the same name. Emits
//! forward `Mul`, `Erf`, `Mul`, `Add`, `Mul`, so that `P` is computed once; back `Mul`, `Sub`, `Exp`, `Mul`, `Add`, `Mul`: the
//! factor stands in the exponent, which saves a pass.

use headstart_onnx::proto::Node;

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

/// Of one of the two operator sets that have it.
pub(super) struct Gelu {
    pub(super) set: &'static str,
}

/// The cubic term of the approximation.
const CUBIC: f64 = 0.044_715;

impl Op for Gelu {
    fn name(&self) -> &'static str {
        "Gelu"
    }

    fn set(&self) -> &'static str {
        self.set
    }

    fn since(&self) -> i64 {
        if self.set.is_empty() { 20 } else { 1 }
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        let (x, y) = (site.input(0)?, site.output(0)?);
        let half = emit.number(0.5, x)?;
        let inner = if is_approximate(site) {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            let (factor, cubic) = (emit.number(scale, x)?, emit.number(scale * CUBIC, x)?);
            let square = emit.node("Mul", &[x, x]);
            let part = emit.node("Mul", &[&square, &cubic]);
            let part = emit.node("Add", &[&part, &factor]);
            emit.node("Mul", &[x, &part])
        } else {
            let factor = emit.number(std::f64::consts::FRAC_1_SQRT_2, x)?;
            emit.node("Mul", &[x, &factor])
        };
        let curve = emit.node(if is_approximate(site) { "Tanh" } else { "Erf" }, &[&inner]);
        let share = emit.node("Mul", &[&curve, &half]);
        let share = emit.node("Add", &[&share, &half]);
        emit.push(Node::new("Mul", &[x, &share], &[y], Vec::new()));
        Ok(vec![inner, share])
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let [inner, share] = site.kept.as_slice() else {
            return Err(site.refuse("its forward part was written by another"));
        };
        let bend = if is_approximate(site) {
            approximate_bend(x, share, emit)?
        } else {
            let factor = emit.number(-0.5 * std::f64::consts::PI.ln(), x)?;
            let square = emit.node("Mul", &[inner, inner]);
            let exponent = emit.node("Sub", &[&factor, &square]);
            let bell = emit.node("Exp", &[&exponent]);
            emit.node("Mul", &[inner, &bell])
        };
        let slope = emit.node("Add", &[share, &bend]);
        let dx = emit.node("Mul", &[d, &slope]);
        emit.give(x, dx);
        Ok(())
    }
}

fn is_approximate(site: &Site<'_>) -> bool {
    site.node.text("approximate") == Some("tanh")
}

/// `2x·P·(1 - P)·u'`, `u' = √(2/π)·(1 + 3·0.044715 x²)`.
fn approximate_bend(x: &str, share: &str, emit: &mut Emit<'_>) -> Result<String, GradError> {
    let scale = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let (factor, cubic) = (emit.number(scale, x)?, emit.number(3.0 * scale * CUBIC, x)?);
    let square = emit.node("Mul", &[x, x]);
    let part = emit.node("Mul", &[&square, &cubic]);
    let part = emit.node("Add", &[&part, &factor]);
    let steep = emit.node("Mul", &[x, &part]);
    let shares = emit.node("Mul", &[share, share]);
    let spread = emit.node("Sub", &[share, &shares]);
    Ok(emit.node("Mul", &[&steep, &spread]))
}
