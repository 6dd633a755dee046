//! `GroupNormalization`: `y = scale·h + bias`, `h = (x - mean)·inv`, `inv = 1/√(variance + ε)`, mean and variance of each
//! group of channels of each image. With `p = dy·h`: `dbias = Σ dy`, `dscale = Σ p`, and
//! `dx = inv·(dy·scale - mean(dy·scale) - h·mean(p·scale))`, means over the group (Wu & He 2018).
//!
//! <https://onnx.ai/onnx/operators/onnx__GroupNormalization.html>, operator sets from 21, where scale and bias are by
//! channels. Forward and back as `group_statistics.rs` tells.

use super::Op;
use super::group_statistics::Groups;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct GroupNormalization;

impl Op for GroupNormalization {
    fn name(&self) -> &'static str {
        "GroupNormalization"
    }

    fn since(&self) -> i64 {
        21
    }

    fn covers(&self) -> &'static str {
        "a fixed number of channels, and axes behind them"
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        Groups::of(site, site.node.int("num_groups"))?.forward(site, emit)
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        Groups::of(site, site.node.int("num_groups"))?.backward(site, d, emit)
    }
}
