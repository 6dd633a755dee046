//! Ordinary nodes only, as the files under `ops/` write them.

use super::Lowering;
use crate::ops::Op;
use crate::site::Site;

/// Ordinary nodes only: what the runtime runs on every machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Portable;

impl Lowering for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn op(&self, _site: &Site<'_>) -> Option<&'static dyn Op> {
        None
    }
}
