//! `DepthToSpace`: channels become blocks of pixels; `dx` is `dy` with its blocks made channels again.
//!
//! <https://onnx.ai/onnx/operators/onnx__DepthToSpace.html>, operator sets from 1; `x` is `[n, c·b², h, w]`. Emits
//! `SpaceToDepth` for the order `DCR`; for `CRD`, PyTorch's `pixel_shuffle`, with `Reshape`, `Transpose`, `Reshape`
//! behind it.

use headstart_onnx::proto::Attribute;

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct DepthToSpace;

impl Op for DepthToSpace {
    fn name(&self) -> &'static str {
        "DepthToSpace"
    }

    fn covers(&self) -> &'static str {
        "`DCR`; `CRD` for a fixed number of channels"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let block = site.node.int("blocksize").ok_or_else(|| site.refuse("it has no block size"))?;
        let mut dx = emit.node_with("SpaceToDepth", &[d], vec![Attribute::int("blocksize", block)]);
        if site.node.text("mode") == Some("CRD") {
            let deep = site.input_fact(0)?.size(1).and_then(|size| i64::try_from(size).ok());
            let deep = deep.ok_or_else(|| site.refuse("its number of channels depends on the inputs"))?;
            let place = emit.sizes_of(x, &[2, 3])?;
            let batch = emit.sizes_of(x, &[0])?;
            let channels = emit.integers(&[block * block, deep / (block * block).max(1)]);
            let shape = emit.list(&[batch, channels, place]);
            dx = emit.reshape_to(&dx, &shape);
            dx = emit.node_with("Transpose", &[&dx], vec![Attribute::ints("perm", vec![0, 2, 1, 3, 4])]);
            let shape = emit.shape_of(x)?;
            dx = emit.reshape_to(&dx, &shape);
        }
        emit.give(x, dx);
        Ok(())
    }
}
