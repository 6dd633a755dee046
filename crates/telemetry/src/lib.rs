//! What operators see: every metric in one file, the log set-up in another.

mod edges;
mod labels;
pub mod log;
pub mod metrics;
mod model;
mod process;
mod shadow;

pub use edges::EdgeMetrics;
pub use labels::{Handshake, JobEnd, Outcome, Reason, TraceEnd, WebhookEnd};
pub use log::LogFormat;
pub use metrics::{CacheMetrics, DataMetrics, Metrics, SweepMetrics};
pub use model::{ModelMetrics, ModelTotals};
pub use process::resident_bytes;
pub use shadow::{ShadowFamily, ShadowMetrics};
