//! `Gather`: slices of `x` along an axis, as a tensor of indices says; `dx` is the sum of `dy` over all places that
//! took a slice.
//!
//! <https://onnx.ai/onnx/operators/onnx__Gather.html>, operator sets from 1; `x` is `[a…, v, b…]`, indices `[i…]`,
//! `y` `[a…, i…, b…]`. Where the indices are one, or one behind the other, and do not depend on the inputs, it is the
//! gradient of a slice, so that nodes that cut a value up emit one `Concat` together. Else emits what `rows.rs` says:
//! a product with `OneHot` or `ScatterElements` that adds, with `Reshape` and, for other axes than the first,
//! `Transpose` around it.

use headstart_onnx::proto::{Attribute, element};

use super::Op;
use super::placing::{Place, Start};
use super::rows::{Rows, width};
use super::transpose::undo;
use crate::emit::Emit;
use crate::error::GradError;
use crate::probe::RUNS;
use crate::site::Site;

pub(super) struct Gather;

impl Op for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, fact) = (site.input(0)?, site.input_fact(0)?);
        let axis = site.axis(site.node.int("axis").unwrap_or_default(), fact.rank())?;
        let (indices, indices_fact) = (site.input(1)?, site.input_fact(1)?);
        if let (Some(known), ..=1) = (indices_fact.integers(), indices_fact.rank())
            && let Some(start) = consecutive(&known)
        {
            let mut d = d.to_owned();
            if indices_fact.rank() == 0 {
                let axis = emit.integers(&[axis as i64]);
                d = emit.node("Unsqueeze", &[&d, &axis]);
            }
            let size = [known.len(); RUNS];
            return Place { value: x, axis, start: Start::Known(start), step: 1, size }.give(&d, emit);
        }
        // The axes of the indices first, then those of `x` but the one that was gathered along, all in one.
        let taken = indices_fact.rank();
        let order: Vec<usize> =
            (axis..axis + taken).chain(0..axis).chain(axis + taken..fact.rank() + taken - 1).collect();
        let mut d = d.to_owned();
        if !order.is_sorted() {
            let order = order.iter().map(|&axis| axis as i64).collect();
            d = emit.node_with("Transpose", &[&d], vec![Attribute::ints("perm", order)]);
        }
        let rest: Vec<usize> = (0..fact.rank()).filter(|&other| other != axis).collect();
        let rows = Rows {
            count: emit.sizes_of(x, &[axis])?,
            width: width(x, &rest, emit)?,
            elements: fact.elements,
        };
        let flat = emit.integers(&[-1]);
        let mut indices =
            if taken == 1 { indices.to_owned() } else { emit.node("Reshape", &[indices, &flat]) };
        if indices_fact.elements != element::INT64 {
            let told = vec![Attribute::int("to", i64::from(element::INT64))];
            indices = emit.node_with("Cast", &[&indices], told);
        }
        let number = emit.node("Shape", &[&indices]);
        let shape = emit.list(&[number, rows.width.clone()]);
        let d = emit.reshape_to(&d, &shape);
        let mut dx = rows.sums(&indices, &d, fact.size(axis), emit);
        let mut order = vec![axis];
        order.extend(rest);
        let sizes = emit.sizes_of(x, &order)?;
        dx = emit.reshape_to(&dx, &sizes);
        if !order.is_sorted() {
            dx = undo(&dx, &order, emit);
        }
        emit.give(x, dx);
        Ok(())
    }
}

/// The first of indices that are one behind the other; none where one is counted from the back and another is not.
fn consecutive(indices: &[i64]) -> Option<i64> {
    let first = *indices.first()?;
    let follow = indices.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let same_end = first >= 0 || indices.last().is_some_and(|&last| last < 0);
    (follow && same_end).then_some(first)
}
