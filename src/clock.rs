//! Time and chance: read here, handed on as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since the epoch.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Bytes that nobody can foresee.
///
/// # Errors
/// When the system has none to give.
pub fn chance<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
