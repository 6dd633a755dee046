//! `GatherND`: slices of `x`, each named by a list of indices into its leading axes; `dx` is the sum of `dy` over all
//! places that took a slice.
//!
//! <https://onnx.ai/onnx/operators/onnx__GatherND.html>, operator sets from 11; with `b` batch axes `x` is `[b…,
//! s1…sr, w…]`, indices `[b…, k…, r]`, `y` `[b…, k…, w…]`. Emits the number of each slice among all of them, counted
//! in row order, and what `rows.rs` says.

use headstart_onnx::proto::Attribute;

use super::Op;
use super::rows::{Rows, width};
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct GatherND;

impl Op for GatherND {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn since(&self) -> i64 {
        11
    }

    fn covers(&self) -> &'static str {
        "lists of indices of a fixed length"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, fact) = (site.input(0)?, site.input_fact(0)?);
        let (y, indices) = (site.output(0)?, site.input_fact(1)?);
        let batch =
            site.node.int("batch_dims").and_then(|batch| usize::try_from(batch).ok()).unwrap_or_default();
        let listed = indices.rank().checked_sub(1).and_then(|last| indices.size(last));
        let listed = listed.ok_or_else(|| site.refuse("how long its indices are depends on the inputs"))?;
        let (taken, sliced) = (indices.rank() - 1, batch + listed);
        let rest: Vec<usize> = (sliced..fact.rank()).collect();
        let all: Vec<usize> = (0..sliced).collect();
        let rows =
            Rows { count: width(x, &all, emit)?, width: width(x, &rest, emit)?, elements: fact.elements };
        let numbers = numbers(site, batch, listed, emit)?;
        let places: Vec<usize> = (0..taken).collect();
        let shape = [width(y, &places, emit)?, rows.width.clone()];
        let shape = emit.list(&shape);
        let d = emit.reshape_to(d, &shape);
        let known: Option<Vec<usize>> = all.iter().map(|&axis| fact.size(axis)).collect();
        let sums = rows.sums(&numbers, &d, known.map(|sizes| sizes.iter().product()), emit);
        let shape = emit.shape_of(x)?;
        let dx = emit.reshape_to(&sums, &shape);
        emit.give(x, dx);
        Ok(())
    }
}

/// The number of each slice among all of them, as a list.
fn numbers(site: &Site<'_>, batch: usize, listed: usize, emit: &mut Emit<'_>) -> Result<String, GradError> {
    let (x, y) = (site.input(0)?, site.output(0)?);
    let (axes, taken): (Vec<usize>, Vec<usize>) =
        ((batch..batch + listed).collect(), (batch..site.input_fact(1)?.rank() - 1).collect());
    let batches: Vec<usize> = (0..batch).collect();
    let (rows, columns) = (width(x, &batches, emit)?, width(y, &taken, emit)?);
    let long = emit.integers(&[listed as i64]);
    let shape = emit.list(&[rows.clone(), columns, long]);
    let lists = emit.reshape_to(site.input(1)?, &shape);
    // Counted from the front, with the sign of the size.
    let sizes = emit.sizes_of(x, &axes)?;
    let lists = emit.node("Mod", &[&lists, &sizes]);
    let mut number: Option<String> = None;
    if batch > 0 {
        let (zero, one) = (emit.integer(0), emit.integer(1));
        let none = emit.integers(&[]);
        let count = emit.node("Reshape", &[&rows, &none]);
        let range = emit.node("Range", &[&zero, &count, &one]);
        let column = emit.integers(&[1]);
        number = Some(emit.node("Unsqueeze", &[&range, &column]));
    }
    for (at, &axis) in axes.iter().enumerate() {
        let at = emit.integer(at as i64);
        let index = emit.node_with("Gather", &[&lists, &at], vec![Attribute::int("axis", 2)]);
        number = Some(match number {
            Some(number) => {
                let size = emit.sizes_of(x, &[axis])?;
                let before = emit.node("Mul", &[&number, &size]);
                emit.node("Add", &[&before, &index])
            }
            None => index,
        });
    }
    let number = number.ok_or_else(|| site.refuse("its indices are empty"))?;
    let flat = width(y, &(0..site.input_fact(1)?.rank() - 1).collect::<Vec<_>>(), emit)?;
    Ok(emit.reshape_to(&number, &flat))
}
