//! `Clip`: `y = min(max(x, lo), hi)`; `dx = dy` where `lo < y < hi`, else 0: at the bounds too, as PyTorch's `hardtanh` and `ReLU6`
//! have it; its `clamp` lets the gradient pass there.
//!
//! <https://onnx.ai/onnx/operators/onnx__Clip.html>, operator sets from 11 (bounds as inputs, either may be left out). Emits `Greater`, `Less`, `And`, `Cast`
//! and `Mul`: written with the output, so that `x` need not be kept and the runtime can still join the node with a
//! convolution before it. Bounds get no gradient.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Clip;

impl Op for Clip {
    fn name(&self) -> &'static str {
        "Clip"
    }

    fn covers(&self) -> &'static str {
        "bounds get no gradient"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, y) = (site.input(0)?, site.output(0)?);
        let mut inside: Option<String> = None;
        for (at, compare) in [(1, "Greater"), (2, "Less")] {
            let Some(bound) = site.node.reads(at) else { continue };
            if emit.wants(bound) {
                return Err(site.refuse("a bound of it is trained"));
            }
            let within = emit.node(compare, &[y, bound]);
            inside = Some(match inside {
                Some(other) => emit.node("And", &[&other, &within]),
                None => within,
            });
        }
        let dx = match inside {
            Some(inside) => {
                let passes = emit.cast(&inside, x)?;
                emit.node("Mul", &[d, &passes])
            }
            None => d.to_owned(),
        };
        emit.give(x, dx);
        Ok(())
    }
}
