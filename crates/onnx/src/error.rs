//! Why a file cannot be read or extended.

/// Why a file cannot be read or extended.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file system's reason.
    #[error("the graph cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// Not the encoding of a model.
    #[error("the graph is not valid ONNX: {0}")]
    Malformed(String),
    /// Weights that lie in another file.
    #[error("`{0}` keeps its values in another file")]
    External(String),
    /// More than the reader's [`Limits`](crate::Limits) allow.
    #[error("the graph has {found} {what}, at most {most} are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much is allowed.
        most: usize,
    },
    /// A value that nothing computes.
    #[error("the graph has no value `{0}`")]
    Missing(String),
    /// Written for an operator set that is too old.
    #[error("the graph is written for operator set {found}, {least} is the oldest that can be extended")]
    Opset {
        /// What the file imports; 0 for none.
        found: i64,
        /// What is needed.
        least: i64,
    },
}

impl From<prost::DecodeError> for OnnxError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}
