//! Why a head cannot be fitted, stored or applied.

use thiserror::Error;

use crate::{data::DataError, split::SplitError};

/// Everything that goes wrong in this crate outside the splits and the checks of labelled features.
#[derive(Debug, Error)]
pub enum MethodError {
    /// A hyperparameter is unknown, of the wrong type or out of range.
    #[error("`{path}`: {problem}")]
    Hyperparameter {
        /// Where it stands, such as `hyperparameters.c`.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The labelled features cannot be learnt from with this method.
    #[error("{0}")]
    Unsuitable(String),
    /// Labelled features do not fit together.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Rows cannot be parted.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The control said stop.
    #[error("cancelled")]
    Cancelled,
    /// A checkpoint's state or a head's bytes are not what this crate writes.
    #[error("not a stored {what}: {problem}")]
    Stored {
        /// What was to be read: `head` or `checkpoint`.
        what: &'static str,
        /// The first thing that does not fit.
        problem: String,
    },
    /// A head's parts do not fit together.
    #[error("a head's {part} {problem}")]
    Head {
        /// The part.
        part: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Features of the wrong width for the head or the stack.
    #[error("features of {given} numbers where {expected} are expected")]
    Width {
        /// What the head takes.
        expected: usize,
        /// What was given.
        given: usize,
    },
    /// A head or row that does not exist.
    #[error("no {what} {index}")]
    Unknown {
        /// `head` or `row`.
        what: &'static str,
        /// The number given.
        index: usize,
    },
    /// A graph cannot be trained or run.
    #[error("{0}")]
    Graph(String),
    /// A file that whoever asked has no part in cannot be read or written.
    #[error("{0}")]
    File(String),
    /// A weight of a full-precision graph cannot be rounded for the graph of low precision that was made from it.
    #[error("the weight `{weight}` cannot be rounded again: {problem}")]
    Rounding {
        /// Its name in the full-precision graph.
        weight: String,
        /// What stands in the way.
        problem: &'static str,
    },
    /// There is no room for what training keeps meanwhile.
    #[error("there is no room for what training keeps")]
    NoRoom,
    /// A number became infinite or undefined while fitting.
    #[error("fitting diverged")]
    Diverged,
}
