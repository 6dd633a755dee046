//! `BatchNormalization` with frozen statistics: `y = scale·h + bias`, `h = (x - mean)·inv`, `inv = 1/√(variance + ε)` by
//! channels. `dx = dy·scale·inv`, `dscale = Σ dy·h`, `dbias = Σ dy` over batch and spatial axes. `mean` and `variance` are
//! those of the file and stay so.
//!
//! <https://onnx.ai/onnx/operators/onnx__BatchNormalization.html>, operator sets from 9. Emits `Add`, `Sqrt`, `Reciprocal` and
//! `Unsqueeze` by channels, `Mul` for `dx`, and `Sub`, `Mul` and `ReduceSum` for `dscale`: with the mean taken away first,
//! so that nothing cancels.

use super::Op;
use super::windows::LEAD;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct BatchNormalization;

impl Op for BatchNormalization {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn since(&self) -> i64 {
        9
    }

    fn covers(&self) -> &'static str {
        "with frozen statistics, which get no gradient"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        if site.node.int("training_mode") == Some(1) || site.node.output.len() > 1 {
            return Err(site.refuse("its statistics are those of the batch"));
        }
        let (x, scale, bias) = (site.input(0)?, site.input(1)?, site.input(2)?);
        let (mean, variance) = (site.input(3)?, site.input(4)?);
        if emit.wants(mean) || emit.wants(variance) {
            return Err(site.refuse("its statistics are trained"));
        }
        let rank = site.input_fact(0)?.rank();
        let axes: Vec<i64> = (0..rank as i64).filter(|axis| *axis != 1).collect();
        if emit.wants(bias) {
            let sum = emit.sum(d, &axes, false);
            emit.give(bias, sum);
        }
        let epsilon = emit.number(f64::from(site.node.float("epsilon").unwrap_or(1e-5)), variance)?;
        let variance = emit.node("Add", &[variance, &epsilon]);
        let deviation = emit.node("Sqrt", &[&variance]);
        let inverse = emit.node("Reciprocal", &[&deviation]);
        if emit.wants(scale) {
            let mean = by_channels(mean, rank, emit);
            let centred = emit.node("Sub", &[x, &mean]);
            let product = emit.node("Mul", &[d, &centred]);
            let sum = emit.sum(&product, &axes, false);
            let dscale = emit.node("Mul", &[&sum, &inverse]);
            emit.give(scale, dscale);
        }
        if emit.wants(x) {
            let slope = emit.node("Mul", &[scale, &inverse]);
            let slope = by_channels(&slope, rank, emit);
            let dx = emit.node("Mul", &[d, &slope]);
            emit.give(x, dx);
        }
        Ok(())
    }
}

/// A list by channels as it is broadcast to images of `rank` axes.
pub(super) fn by_channels(list: &str, rank: usize, emit: &mut Emit<'_>) -> String {
    if rank <= LEAD {
        return list.to_owned();
    }
    let axes: Vec<i64> = (1..=(rank - LEAD) as i64).collect();
    let axes = emit.integers(&axes);
    emit.node("Unsqueeze", &[list, &axes])
}
