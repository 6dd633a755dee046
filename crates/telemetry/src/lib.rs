//! What operators see: every metric in one file, the log set-up in another.

pub mod log;
pub mod metrics;
mod process;
mod shadow;

pub use log::LogFormat;
pub use metrics::{CacheMetrics, JobEnd, Metrics, ModelMetrics, Outcome, Reason};
pub use process::resident_bytes;
pub use shadow::{ShadowFamily, ShadowMetrics};
