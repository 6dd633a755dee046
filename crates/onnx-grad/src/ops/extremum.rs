//! What the largest and the smallest have in common: which elements are it.
//!
//! Emits `Equal` and `Cast` to mark them; `Add` or `ReduceSum` counts them, `Div` and `Mul` part the gradient.

use super::reduction::Reduction;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

/// The gradients of a node that takes the largest or smallest of its inputs.
///
/// # Errors
/// [`GradError::Unknown`].
pub(super) fn backward(site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
    let y = site.output(0)?;
    if let [x] = site.node.input.as_slice() {
        emit.give(x, d.to_owned());
        return Ok(());
    }
    let mut marks = Vec::new();
    for x in &site.node.input {
        let equal = emit.node("Equal", &[x, y]);
        marks.push(emit.cast(&equal, y)?);
    }
    let all: Vec<&str> = marks.iter().map(String::as_str).collect();
    let count = emit.node("Sum", &all);
    let share = emit.node("Div", &[d, &count]);
    for (x, mark) in site.node.input.iter().zip(&marks) {
        if emit.wants(x) {
            let product = emit.node("Mul", &[&share, mark]);
            let dx = emit.sum_to(&product, y, x)?;
            emit.give(x, dx);
        }
    }
    Ok(())
}

/// The gradient of a node that takes the largest or smallest element along axes.
///
/// # Errors
/// [`GradError::Unsupported`] where the axes depend on the graph's inputs.
pub(super) fn backward_along(site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
    let x = site.input(0)?;
    let reduction = Reduction::of(site)?;
    if reduction.axes.is_empty() {
        emit.give(x, d.to_owned());
        return Ok(());
    }
    let (y, d) = (reduction.restore(site.output(0)?, emit), reduction.restore(d, emit));
    give_parts(x, (&y, &d), &reduction.axes_as_integers(), emit)
}

/// Gives `x` the gradient `d` of its extreme elements `y` along `axes`, which stayed as axes of one element.
///
/// # Errors
/// [`GradError::Unknown`].
pub(super) fn give_parts(
    x: &str,
    (y, d): (&str, &str),
    axes: &[i64],
    emit: &mut Emit<'_>,
) -> Result<(), GradError> {
    let equal = emit.node("Equal", &[x, y]);
    let mark = emit.cast(&equal, x)?;
    let count = emit.sum(&mark, axes, true);
    let share = emit.node("Div", &[d, &count]);
    let dx = emit.node("Mul", &[&share, &mark]);
    emit.give(x, dx);
    Ok(())
}
