//! What operators see: metrics, and the log.

mod edges;
mod labels;
pub mod log;
pub mod metrics;
mod model;
mod process;
mod requests;
mod shadow;

pub use edges::EdgeMetrics;
pub use labels::{Handshake, JobEnd, Outcome, Reason, TraceEnd, WebhookEnd};
pub use log::LogFormat;
pub use metrics::{CacheMetrics, DataMetrics, Metrics, SweepMetrics};
pub use model::{ModelMetrics, ModelTotals};
pub use process::resident_bytes;
pub use requests::{RequestMetrics, Underway};
pub use shadow::{ShadowFamily, ShadowMetrics};
