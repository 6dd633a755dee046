//! `AveragePool`: the mean of each window; `dx` spreads each window's `dy`, divided by how many elements the window counts:
//! its taps, or with `count_include_pad` of 0 those within the image.
//!
//! <https://onnx.ai/onnx/operators/onnx__AveragePool.html>, operator sets from 7 (`dilations` from 19). Emits `AveragePool`
//! where the stride is 1 (192 channels, 35 × 35, kernel 3, batch 8: 3.9 ms, by `ConvTranspose` 5.6), else a
//! `ConvTranspose` of ones by channels (256 channels, 28 × 28, kernel 2: 1.7 ms, by `Expand` and `Reshape` 11). Where the
//! windows count differently, a `Conv` of one channel of ones counts.

use headstart_onnx::proto::{Attribute, Tensor, element};

use super::Op;
use super::windows::{LEAD, Windows};
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct AveragePool;

impl Op for AveragePool {
    fn name(&self) -> &'static str {
        "AveragePool"
    }

    fn since(&self) -> i64 {
        7
    }

    fn covers(&self) -> &'static str {
        "a fixed number of channels; no negative padding; `auto_pad` SAME where the image's size is fixed or the stride is 1"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, fact) = (site.input(0)?, site.input_fact(0)?);
        let kernel = site.node.ints("kernel_shape").unwrap_or_default().to_vec();
        let windows = Windows::of(site, kernel)?;
        let channels =
            fact.size(1).ok_or_else(|| site.refuse("its channels depend on the graph's inputs"))?;
        let one = |value: &i64| *value == 1;
        let pools = windows.strides.iter().all(one) && windows.dilations.iter().all(one);
        let taps = windows.taps() as f64;
        let shares = match counts(site, &windows, emit)? {
            None if pools => d.to_owned(),
            None => {
                let share = emit.number(1.0 / taps, x)?;
                emit.node("Mul", &[d, &share])
            }
            Some(counts) => {
                // A pool divides by the number of taps itself.
                let whole = emit.number(if pools { taps } else { 1.0 }, x)?;
                let share = emit.node("Div", &[&whole, &counts]);
                emit.node("Mul", &[d, &share])
            }
        };
        let dx = if pools {
            let pads = |side: &Vec<i64>| -> Vec<i64> {
                side.iter().zip(&windows.kernel).map(|(pad, size)| size - 1 - pad).collect()
            };
            let told = vec![
                Attribute::ints("kernel_shape", windows.kernel.clone()),
                Attribute::ints("pads", windows.pads.iter().flat_map(pads).collect()),
                Attribute::int("count_include_pad", 1),
            ];
            emit.node_with("AveragePool", &[&shares], told)
        } else {
            let weight = ones(&windows, channels, fact.elements, emit);
            windows.spread((&shares, &weight, channels as i64), x, emit)?
        };
        emit.give(x, dx);
        Ok(())
    }
}

/// A kernel of ones for each channel.
fn ones(windows: &Windows, channels: usize, elements: i32, emit: &mut Emit<'_>) -> String {
    let kernel = windows.kernel.iter().map(|size| *size as usize);
    let dims: Vec<usize> = [channels, 1].into_iter().chain(kernel).collect();
    let count = dims.iter().product();
    emit.constant(match elements {
        element::DOUBLE => Tensor::doubles("back/ones", &dims, std::iter::repeat_n(1.0, count)),
        _ => Tensor::floats("back/ones", &dims, std::iter::repeat_n(1.0, count)),
    })
}

/// How many elements each window counts, of shape `[1, 1, windows…]`; nothing where each counts all its taps.
fn counts(site: &Site<'_>, windows: &Windows, emit: &mut Emit<'_>) -> Result<Option<String>, GradError> {
    let (x, fact) = (site.input(0)?, site.input_fact(0)?);
    let rounds_up = site.node.int("ceil_mode") == Some(1);
    // How far the last window reaches beyond the padded image.
    let reach = |axis: usize| match windows.slack[axis] {
        Some(slack) => (-slack).max(0),
        None if rounds_up => windows.strides[axis] - 1,
        None => 0,
    };
    let reach: Vec<i64> = (0..windows.rank()).map(reach).collect();
    let padding = windows.padding();
    let with_pads = site.node.int("count_include_pad") == Some(1);
    let padded = padding.iter().any(|pad| *pad > 0);
    if reach.iter().all(|reach| *reach == 0) && (with_pads || !padded) {
        return Ok(None);
    }
    let one = emit.number(1.0, x)?;
    let spatial: Vec<usize> = (LEAD..fact.rank()).collect();
    let (lead, sizes) = (emit.integers(&[1, 1]), emit.sizes_of(x, &spatial)?);
    let image = emit.node_with("Concat", &[&lead, &sizes], vec![Attribute::int("axis", 0)]);
    let mut image = emit.node("Expand", &[&one, &image]);
    let (mut before, mut after) = (windows.pads[0].clone(), windows.pads[1].clone());
    if with_pads && padded {
        let [none, none_after] = [vec![0; LEAD], vec![0; LEAD]];
        let pads = emit.integers(&[none, before, none_after, after].concat());
        image = emit.node("Pad", &[&image, &pads, &one]);
        (before, after) = (vec![0; windows.rank()], vec![0; windows.rank()]);
    }
    after.iter_mut().zip(&reach).for_each(|(after, reach)| *after += reach);
    let weight = ones(windows, 1, fact.elements, emit);
    let told = vec![
        Attribute::ints("strides", windows.strides.clone()),
        Attribute::ints("dilations", windows.dilations.clone()),
        Attribute::ints("pads", [before, after].concat()),
    ];
    let counts = emit.node_with("Conv", &[&image, &weight], told);
    if windows.slack.iter().all(Option::is_some) || !rounds_up {
        return Ok(Some(counts));
    }
    let ends = emit.sizes_of(site.output(0)?, &spatial)?;
    let starts = emit.integers(&vec![0; spatial.len()]);
    let axes = emit.integers(&spatial.iter().map(|&axis| axis as i64).collect::<Vec<_>>());
    Ok(Some(emit.node("Slice", &[&counts, &starts, &ends, &axes])))
}
