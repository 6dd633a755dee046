//! `LayerNormalization`: `y = g·h + b`, `h = (x - mean)·inv`, `inv = 1/√(variance + ε)` over the axes from `axis` on.
//! With `p = dy·h`: `dg = Σ p`, `db = Σ dy` over rows, `dx = (dy·g - mean(dy·g) - h·mean(p·g))·inv` (Ba et al. 2016).
//!
//! <https://onnx.ai/onnx/operators/onnx__LayerNormalization.html>, operator sets from 17. Forward asks for the outputs `mean`
//! and `inv` (which are computed apart for 64-bit floats). Back emits `Sub`, `Mul` for `h`; `Reshape` and `ReduceSum` for `g` and `b`; for `x` the means as products with
//! the column `g/D`, which needs no pass of its own (`ReduceMean` where several axes are normalised), and `Mul`, `Sub`.

use headstart_onnx::proto::{Attribute, Node, element};

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(crate) struct LayerNormalization;

impl Op for LayerNormalization {
    fn name(&self) -> &'static str {
        "LayerNormalization"
    }

    fn since(&self) -> i64 {
        17
    }

    fn covers(&self) -> &'static str {
        "its first output"
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        if site.input_fact(0)?.elements == element::DOUBLE {
            emit.push(site.node.clone());
            return statistics(site, emit);
        }
        let mut name =
            |at: usize, wanted: &str| site.node.makes(at).map_or_else(|| emit.fresh(wanted), str::to_owned);
        let (mean, inverse) = (name(1, "mean"), name(2, "inverse"));
        let output = vec![site.output(0)?.to_owned(), mean.clone(), inverse.clone()];
        emit.push(Node { output, ..site.node.clone() });
        Ok(vec![mean, inverse])
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, scale) = (site.input(0)?, site.input(1)?);
        if let Some(bias) = site.node.reads(2)
            && emit.wants(bias)
        {
            let sum = emit.sum_to(d, x, bias)?;
            emit.give(bias, sum);
        }
        if !emit.wants(x) && !emit.wants(scale) {
            return Ok(());
        }
        let [mean, inverse] = site.kept.as_slice() else {
            return Err(site.refuse("its forward part was written by another"));
        };
        let centred = emit.node("Sub", &[x, mean]);
        let normal = emit.node("Mul", &[&centred, inverse]);
        let product = emit.node("Mul", &[d, &normal]);
        if emit.wants(scale) {
            let sum = emit.sum_to(&product, x, scale)?;
            emit.give(scale, sum);
        }
        if emit.wants(x) {
            let scaled = emit.node("Mul", &[d, scale]);
            let (mean_d, mean_p) = means(site, d, &product, &scaled, emit)?;
            let rest = emit.node("Sub", &[&scaled, &mean_d]);
            let along = emit.node("Mul", &[&normal, &mean_p]);
            let rest = emit.node("Sub", &[&rest, &along]);
            let dx = emit.node("Mul", &[&rest, inverse]);
            emit.give(x, dx);
        }
        Ok(())
    }
}

/// `mean` and `inv` of 64 bits: the node has them in 32 bits alone.
fn statistics(site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
    let (x, rank) = (site.input(0)?, site.input_fact(0)?.rank());
    let first = site.axis(site.node.int("axis").unwrap_or(-1), rank)?;
    let axes = emit.integers(&(first as i64..rank as i64).collect::<Vec<_>>());
    let kept = || vec![Attribute::int("keepdims", 1)];
    let mean = emit.node_with("ReduceMean", &[x, &axes], kept());
    let centred = emit.node("Sub", &[x, &mean]);
    let square = emit.node("Mul", &[&centred, &centred]);
    let variance = emit.node_with("ReduceMean", &[&square, &axes], kept());
    let epsilon = emit.number(f64::from(site.node.float("epsilon").unwrap_or(1e-5)), x)?;
    let sum = emit.node("Add", &[&variance, &epsilon]);
    let root = emit.node("Sqrt", &[&sum]);
    Ok(vec![mean, emit.node("Reciprocal", &[&root])])
}

/// The means of `dy·g` and of `p·g` over the axes that are normalised, which stay as axes of one element.
fn means(
    site: &Site<'_>,
    d: &str,
    product: &str,
    scaled: &str,
    emit: &mut Emit<'_>,
) -> Result<(String, String), GradError> {
    let (scale, fact) = (site.input(1)?, site.input_fact(0)?);
    let first = site.axis(site.node.int("axis").unwrap_or(-1), fact.rank())?;
    let last = fact.size(fact.rank() - 1).filter(|_| first + 1 == fact.rank());
    if let Some(size) =
        last.filter(|&size| site.fact(scale).is_ok_and(|fact| fact.sizes() == Some(vec![size])))
    {
        let share = emit.number(1.0 / size as f64, scale)?;
        let shares = emit.node("Mul", &[scale, &share]);
        let column = emit.integers(&[1]);
        let column = emit.node("Unsqueeze", &[&shares, &column]);
        return Ok((emit.node("MatMul", &[d, &column]), emit.node("MatMul", &[product, &column])));
    }
    let axes: Vec<i64> = (first..fact.rank()).map(|axis| axis as i64).collect();
    let axes = emit.integers(&axes);
    let mut mean =
        |value: &str| emit.node_with("ReduceMean", &[value, &axes], vec![Attribute::int("keepdims", 1)]);
    let mean_d = mean(scaled);
    let scaled_p = emit.node("Mul", &[product, scale]);
    let mean_p = emit.node_with("ReduceMean", &[&scaled_p, &axes], vec![Attribute::int("keepdims", 1)]);
    Ok((mean_d, mean_p))
}
