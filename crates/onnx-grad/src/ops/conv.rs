//! `Conv`: `y[n, k, o] = Σ W[k, c, tap]·x[n, c, o·stride + tap·dilation - before] + b[k]`, by groups of channels, over one
//! spatial axis or more. `db = Σ dy`; `dx` spreads `dy` by the kernel; `dW` is told by `weight_gradient.rs`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Conv.html>, operator sets from 1. Shapes: `x [n, c, …]`, `W [k, c/groups, …]`,
//! `b [k]`. For `dx` of stride 1 emits `Conv` with the weight's channels exchanged and its taps reversed (`Reshape`,
//! `Transpose`, `Gather`), else `ConvTranspose`, which is quicker too where the image is small against the weight (kernel 3,
//! batch 8: 256 channels of 14 × 14 take 19 ms against 22; 64 of 56 × 56 take 21 against 19).

use headstart_onnx::proto::Attribute;

use super::Op;
use super::weight_gradient::Convolution;
use super::windows::{LEAD, Windows};
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

/// Windows over an image below which turning the weight costs more than it saves.
const FEW_WINDOWS: usize = 400;

pub(crate) struct Conv;

impl Op for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn covers(&self) -> &'static str {
        "weights of fixed shape; no negative padding; `auto_pad` SAME where the image's size is fixed or the stride is 1"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, weight, y) = (site.input(0)?, site.input(1)?, site.output(0)?);
        let (windows, [outer, inner]) = kernel_of(site)?;
        let groups = site.node.int("group").unwrap_or(1);
        if let Some(bias) = site.node.reads(2) {
            give_bias(bias, d, windows.rank(), emit);
        }
        if emit.wants(x) {
            let dx = if turns(&windows, site)? {
                let turned = turned(weight, [groups, outer / groups.max(1), inner], &windows, emit);
                let pads = |side: &Vec<i64>| -> Vec<i64> {
                    (0..windows.rank()).map(|axis| windows.extent(axis) - 1 - side[axis]).collect()
                };
                let told = vec![
                    Attribute::int("group", groups),
                    Attribute::ints("dilations", windows.dilations.clone()),
                    Attribute::ints("pads", windows.pads.iter().flat_map(pads).collect()),
                ];
                emit.node_with("Conv", &[d, &turned], told)
            } else {
                windows.spread((d, weight, groups), x, emit)?
            };
            emit.give(x, dx);
        }
        if emit.wants(weight) {
            let convolution =
                Convolution { windows: &windows, groups, outer, inner, image: (x, x), values: (d, y) };
            let gradient = convolution.weight_gradient(emit)?;
            emit.give(weight, gradient);
        }
        Ok(())
    }
}

/// How the kernel slides, and the first two sizes of the weight.
fn kernel_of(site: &Site<'_>) -> Result<(Windows, [i64; 2]), GradError> {
    let sizes = weight_sizes(site)?;
    let [outer, inner, kernel @ ..] = sizes.as_slice() else {
        return Err(site.refuse("its weight has no kernel"));
    };
    Ok((Windows::of(site, kernel.to_vec())?, [*outer, *inner]))
}

/// The shape of the weight, which must not depend on the graph's inputs.
pub(crate) fn weight_sizes(site: &Site<'_>) -> Result<Vec<i64>, GradError> {
    let sizes = site.input_fact(1)?.sizes();
    let sizes = sizes.ok_or_else(|| site.refuse("the shape of its weight depends on the graph's inputs"))?;
    Ok(sizes.into_iter().map(|size| size as i64).collect())
}

/// Gives the bias of an image its gradient.
pub(crate) fn give_bias(bias: &str, d: &str, spatial: usize, emit: &mut Emit<'_>) {
    if emit.wants(bias) {
        let axes: Vec<i64> = std::iter::once(0).chain(2..spatial as i64 + 2).collect();
        let sum = emit.sum(d, &axes, false);
        emit.give(bias, sum);
    }
}

/// Whether `dx` is a convolution by the turned weight.
fn turns(windows: &Windows, site: &Site<'_>) -> Result<bool, GradError> {
    let fits = |axis: usize| windows.pads.iter().all(|side| side[axis] < windows.extent(axis));
    let y = site.output_fact(0)?;
    let sizes: Option<Vec<usize>> = (LEAD..y.rank()).map(|axis| y.size(axis)).collect();
    let few = sizes.is_some_and(|sizes| sizes.iter().product::<usize>() < FEW_WINDOWS);
    Ok(!few && windows.strides.iter().all(|stride| *stride == 1) && (0..windows.rank()).all(fits))
}

/// The weight with its channels exchanged in each group, and its taps in reverse.
fn turned(weight: &str, [groups, outer, inner]: [i64; 3], windows: &Windows, emit: &mut Emit<'_>) -> String {
    let taps = windows.taps();
    let flat = emit.integers(&[groups, outer, inner, taps]);
    let mut turned = emit.node("Reshape", &[weight, &flat]);
    // With one channel on a side the elements lie in that order already.
    if outer > 1 && inner > 1 {
        let exchange = vec![Attribute::ints("perm", vec![0, 2, 1, 3])];
        turned = emit.node_with("Transpose", &[&turned], exchange);
    }
    if taps > 1 {
        // A `Slice` of negative steps is slower.
        let reverse = emit.integers(&(0..taps).rev().collect::<Vec<_>>());
        turned = emit.node_with("Gather", &[&turned, &reverse], vec![Attribute::int("axis", 3)]);
    }
    let shape = emit.integers(&[&[groups * inner, outer], windows.kernel.as_slice()].concat());
    emit.node("Reshape", &[&turned, &shape])
}
