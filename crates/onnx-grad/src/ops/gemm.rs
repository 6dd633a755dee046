//! `Gemm`: `Y = α·A'·B' + β·C`, `A'` and `B'` transposed where so told; `dA' = α·dY·B'ᵀ`, `dB' = α·A'ᵀ·dY`, `dC = β·dY`
//! summed over the axes it was broadcast along.
//!
//! <https://onnx.ai/onnx/operators/onnx__Gemm.html>, operator sets from 7. Emits one `Gemm` for each of `A` and `B`; something
//! already given to `dA` is its third operand, which saves a pass. For `C` emits `ReduceSum`, and `Mul` where `β` is not 1.

use headstart_onnx::proto::Attribute;

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Gemm;

impl Op for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn since(&self) -> i64 {
        7
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        let turned = |name: &str| site.node.int(name).unwrap_or_default() != 0;
        let plain = ["alpha", "beta"].iter().all(|name| site.node.float(name).unwrap_or(1.0) == 1.0);
        let c = site.node.reads(2);
        if plain && c.is_none_or(|c| is_row(c, site)) {
            let (a, b, y) = (site.input(0)?, site.input(1)?, site.output(0)?);
            emit.matrix_product_named((a, turned("transA")), (b, turned("transB")), c, (y, y))?;
        } else {
            emit.push(site.node.clone());
        }
        Ok(Vec::new())
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (a, b) = (site.input(0)?, site.input(1)?);
        let turned = |name: &str| site.node.int(name).unwrap_or_default() != 0;
        let (turned_a, turned_b) = (turned("transA"), turned("transB"));
        let alpha = site.node.float("alpha").unwrap_or(1.0);
        if emit.wants(a) {
            let pending = emit.take_pending(a);
            let da = match turned_a {
                false => product((d, false), (b, !turned_b), alpha, (pending.as_deref(), a), emit)?,
                true => product((b, turned_b), (d, true), alpha, (pending.as_deref(), a), emit)?,
            };
            emit.give(a, da);
        }
        if emit.wants(b) {
            let db = match turned_b {
                false => product((a, !turned_a), (d, false), alpha, (None, b), emit)?,
                true => product((d, true), (a, turned_a), alpha, (None, b), emit)?,
            };
            emit.give(b, db);
        }
        let Some(c) = site.node.reads(2).filter(|c| emit.wants(c)) else { return Ok(()) };
        let mut dc = emit.sum_to(d, site.output(0)?, c)?;
        let beta = site.node.float("beta").unwrap_or(1.0);
        if beta != 1.0 {
            let beta = emit.number(f64::from(beta), c)?;
            dc = emit.node("Mul", &[&dc, &beta]);
        }
        emit.give(c, dc);
        Ok(())
    }
}

fn product(
    (left, turn_left): (&str, bool),
    (right, turn_right): (&str, bool),
    alpha: f32,
    (sum, like): (Option<&str>, &str),
    emit: &mut Emit<'_>,
) -> Result<String, GradError> {
    if alpha == 1.0 {
        return emit.matrix_product((left, turn_left), (right, turn_right), sum, like);
    }
    let operands: Vec<&str> = [left, right].into_iter().chain(sum).collect();
    let told = vec![
        Attribute::int("transA", i64::from(turn_left)),
        Attribute::int("transB", i64::from(turn_right)),
        Attribute::number("alpha", alpha),
    ];
    Ok(emit.node_with("Gemm", &operands, told))
}

/// Whether a value is a list that is added to each row of the product.
fn is_row(c: &str, site: &Site<'_>) -> bool {
    let width = site.output_fact(0).ok().and_then(|fact| fact.size(1));
    let sizes = site.fact(c).ok().and_then(|fact| fact.sizes());
    width.is_some() && sizes.is_some_and(|sizes| sizes == width.into_iter().collect::<Vec<_>>())
}
