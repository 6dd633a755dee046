//! Rows as clients read them.

pub(crate) mod act;
pub(crate) mod classifier;
pub(crate) mod file;
pub(crate) mod job;
pub(crate) mod purge;

/// Seconds since the epoch, as clients of the OpenAI API expect times.
pub(crate) fn seconds(milliseconds: i64) -> i64 {
    milliseconds.div_euclid(1000)
}
