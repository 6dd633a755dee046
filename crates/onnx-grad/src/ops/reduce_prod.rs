//! `ReduceProd`: `y = Π x` over some axes; `dx = dy·Π` of the other elements.
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceProd.html>, operator sets from 18 (axes as an input; rewritten from older ones). Emits `Equal`, `Where`, `ReduceProd`,
//! `ReduceSum` and `Div`: zeros are counted, so that an element gets its due where it alone is 0.

use headstart_onnx::proto::Attribute;

use super::Op;
use super::reduction::Reduction;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ReduceProd;

impl Op for ReduceProd {
    fn name(&self) -> &'static str {
        "ReduceProd"
    }

    fn covers(&self) -> &'static str {
        "axes that do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let reduction = Reduction::of(site)?;
        if reduction.axes.is_empty() {
            emit.give(x, d.to_owned());
            return Ok(());
        }
        let d = reduction.restore(d, emit);
        let (zero, one) = (emit.number(0.0, x)?, emit.number(1.0, x)?);
        let is_zero = emit.node("Equal", &[x, &zero]);
        let others = emit.node("Where", &[&is_zero, &one, x]);
        let axes = emit.integers(&reduction.axes_as_integers());
        let product = emit.node_with("ReduceProd", &[&others, &axes], vec![Attribute::int("keepdims", 1)]);
        let mark = emit.cast(&is_zero, x)?;
        let zeros = emit.sum(&mark, &reduction.axes_as_integers(), true);
        // The zeros among the others: with none the product counts, with any it is 0.
        let among_others = emit.node("Sub", &[&zeros, &mark]);
        let counts = emit.node("Equal", &[&among_others, &zero]);
        let quotient = emit.node("Div", &[&product, &others]);
        let slope = emit.node("Where", &[&counts, &quotient, &zero]);
        let dx = emit.node("Mul", &[&slope, &d]);
        emit.give(x, dx);
        Ok(())
    }
}
