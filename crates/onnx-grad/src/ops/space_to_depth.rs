//! `SpaceToDepth`: blocks of pixels become channels; `dx` is `dy` with its channels made blocks again.
//!
//! <https://onnx.ai/onnx/operators/onnx__SpaceToDepth.html>, operator sets from 1. Emits `DepthToSpace`.

use headstart_onnx::proto::Attribute;

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct SpaceToDepth;

impl Op for SpaceToDepth {
    fn name(&self) -> &'static str {
        "SpaceToDepth"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let block = site.node.int("blocksize").ok_or_else(|| site.refuse("it has no block size"))?;
        let dx = emit.node_with("DepthToSpace", &[d], vec![Attribute::int("blocksize", block)]);
        emit.give(site.input(0)?, dx);
        Ok(())
    }
}
