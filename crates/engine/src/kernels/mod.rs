//! Operators of our own for graphs that are trained: products of matrices and convolutions by whatever the processor multiplies
//! fastest with, and gradients in one pass where the runtime's operators take several.
//!
//! They run on the session's own threads. Every number is summed in one order whatever their count, so that a run's bytes do
//! not depend on it; they do depend on the kind of processor. [`docs/adr/0024`](../../../../docs/adr/0024-kernels-of-our-own.md)
//! says what was measured.

mod amx;
mod convolution;
mod curves;
mod depthwise;
mod machine;
mod operand;
mod operator;
mod operators;
mod product;
mod rows;
mod shared;
mod simd;
#[cfg(test)]
mod tests;
mod tile;
mod windows;

use ort::operator::OperatorDomain;

/// The domain of the operators.
const DOMAIN: &str = "headstart.kernels";

/// Whether this machine is faster with them than with the runtime's.
#[must_use]
pub fn available() -> bool {
    machine::kind() != machine::Kind::Neither
}

/// The operators, for sessions of so many threads, where they are available.
///
/// # Errors
/// The runtime's.
pub fn operators(threads: usize) -> ort::Result<Option<OperatorDomain>> {
    available().then(|| operators::domain(DOMAIN, threads)).transpose()
}
