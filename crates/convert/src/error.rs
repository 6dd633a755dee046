//! Why a folder cannot be converted.

use std::path::PathBuf;

/// Why a folder cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What a file says is not what such a file says.
    #[error("{file}: {problem}")]
    Format {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A field of `config.json` that is missing, or says what is not converted.
    #[error("config.json: `{field}` {problem}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A weight that the model needs.
    #[error("the weights lack `{0}`")]
    Missing(String),
    /// A weight of another shape than the configuration says.
    #[error("`{name}` has the shape {found:?}, config.json says {expected:?}")]
    Shape {
        /// The weight.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that was expected.
        expected: Vec<usize>,
    },
    /// A weight whose values cannot be used.
    #[error("`{name}` {problem}")]
    Values {
        /// The weight.
        name: String,
        /// What is wrong with them.
        problem: String,
    },
}

impl ConvertError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn format(file: impl Into<String>, problem: impl ToString) -> Self {
        Self::Format { file: file.into(), problem: problem.to_string() }
    }

    pub(crate) fn config(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Config { field, problem: problem.into() }
    }
}
