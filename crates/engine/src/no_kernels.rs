//! In the place of `kernels` on processors that it has nothing for.

use ort::operator::OperatorDomain;

/// Whether this machine is faster with them than with the runtime's.
#[must_use]
pub fn available() -> bool {
    false
}

/// None.
///
/// # Errors
/// None.
pub fn operators(_threads: usize) -> ort::Result<Option<OperatorDomain>> {
    Ok(None)
}
