//! Why the engine could not answer.

use std::time::Duration;

use crate::{folder::FolderError, runtime::RuntimeError};

/// Why the engine could not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// ONNX Runtime itself could not be loaded.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A backbone folder was refused.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The graph could not be made into a session, or does not fit its manifest.
    #[error("{0}")]
    Graph(String),
    /// CUDA was required and is not usable.
    #[error("cuda is required but not usable: {0}")]
    Cuda(String),
    /// Every place in the queue is taken.
    #[error("the queue of `{model}` is full ({limit} items)")]
    QueueFull {
        /// The backbone.
        model: String,
        /// Its queue bound in items.
        limit: usize,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// The deadline passed before the result was there.
    #[error("the deadline passed before the result was there")]
    DeadlineExceeded,
    /// A call of ONNX Runtime failed.
    #[error("a call of `{model}` failed: {message}")]
    Run {
        /// The backbone.
        model: String,
        /// ONNX Runtime's message.
        message: String,
    },
    /// The tensors that come out would take more memory than a request may.
    #[error("the outputs take more than {limit} bytes")]
    LargeOutputs {
        /// The bound.
        limit: usize,
    },
    /// The engine stopped before the result was there.
    #[error("the engine is shutting down")]
    Stopped,
    /// A state that cannot happen.
    #[error("impossible state: {0}")]
    Bug(&'static str),
}
