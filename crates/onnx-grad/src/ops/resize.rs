//! `Resize`: pictures and lines made larger or smaller. Along each axis `y = R·x` with a matrix `R` that depends on
//! sizes and modes alone, so `dx = Rᵀ·dy`, axis by axis.
//!
//! <https://onnx.ai/onnx/operators/onnx__Resize.html>, operator sets from 10. Where elements are repeated whole
//! numbers of times (mode `nearest`), emits `Reshape` and `ReduceSum`. Else `R` is what `Resize` itself makes of the
//! identity matrix, with the node's own modes, so that it never differs from the node's: emits `EyeLike`, `Resize`
//! and `MatMul` for each axis, with `Transpose` around it where that is none of the last two, `Expand` before it for
//! the last but one.

use headstart_onnx::proto::{Attribute, Tensor};

use super::Op;
use super::placing::shape_from;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Resize;

impl Op for Resize {
    fn name(&self) -> &'static str {
        "Resize"
    }

    fn since(&self) -> i64 {
        10
    }

    fn covers(&self) -> &'static str {
        "no regions of interest, no kept aspect ratios, no scale that leaves one of several scaled axes as long as it is; of operator set 10, mode `nearest`, constant scales that do not make one axis larger and another smaller"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, from, to) = (site.input(0)?, site.input_fact(0)?, site.output_fact(0)?);
        if site.node.text("coordinate_transformation_mode") == Some("tf_crop_and_resize") {
            return Err(site.refuse("it reads a region of interest"));
        }
        if !matches!(site.node.text("keep_aspect_ratio_policy"), None | Some("stretch")) {
            return Err(site.refuse("it keeps an aspect ratio"));
        }
        let axes: Vec<usize> = match site.node.ints("axes") {
            Some(axes) => axes.iter().map(|&axis| site.axis(axis, from.rank())).collect::<Result<_, _>>()?,
            None => (0..from.rank()).collect(),
        };
        let scales = site.numbers(2)?;
        let sized = site.node.reads(3).is_some();
        // A size that stays says nothing where a scale is told: 3 times 1.2 is 3.
        let stays =
            |place: usize| sized || scales.as_ref().and_then(|scales| scales.get(place)) == Some(&1.0);
        let changed = axes.iter().enumerate();
        let changed = changed.filter(|&(place, &axis)| from.tried(axis) != to.tried(axis) || !stays(place));
        let changed: Vec<usize> = changed.map(|(_, &axis)| axis).collect();
        if let Some(scales) = scales.filter(|_| !sized) {
            check_staying(site, &axes.iter().copied().zip(scales).collect::<Vec<_>>())?;
        }
        let mut d = d.to_owned();
        if let Some(times) = repeats(site, &axes, &changed)? {
            d = sum_repeats(x, &d, &times, emit)?;
        } else {
            for &axis in changed.iter().rev() {
                let place = axes.iter().position(|&named| named == axis).unwrap_or(axis);
                let matrix = matrix(site, axis, place, emit)?;
                d = turn_back(&d, &matrix, axis, from.rank(), emit);
            }
        }
        emit.give(x, d);
        Ok(())
    }
}

/// Scales from here on lengthen every axis of more than one element.
const LENGTHENS: f64 = 1.5;

/// The runtime hands a picture on as it is where no size changes, whatever the scales. Of one axis alone `R` is made in the
/// same way; of several it would not be that of an axis which stays while others change.
fn check_staying(site: &Site<'_>, scales: &[(usize, f64)]) -> Result<(), GradError> {
    let (from, to) = (site.input_fact(0)?, site.output_fact(0)?);
    let always = |axis: usize| from.size(axis).zip(to.size(axis)).map(|(from, to)| from == to);
    let scaled: Vec<(usize, f64)> = scales.iter().copied().filter(|(_, scale)| *scale != 1.0).collect();
    let may_stay = |(axis, scale): &(usize, f64)| always(*axis).unwrap_or(*scale > 1.0 && *scale < LENGTHENS);
    let all_stay = scaled.iter().all(|(axis, _)| always(*axis) == Some(true));
    if scaled.len() > 1 && !all_stay && scaled.iter().any(may_stay) {
        return Err(site.refuse("a scale of it may leave an axis as long as it is"));
    }
    Ok(())
}

/// How often each element of each axis is repeated, where nothing else is done.
fn repeats(
    site: &Site<'_>,
    axes: &[usize],
    changed: &[usize],
) -> Result<Option<Vec<(usize, usize)>>, GradError> {
    let modes = (
        site.node.text("coordinate_transformation_mode").unwrap_or("half_pixel"),
        site.node.text("nearest_mode").unwrap_or("round_prefer_floor"),
    );
    let whole = matches!(
        modes,
        ("asymmetric", "floor")
            | (
                "half_pixel" | "half_pixel_symmetric" | "pytorch_half_pixel",
                "round_prefer_floor" | "round_prefer_ceil"
            )
    );
    if !whole || !matches!(site.node.text("mode"), None | Some("nearest")) {
        return Ok(None);
    }
    let scales = site.numbers(2)?;
    let (from, to) = (site.input_fact(0)?, site.output_fact(0)?);
    let mut repeated = Vec::new();
    for &axis in changed {
        let (small, large) = (from.tried(axis).unwrap_or_default(), to.tried(axis).unwrap_or_default());
        let times = large[0] / small[0].max(1);
        let place = axes.iter().position(|&named| named == axis);
        let scaled = scales.as_ref().zip(place).and_then(|(scales, place)| scales.get(place));
        // Sizes that are told may be multiples by chance, unless they are always the same.
        let exactly = match site.node.reads(3) {
            Some(_) => from.size(axis).is_some() && to.size(axis).is_some(),
            None => scaled == Some(&(times as f64)),
        };
        if !exactly || small.iter().zip(large).any(|(small, large)| small * times != large) {
            return Ok(None);
        }
        repeated.push((axis, times));
    }
    Ok(Some(repeated))
}

/// The gradient of repeated elements.
fn sum_repeats(x: &str, d: &str, times: &[(usize, usize)], emit: &mut Emit<'_>) -> Result<String, GradError> {
    let (mut shape, mut axes) = (Vec::new(), Vec::new());
    for axis in 0..emit.fact(x)?.rank() {
        shape.push(emit.sizes_of(x, &[axis])?);
        if let Some((_, times)) = times.iter().find(|(repeated, _)| *repeated == axis) {
            axes.push(shape.len() as i64);
            shape.push(emit.integers(&[*times as i64]));
        }
    }
    if axes.is_empty() {
        return Ok(d.to_owned());
    }
    let shape = emit.list(&shape);
    let apart = emit.reshape_to(d, &shape);
    Ok(emit.sum(&apart, &axes, false))
}

/// `R` of an axis, `[size of y, size of x]`, made by the node's own rules; `place` is where the node's scales tell of it.
fn matrix(site: &Site<'_>, axis: usize, place: usize, emit: &mut Emit<'_>) -> Result<String, GradError> {
    let (x, y) = (site.input(0)?, site.output(0)?);
    let (from, to) = (emit.sizes_of(x, &[axis])?, emit.sizes_of(y, &[axis])?);
    let square = emit.list(&[from.clone(), from.clone()]);
    let zeros = emit.zeros_of(&square, site.input_fact(0)?.elements);
    let identity = emit.node("EyeLike", &[&zeros]);
    let front = emit.integers(&[0, 1]);
    let identity = emit.node("Unsqueeze", &[&identity, &front]);
    let kept = |name: &str| !matches!(name, "axes" | "keep_aspect_ratio_policy");
    let told = site.node.attribute.iter().filter(|told| told.name.as_deref().is_some_and(kept));
    let told = told.cloned().collect();
    let resized = if site.node.reads(3).is_some() {
        let ones = emit.integers(&[1, 1]);
        let sizes = emit.list(&[ones, to.clone(), from.clone()]);
        emit.node_with("Resize", &[&identity, "", "", &sizes], told)
    } else {
        let scale = emit.slice(site.input(2)?, 0, [place as i64, place as i64 + 1]);
        let mut one = |count| emit.constant(Tensor::floats("back/ones", &[count], vec![1.0; count]));
        let (before, after) = (one(2), one(1));
        let scales = emit.list(&[before, scale, after]);
        emit.node_with("Resize", &[&identity, "", &scales], told)
    };
    Ok(emit.node("Squeeze", &[&resized, &front]))
}

/// `Rᵀ·d` along an axis.
fn turn_back(d: &str, matrix: &str, axis: usize, rank: usize, emit: &mut Emit<'_>) -> String {
    if axis + 1 == rank {
        return emit.node("MatMul", &[d, matrix]);
    }
    if axis + 2 == rank {
        let turned = emit.node_with("Transpose", &[matrix], vec![Attribute::ints("perm", vec![1, 0])]);
        if rank == 2 {
            return emit.node("MatMul", &[&turned, d]);
        }
        // A matrix for each picture: the runtime's product does not repeat one for a batch of none.
        let (pictures, matrix) = (shape_from(d, 0, Some(1), emit), emit.node("Shape", &[&turned]));
        let between = (rank > 3).then(|| emit.integers(&vec![1; rank - 3]));
        let shape: Vec<String> = [pictures].into_iter().chain(between).chain([matrix]).collect();
        let shape = emit.list(&shape);
        let turned = emit.node("Expand", &[&turned, &shape]);
        return emit.node("MatMul", &[&turned, d]);
    }
    let mut order: Vec<i64> = (0..rank as i64).collect();
    order.swap(axis, rank - 1);
    let order = || vec![Attribute::ints("perm", order.clone())];
    let last = emit.node_with("Transpose", &[d], order());
    let last = emit.node("MatMul", &[&last, matrix]);
    emit.node_with("Transpose", &[&last], order())
}
