//! A backbone's graph and a fitted head as one ONNX file that answers as the service does.
//!
//! The file takes what the backbone takes, a batch of any size, and gives `probabilities`, `logits` and `embedding`.
//! Weights stay in the backbone's file: [`compose()`] reads its outline and says which ranges of it the new file repeats.

mod compose;
mod describe;
mod error;
mod head;
mod pooling;

pub use compose::{Composed, Subject, compose};
pub use error::ExportError;
