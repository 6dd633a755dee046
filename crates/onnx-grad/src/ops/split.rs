//! `Split`: a value cut up along an axis; `dx` is the gradients of the parts one behind the other, zeros where the
//! loss does not depend on a part.
//!
//! <https://onnx.ai/onnx/operators/onnx__Split.html>, operator sets from 2 (a number of parts instead of sizes since
//! 18). Emits `Concat`, with a `Pad` where parts are missing, and zeros of their own where the sizes depend on the
//! graph's inputs.

use headstart_onnx::proto::Attribute;

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::parts::Part;
use crate::site::Site;

pub(super) struct Split;

impl Op for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn since(&self) -> i64 {
        2
    }

    fn covers(&self) -> &'static str {
        "every part made"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        self.backward_all(site, &[Some(d.to_owned())], emit)
    }

    fn backward_all(
        &self,
        site: &Site<'_>,
        gradients: &[Option<String>],
        emit: &mut Emit<'_>,
    ) -> Result<(), GradError> {
        let (x, whole) = (site.input(0)?, site.input_fact(0)?);
        let rank = whole.rank();
        let axis = site.axis(site.node.int("axis").unwrap_or_default(), rank)?;
        let sizes = (0..site.node.output.len()).map(|at| Ok(site.output_fact(at)?.size(axis)));
        let sizes: Vec<Option<usize>> = sizes.collect::<Result<_, GradError>>()?;
        let known = sizes.into_iter().collect::<Option<Vec<usize>>>();
        let (Some(sizes), Some(whole)) = (known, whole.size(axis)) else {
            return join(site, axis, gradients, emit);
        };
        let mut start = 0;
        for (at, size) in sizes.into_iter().enumerate() {
            if let Some(gradient) = gradients.get(at).cloned().flatten() {
                emit.give_part(x, Part { gradient, rank, axis, start, size, whole });
            }
            start += size;
        }
        Ok(())
    }
}

/// Puts the parts together whatever their sizes.
fn join(
    site: &Site<'_>,
    axis: usize,
    gradients: &[Option<String>],
    emit: &mut Emit<'_>,
) -> Result<(), GradError> {
    let mut parts = Vec::new();
    for at in 0..site.node.output.len() {
        parts.push(match gradients.get(at).cloned().flatten() {
            Some(gradient) => gradient,
            None => emit.zeros(site.output(at)?)?,
        });
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let dx = emit.node_with("Concat", &parts, vec![Attribute::int("axis", axis as i64)]);
    emit.give(site.input(0)?, dx);
    Ok(())
}
