//! Lowerings: in which nodes forward and backward are written. [`Portable`] writes ordinary nodes and always works; others
//! may replace what it writes for single nodes where their runtime has something faster.

mod portable;

pub use portable::Portable;

use crate::ops::Op;
use crate::site::Site;

/// In which nodes forward and backward are written.
pub trait Lowering: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// How it writes a node; nothing where it leaves the node to [`OPS`](crate::ops::OPS).
    fn op(&self, site: &Site<'_>) -> Option<&'static dyn Op>;
}
