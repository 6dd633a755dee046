//! Why a classifier cannot be written as a graph.

use headstart_onnx::OnnxError;

/// Why a classifier cannot be written as a graph.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The backbone's file.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The head reads vectors of another length than the backbone gives.
    #[error("the head reads {head} values, the backbone gives {backbone}")]
    Width {
        /// What the head reads.
        head: usize,
        /// What the backbone gives.
        backbone: usize,
    },
    /// The output that features are read from does not fit the manifest.
    #[error("{0}")]
    Output(String),
    /// A text backbone without the tokeniser that belongs to it.
    #[error("the tokeniser is not at hand or not UTF-8")]
    Tokenizer,
    /// A backbone of which one graph is a part only.
    #[error("a classifier of sounds is more than one graph: windows are cut and pooled between them")]
    Sounds,
    /// A description that cannot be written.
    #[error("the description cannot be written: {0}")]
    Description(#[from] serde_json::Error),
}
