//! `ConvTranspose`: spreads `x [n, c, …]` over an image `y [n, k, …]` by the kernel `W [c, k/groups, …]`, and adds `b [k]`:
//! the adjoint of the convolution of `y` by `W`. So `dx` is that convolution of `dy`, `dW` the weight gradient of it with
//! `dy` as its image and `x` as its windows, and `db = Σ dy`.
//!
//! <https://onnx.ai/onnx/operators/onnx__ConvTranspose.html>, operator sets from 1. Emits `Conv`, and what
//! `weight_gradient.rs` tells.

use headstart_onnx::proto::Attribute;

use super::Op;
use super::conv::{give_bias, weight_sizes};
use super::weight_gradient::Convolution;
use super::windows::{LEAD, Windows, numbers, shared, stated};
use crate::emit::Emit;
use crate::error::GradError;
use crate::probe::Fact;
use crate::site::Site;

pub(super) struct ConvTranspose;

impl Op for ConvTranspose {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn covers(&self) -> &'static str {
        "weights of fixed shape; no negative padding; no more added behind than a stride; `output_shape` and `auto_pad` SAME where the image's size is fixed"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, weight, y) = (site.input(0)?, site.input(1)?, site.output(0)?);
        let sizes = weight_sizes(site)?;
        let [outer, inner, kernel @ ..] = sizes.as_slice() else {
            return Err(site.refuse("its weight has no kernel"));
        };
        let windows = windows_of(site, kernel.to_vec())?;
        let groups = site.node.int("group").unwrap_or(1);
        if let Some(bias) = site.node.reads(2) {
            give_bias(bias, d, windows.rank(), emit);
        }
        if emit.wants(x) {
            let dx = gathered(d, weight, groups, &windows, emit);
            emit.give(x, dx);
        }
        if emit.wants(weight) {
            let (outer, inner) = (*outer, *inner);
            let convolution =
                Convolution { windows: &windows, groups, outer, inner, image: (d, y), values: (x, x) };
            let gradient = convolution.weight_gradient(emit)?;
            emit.give(weight, gradient);
        }
        Ok(())
    }
}

/// The convolution of an image.
fn gathered(d: &str, weight: &str, groups: i64, windows: &Windows, emit: &mut Emit<'_>) -> String {
    let told = vec![
        Attribute::int("group", groups),
        Attribute::ints("strides", windows.strides.clone()),
        Attribute::ints("dilations", windows.dilations.clone()),
        Attribute::ints("pads", windows.padding()),
    ];
    emit.node_with("Conv", &[d, weight], told)
}

/// How windows slide over what the node makes.
fn windows_of(site: &Site<'_>, kernel: Vec<i64>) -> Result<Windows, GradError> {
    let spatial = site.input_fact(0)?.rank().saturating_sub(LEAD);
    if kernel.len() != spatial || spatial == 0 {
        return Err(site.refuse("its kernel does not fit the image"));
    }
    let beyond = numbers(site, "output_padding", spatial, 0)?;
    let mut windows = Windows {
        strides: numbers(site, "strides", spatial, 1)?,
        dilations: numbers(site, "dilations", spatial, 1)?,
        pads: [vec![0; spatial], vec![0; spatial]],
        slack: beyond.iter().copied().map(Some).collect(),
        kernel,
    };
    let way = site.node.text("auto_pad").unwrap_or_default();
    let stated_shape = site.node.ints("output_shape").is_some_and(|shape| !shape.is_empty());
    match way {
        "SAME_UPPER" | "SAME_LOWER" => pad_to_sizes(&mut windows, &beyond, way == "SAME_UPPER", site)?,
        "" | "NOTSET" | "VALID" if stated_shape => pad_to_sizes(&mut windows, &beyond, false, site)?,
        "" | "NOTSET" => windows.pads = stated(site, spatial)?,
        "VALID" => {}
        other => return Err(site.refuse(&format!("its `auto_pad` is `{other}`"))),
    }
    // The convolution of the image would have more windows.
    if windows
        .slack
        .iter()
        .zip(&windows.strides)
        .any(|(slack, stride)| slack.is_none_or(|slack| slack >= *stride))
    {
        return Err(site.refuse("more is added behind than a stride is long"));
    }
    Ok(windows)
}

/// Padding that follows from the image's size.
fn pad_to_sizes(
    windows: &mut Windows,
    beyond: &[i64],
    upper: bool,
    site: &Site<'_>,
) -> Result<(), GradError> {
    let (mut total, mut slack) = (Vec::new(), Vec::new());
    for axis in 0..windows.rank() {
        let size = |fact: &Fact| fact.size(axis + LEAD).map(|size| size as i64);
        let (Some(count), Some(image)) = (size(site.input_fact(0)?), size(site.output_fact(0)?)) else {
            return Err(site.refuse("its padding depends on the graph's inputs"));
        };
        let reach = (count - 1) * windows.strides[axis] + windows.extent(axis);
        total.push((reach + beyond[axis] - image).max(0));
        slack.push(Some(image + total[axis] - reach));
    }
    windows.pads = shared(&total, upper);
    windows.slack = slack;
    Ok(())
}
