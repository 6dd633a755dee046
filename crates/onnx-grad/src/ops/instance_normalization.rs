//! `InstanceNormalization`: `y = scale·h + bias`, `h = (x - mean)·inv`, `inv = 1/√(variance + ε)`, mean and variance of each
//! channel of each image. With `p = dy·h`: `dbias = Σ dy`, `dscale = Σ p`, and
//! `dx = scale·inv·(dy - mean(dy) - h·mean(p))` (Ulyanov et al. 2016).
//!
//! <https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html>, operator sets from 6. Forward and back as
//! `group_statistics.rs` tells, a group being a channel.

use super::Op;
use super::group_statistics::Groups;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct InstanceNormalization;

impl Op for InstanceNormalization {
    fn name(&self) -> &'static str {
        "InstanceNormalization"
    }

    fn since(&self) -> i64 {
        6
    }

    fn covers(&self) -> &'static str {
        "a fixed number of channels, and axes behind them"
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        Groups::of(site, None)?.forward(site, emit)
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        Groups::of(site, None)?.backward(site, d, emit)
    }
}
