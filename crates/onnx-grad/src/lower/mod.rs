//! Lowerings: in which nodes forward and backward are written. [`Portable`] writes ordinary nodes and always works; others
//! may replace what it writes for single nodes where their runtime has something faster.

mod fuse;
mod kernels;
mod portable;

pub use kernels::Kernels;
pub use portable::Portable;

use crate::graph::Graph;
use crate::ops::Op;
use crate::site::Site;

/// The domain of the operators that [`Kernels`] writes.
pub(crate) const KERNELS: &str = "headstart.kernels";

/// In which nodes forward and backward are written.
pub trait Lowering: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// How it writes a node; nothing where it leaves the node to [`OPS`](crate::ops::OPS).
    fn op(&self, site: &Site<'_>) -> Option<&'static dyn Op>;

    /// The operator that multiplies two matrices of 32-bit floats and adds a third operand, told `transA` and `transB`: its
    /// domain and name. ONNX's `Gemm` by default.
    fn product(&self) -> (&'static str, &'static str) {
        ("", "Gemm")
    }

    /// Joins nodes of the whole graph, once all are written and its outputs are stated.
    fn fuse(&self, _graph: &mut Graph) {}
}
