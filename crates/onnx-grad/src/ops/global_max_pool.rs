//! `GlobalMaxPool`: the largest element over the spatial axes, which stay as axes of one element; it gets `dy`, in equal
//! parts where several are as large.
//!
//! <https://onnx.ai/onnx/operators/onnx__GlobalMaxPool.html>, operator sets from 1. Emits what `extremum.rs` tells.

use super::Op;
use super::extremum::give_parts;
use super::windows::LEAD;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct GlobalMaxPool;

impl Op for GlobalMaxPool {
    fn name(&self) -> &'static str {
        "GlobalMaxPool"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let spatial: Vec<i64> = (LEAD..site.input_fact(0)?.rank()).map(|axis| axis as i64).collect();
        give_parts(site.input(0)?, (site.output(0)?, d), &spatial, emit)
    }
}
