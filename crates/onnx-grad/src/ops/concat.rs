//! `Concat`: values one behind the other along an axis; each gets its part of `dy`.
//!
//! <https://onnx.ai/onnx/operators/onnx__Concat.html>, operator sets from 4. Emits a `Slice` for each value whose
//! gradient is of use, and one `Split` where the sizes along the axis depend on the graph's inputs.

use headstart_onnx::proto::{Attribute, Node};

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Concat;

impl Op for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn since(&self) -> i64 {
        4
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let rank = site.output_fact(0)?.rank();
        let axis = site.node.int("axis").ok_or_else(|| site.refuse("it has no axis"))?;
        let axis = site.axis(axis, rank)?;
        let values = (0..site.node.input.len()).map(|at| site.input(at)).collect::<Result<Vec<_>, _>>()?;
        let sizes = values.iter().map(|name| Ok(site.fact(name)?.size(axis)));
        let sizes: Vec<Option<usize>> = sizes.collect::<Result<_, GradError>>()?;
        let Some(sizes) = sizes.into_iter().collect::<Option<Vec<usize>>>() else {
            return split(&values, axis, d, emit);
        };
        let mut start = 0;
        for (x, size) in values.into_iter().zip(sizes) {
            let end = start + size as i64;
            if emit.wants(x) {
                let dx = emit.slice(d, axis, [start, end]);
                emit.give(x, dx);
            }
            start = end;
        }
        Ok(())
    }
}

/// Gives each value its part, of a size that is read at run time.
fn split(values: &[&str], axis: usize, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
    let sizes = values.iter().map(|value| emit.sizes_of(value, &[axis])).collect::<Result<Vec<_>, _>>()?;
    let sizes = emit.list(&sizes);
    let parts: Vec<String> = values.iter().map(|_| emit.fresh("back/Split")).collect();
    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
    emit.push(Node::new("Split", &[d, &sizes], &names, vec![Attribute::int("axis", axis as i64)]));
    for (value, part) in values.iter().zip(parts) {
        emit.give(value, part);
    }
    Ok(())
}
