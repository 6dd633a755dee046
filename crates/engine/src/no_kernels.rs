//! In the place of `kernels` on processors that it has nothing for.

use ort::environment::Environment;
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

/// Nothing to register.
///
/// # Errors
/// None.
pub fn register(_environment: &Environment) -> ort::Result<()> {
    Ok(())
}
