//! `ScatterND`: `y` is `x` with slices replaced by, or added to, updates `u`; `du` is `dy` where they went, `dx` is
//! `dy`, with 0 there where slices were replaced.
//!
//! <https://onnx.ai/onnx/operators/onnx__ScatterND.html>, operator sets from 11 (adding since 16). Which of several
//! updates of one slice stays is not defined where elements are replaced, nor then is the gradient. Emits `GatherND`,
//! and `ScatterND` of zeros.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct ScatterND;

impl Op for ScatterND {
    fn name(&self) -> &'static str {
        "ScatterND"
    }

    fn since(&self) -> i64 {
        11
    }

    fn covers(&self) -> &'static str {
        "replacing and adding"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, indices, updates) = (site.input(0)?, site.input(1)?, site.input(2)?);
        let replaces = match site.node.text("reduction") {
            None | Some("none") => true,
            Some("add") => false,
            Some(other) => return Err(site.refuse(&format!("its reduction is `{other}`"))),
        };
        if emit.wants(x) {
            let mut dx = d.to_owned();
            if replaces {
                let zeros = emit.zeros(updates)?;
                dx = emit.node("ScatterND", &[d, indices, &zeros]);
            }
            emit.give(x, dx);
        }
        if emit.wants(updates) {
            let du = emit.node("GatherND", &[d, indices]);
            emit.give(updates, du);
        }
        Ok(())
    }
}
