//! `Pad`: elements put around `x`, or cut off where a number of them is negative. `dx` is `dy` without them, and
//! where they were copies of elements of `x`, each of those gets their gradients too; a value they were filled with
//! gets their sum.
//!
//! <https://onnx.ai/onnx/operators/onnx__Pad.html>, operator sets from 2 (`axes` since 18,
//! `wrap` since 19). Emits `Pad` of the numbers' opposites. For copies, axis by axis, `Slice` of each margin, turned
//! round for `reflect`, `ReduceSum` for `edge`, and `Pad`, `Add` to where it was copied from.

use super::Op;
use super::placing::{Place, Start, reverse};
use crate::emit::Emit;
use crate::error::GradError;
use crate::probe::RUNS;
use crate::site::Site;

pub(super) struct Pad;

impl Op for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn covers(&self) -> &'static str {
        "for the mode `constant` all of it; for others numbers that do not depend on the inputs, no axis cut at one end and copied at the other, none wrapped further than it is long"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let mode = match site.node.text("mode") {
            None | Some("constant") => return constant(site, d, emit),
            Some("reflect") => Mode::Reflect,
            Some("edge") => Mode::Edge,
            Some("wrap") => Mode::Wrap,
            Some(other) => return Err(site.refuse(&format!("its mode is `{other}`"))),
        };
        let (x, rank) = (site.input(0)?, site.input_fact(0)?.rank());
        let pads = site.integers(1)?.ok_or_else(|| site.refuse("it has no numbers"))?;
        let axes = site.integers(3)?.unwrap_or_else(|| (0..rank as i64).collect());
        let mut d = d.to_owned();
        for (at, &axis) in axes.iter().enumerate() {
            let (Some(&before), Some(&after)) = (pads.get(at), pads.get(at + axes.len())) else {
                return Err(site.refuse("it has too few numbers"));
            };
            let axis = site.axis(axis, rank)?;
            d = fold(&Fold { site, axis, before, after, mode }, &d, emit)?;
        }
        emit.give(x, d);
        Ok(())
    }
}

/// Elements that are all of one value.
fn constant(site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
    let x = site.input(0)?;
    let pads = match site.input_fact(1)?.integers() {
        Some(pads) => emit.integers(&pads.into_iter().map(|number| -number).collect::<Vec<_>>()),
        None => emit.node("Neg", &[site.input(1)?]),
    };
    let mut operands = vec![d, pads.as_str()];
    operands.extend(site.node.reads(3).into_iter().flat_map(|axes| ["", axes]));
    let dx = emit.node("Pad", &operands);
    if let Some(filling) = site.node.reads(2).filter(|filling| emit.wants(filling)) {
        let axes: Vec<i64> = (0..site.input_fact(0)?.rank() as i64).collect();
        let (all, inner) = (emit.sum(d, &axes, false), emit.sum(&dx, &axes, false));
        let outer = emit.node("Sub", &[&all, &inner]);
        let shape = emit.shape_of(filling)?;
        let outer = emit.node("Reshape", &[&outer, &shape]);
        emit.give(filling, outer);
    }
    emit.give(x, dx);
    Ok(())
}

/// What margins are copies of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// What is next to the outermost element, turned round.
    Reflect,
    /// The outermost element.
    Edge,
    /// What is at the other end.
    Wrap,
}

/// The margins of one axis.
struct Fold<'a> {
    site: &'a Site<'a>,
    axis: usize,
    before: i64,
    after: i64,
    mode: Mode,
}

/// Adds the gradients of both margins of an axis to those of the elements they were copied from.
fn fold(fold: &Fold<'_>, d: &str, emit: &mut Emit<'_>) -> Result<String, GradError> {
    let &Fold { site, axis, before, after, mode } = fold;
    let rank = site.input_fact(0)?.rank();
    let mut dx = emit.pad(d, rank, axis, [-before, -after]);
    if before <= 0 && after <= 0 {
        return Ok(dx);
    }
    // Elements that were cut off at one end were not copied to the other.
    if before < 0 || after < 0 {
        return Err(site.refuse("it cuts off at one end of an axis and copies at the other"));
    }
    let least = site.input_fact(0)?.tried(axis).unwrap_or_default().into_iter().min().unwrap_or_default();
    if mode == Mode::Wrap && before.max(after) > least as i64 {
        return Err(site.refuse("it copies more elements than there are"));
    }
    for (count, ends, first) in [(before, [0, before], true), (after, [-after, i64::MAX], false)] {
        if count == 0 {
            continue;
        }
        let margin = emit.slice(d, axis, ends);
        let (margin, count, start) = match (mode, first) {
            (Mode::Reflect, true) => (reverse(&margin, axis, emit), count, 1),
            (Mode::Reflect, false) => (reverse(&margin, axis, emit), count, -1 - count),
            (Mode::Edge, true) => (emit.sum(&margin, &[axis as i64], true), 1, 0),
            (Mode::Edge, false) => (emit.sum(&margin, &[axis as i64], true), 1, -1),
            (Mode::Wrap, true) => (margin, count, -count),
            (Mode::Wrap, false) => (margin, count, 0),
        };
        let size = [usize::try_from(count).unwrap_or_default(); RUNS];
        let place = Place { value: site.input(0)?, axis, start: Start::Known(start), step: 1, size };
        let margin = place.put(&margin, emit)?;
        dx = emit.node("Add", &[&dx, &margin]);
    }
    Ok(dx)
}
