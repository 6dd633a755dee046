//! `Transpose`: axes in another order; `dx = dy` with its axes in the order that undoes it.
//!
//! <https://onnx.ai/onnx/operators/onnx__Transpose.html>, operator sets from 1. Emits `Transpose`, and nothing where
//! the order stays.

use headstart_onnx::proto::Attribute;

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Transpose;

impl Op for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let rank = site.input_fact(0)?.rank();
        let order = match site.node.ints("perm") {
            Some(order) => {
                order.iter().map(|&axis| site.axis(axis, rank)).collect::<Result<Vec<usize>, _>>()?
            }
            None => (0..rank).rev().collect(),
        };
        let dx = if order.is_sorted() { d.to_owned() } else { undo(d, &order, emit) };
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}

/// A value whose axes were put in an order, in the order they had.
pub(super) fn undo(value: &str, order: &[usize], emit: &mut Emit<'_>) -> String {
    let back = |axis| order.iter().position(|&from| from == axis).unwrap_or(axis) as i64;
    let order = (0..order.len()).map(back).collect();
    emit.node_with("Transpose", &[value], vec![Attribute::ints("perm", order)])
}
