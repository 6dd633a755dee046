//! What stops an inspection: never the file's content, which is reported as problems.

/// Why a file could not be inspected or read at all.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file cannot be read from where it lies.
    #[error("cannot read the file: {0}")]
    Io(#[from] std::io::Error),
    /// The caller asked to stop.
    #[error("the inspection was cancelled")]
    Cancelled,
    /// Examples were asked of a file whose inspection found problems.
    #[error("the file has {0} problems; its examples are not handed out")]
    Unusable(u64),
    /// The file, or the limits, are not those that were inspected.
    #[error("the file is not the one that was inspected: {0}")]
    Changed(String),
    /// The file cannot be written again without some of its rows.
    #[error("rows cannot be taken out of the file: {0}")]
    CannotRewrite(String),
    /// A state that cannot be reached.
    #[error("internal error: {0}")]
    Bug(&'static str),
}
