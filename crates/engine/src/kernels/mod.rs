//! Operators of our own for graphs that are trained: products of matrices and convolutions by whatever the processor multiplies
//! fastest with, and gradients in one pass where the runtime's operators take several.
//!
//! They run on the session's own threads. Every number is summed in one order whatever their count, so that a run's bytes do
//! not depend on it; they do depend on the kind of processor. [`docs/adr/0024`](../../../../docs/adr/0024-kernels-of-our-own.md)
//! says what was measured.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod convolution;
#[cfg(target_arch = "x86_64")]
mod curves;
#[cfg(target_arch = "x86_64")]
mod depthwise;
#[cfg(target_arch = "x86_64")]
mod machine;
#[cfg(target_arch = "x86_64")]
mod operand;
#[cfg(target_arch = "x86_64")]
mod operator;
#[cfg(target_arch = "x86_64")]
mod operators;
#[cfg(target_arch = "x86_64")]
mod product;
#[cfg(target_arch = "x86_64")]
mod rows;
#[cfg(target_arch = "x86_64")]
mod shared;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tile;
#[cfg(target_arch = "x86_64")]
mod windows;

use ort::operator::OperatorDomain;

/// The domain of the operators.
#[cfg(target_arch = "x86_64")]
const DOMAIN: &str = "headstart.kernels";

/// Whether this machine is faster with them than with the runtime's.
#[must_use]
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return machine::kind() != machine::Kind::Neither;
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The operators, for sessions of so many threads, where they are available.
///
/// # Errors
/// The runtime's.
pub fn operators(threads: usize) -> ort::Result<Option<OperatorDomain>> {
    #[cfg(target_arch = "x86_64")]
    if available() {
        return operators::domain(DOMAIN, threads).map(Some);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = threads;
    Ok(None)
}
