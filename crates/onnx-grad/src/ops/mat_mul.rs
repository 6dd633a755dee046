//! `MatMul`: `Y = A·B` over stacks of matrices with broadcasting; `dA = dY·Bᵀ`, `dB = Aᵀ·dY`, each summed over the
//! stacks it was broadcast along. A list on the left is a row, on the right a column.
//!
//! <https://onnx.ai/onnx/operators/onnx__MatMul.html>, operator sets from 1. Where `B` is one matrix and `A` a stack, the
//! stack is one tall matrix, and the product and both gradients are `Gemm`; something already given to `dA` is its third operand, which
//! saves a pass. Else emits `FusedMatMul`, which reads transposed matrices in place.

use headstart_onnx::proto::{Attribute, Node};

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::probe::{ONE, Tried};
use crate::site::Site;

pub(super) struct MatMul;

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        match (site.input_fact(0)?.rank(), site.input_fact(1)?.rank()) {
            (3.., 2) => rows_times_matrix(site, None, emit)?,
            _ => emit.push(site.node.clone()),
        }
        Ok(Vec::new())
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (a, b) = (site.input_fact(0)?.rank(), site.input_fact(1)?.rank());
        if a >= 2 && b == 2 { one_matrix(site, d, emit) } else { stacks(site, d, emit) }
    }
}

/// The product of a stack and one matrix, and a list added to each row, as one `Gemm` of as many rows as there are.
///
/// # Errors
/// [`GradError::Unknown`].
pub(super) fn rows_times_matrix(
    site: &Site<'_>,
    bias: Option<&str>,
    emit: &mut Emit<'_>,
) -> Result<(), GradError> {
    let (a, b, y) = (site.input(0)?, site.input(1)?, site.output(0)?);
    let stack: Vec<usize> = (0..site.input_fact(0)?.rank() - 1).collect();
    // Not the shape of the product itself: that is only made here.
    let sizes = [emit.sizes_of(a, &stack)?, emit.sizes_of(b, &[1])?];
    let a = rows(a, a, emit)?;
    if site.output_fact(0)?.rank() == 2 {
        emit.matrix_product_named((&a, false), (b, false), bias, (y, y))?;
    } else {
        let flat = emit.matrix_product((&a, false), (b, false), bias, y)?;
        let shape = emit.list(&sizes);
        emit.push(Node::new("Reshape", &[&flat, &shape], &[y], Vec::new()));
    }
    Ok(())
}

/// `B` is one matrix: `A` and `dY` are read as matrices of as many rows as there are.
pub(super) fn one_matrix(site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
    let (a, b, y) = (site.input(0)?, site.input(1)?, site.output(0)?);
    let d = rows(d, y, emit)?;
    if emit.wants(a) {
        let pending = emit.take_pending(a);
        let pending = pending.map(|pending| rows(&pending, a, emit)).transpose()?;
        let flat = emit.matrix_product((&d, false), (b, true), pending.as_deref(), a)?;
        let da = if site.input_fact(0)?.rank() == 2 {
            flat
        } else {
            let shape = emit.shape_of(a)?;
            emit.node("Reshape", &[&flat, &shape])
        };
        emit.give(a, da);
    }
    if emit.wants(b) {
        let a = rows(a, a, emit)?;
        let db = emit.matrix_product((&a, true), (&d, false), None, b)?;
        emit.give(b, db);
    }
    Ok(())
}

/// A value shaped like `shaped` as a matrix of rows, made once for all who read it so.
fn rows(value: &str, shaped: &str, emit: &mut Emit<'_>) -> Result<String, GradError> {
    let fact = emit.fact(shaped)?;
    if fact.rank() == 2 {
        return Ok(value.to_owned());
    }
    let last = emit.sizes_of(shaped, &[fact.rank() - 1])?;
    let rest = emit.integers(&[-1]);
    let shape = emit.once(format!("rows of {last}"), |emit| {
        emit.node_with("Concat", &[&rest, &last], vec![Attribute::int("axis", 0)])
    });
    Ok(emit.once(format!("{value} as {shape}"), |emit| emit.node("Reshape", &[value, &shape])))
}

/// A value and its sizes in each run.
struct Operand {
    name: String,
    sizes: Vec<Tried>,
}

impl Operand {
    fn of(name: &str, site: &Site<'_>) -> Result<Self, GradError> {
        Ok(Self { name: name.to_owned(), sizes: site.fact(name)?.all_tried() })
    }

    /// With an axis of one element, counted from the back: -1 makes it the last.
    fn with_axis(self, axis: i64, emit: &mut Emit<'_>) -> Self {
        let axes = emit.integers(&[axis]);
        let name = emit.node("Unsqueeze", &[&self.name, &axes]);
        let mut sizes = self.sizes;
        sizes.insert(sizes.len().saturating_sub(usize::from(axis == -2)), ONE);
        Self { name, sizes }
    }
}

/// Stacks on both sides; a list is a matrix of one row on the left, of one column on the right.
fn stacks(site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
    let (x, y) = (site.input(0)?, site.input(1)?);
    let (mut a, mut b) = (Operand::of(x, site)?, Operand::of(y, site)?);
    let mut d = Operand { name: d.to_owned(), sizes: site.output_fact(0)?.all_tried() };
    let lists = (a.sizes.len() == 1, b.sizes.len() == 1);
    if lists.1 {
        (b, d) = (b.with_axis(-1, emit), d.with_axis(-1, emit));
    }
    if lists.0 {
        (a, d) = (a.with_axis(-2, emit), d.with_axis(-2, emit));
    }
    let stack = &d.sizes[..d.sizes.len() - 2];
    if emit.wants(x) {
        let product = emit.product((&d.name, false), (&b.name, true));
        let wide = [stack, &a.sizes[a.sizes.len() - 2..]].concat();
        let mut da = emit.sum_over(&product, &wide, &a.sizes);
        if lists.0 {
            da = emit.sum(&da, &[0], false);
        }
        emit.give(x, da);
    }
    if emit.wants(y) {
        let product = emit.product((&a.name, true), (&d.name, false));
        let wide = [stack, &b.sizes[b.sizes.len() - 2..]].concat();
        let mut db = emit.sum_over(&product, &wide, &b.sizes);
        if lists.1 {
            db = emit.sum(&db, &[1], false);
        }
        emit.give(y, db);
    }
    Ok(())
}
