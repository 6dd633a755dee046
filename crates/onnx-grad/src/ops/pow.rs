//! `Pow`: `z = xᵉ` with broadcasting; `dx = dz·e·x^(e-1)`, 0 where `e` is, `de = dz·z·ln x`, 0 where `x` is not positive, each
//! summed over the axes it was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__Pow.html>, operator sets from 7; the exponent may be of integers. For constant exponents of 2, 1/2 and others emits
//! `Mul`, `Div` by the output, or `Pow`; for others `Sub`, `Pow`, `Mul`, `Equal` and `Where`, with a `Cast` where it is of another type; for
//! the exponent's own gradient `Greater`, `Where`, `Log` and `Mul`.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Pow;

impl Op for Pow {
    fn name(&self) -> &'static str {
        "Pow"
    }

    fn since(&self) -> i64 {
        7
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, e, z) = (site.input(0)?, site.input(1)?, site.output(0)?);
        if emit.wants(x) {
            let slope = slope(site, emit)?;
            let product = emit.node("Mul", &[d, &slope]);
            let dx = emit.sum_to(&product, z, x)?;
            emit.give(x, dx);
        }
        if emit.wants(e) {
            let (zero, one) = (emit.number(0.0, x)?, emit.number(1.0, x)?);
            let positive = emit.node("Greater", &[x, &zero]);
            let base = emit.node("Where", &[&positive, x, &one]);
            let log = emit.node("Log", &[&base]);
            let slope = emit.node("Mul", &[z, &log]);
            let product = emit.node("Mul", &[d, &slope]);
            let de = emit.sum_to(&product, z, e)?;
            emit.give(e, de);
        }
        Ok(())
    }
}

/// `e·x^(e-1)`.
fn slope(site: &Site<'_>, emit: &mut Emit<'_>) -> Result<String, GradError> {
    let (x, e) = (site.input(0)?, site.input(1)?);
    let constant = site.number(1).ok().flatten();
    let whole = || match site.integers(1).ok().flatten()?.as_slice() {
        [value] => Some(*value as f64),
        _ => None,
    };
    // What is trained does not stay as it is in the file.
    match constant.or_else(whole).filter(|_| !emit.wants(e)) {
        // Else 0 times infinity, where the base is 0.
        Some(0.0) => emit.number(0.0, x),
        Some(2.0) => {
            let two = emit.number(2.0, x)?;
            Ok(emit.node("Mul", &[x, &two]))
        }
        Some(0.5) => {
            let half = emit.number(0.5, x)?;
            Ok(emit.node("Div", &[&half, site.output(0)?]))
        }
        Some(exponent) => {
            let (less, exponent) = (emit.number(exponent - 1.0, x)?, emit.number(exponent, x)?);
            let power = emit.node("Pow", &[x, &less]);
            Ok(emit.node("Mul", &[&power, &exponent]))
        }
        None => {
            let one = emit.number(1.0, x)?;
            let same = site.fact(e)?.elements == site.fact(x)?.elements;
            let exponent = if same { e.to_owned() } else { emit.cast(e, x)? };
            let less = emit.node("Sub", &[&exponent, &one]);
            let power = emit.node("Pow", &[x, &less]);
            let slope = emit.node("Mul", &[&power, &exponent]);
            let zero = emit.number(0.0, x)?;
            let level = emit.node("Equal", &[&exponent, &zero]);
            Ok(emit.node("Where", &[&level, &zero, &slope]))
        }
    }
}
