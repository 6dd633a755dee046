//! Why a graph cannot be differentiated.

use headstart_onnx::OnnxError;

use crate::probe::ProbeError;

/// A node on a gradient's way that has no derivative here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The operator, with its domain before it where that is not ONNX's own.
    pub op: String,
    /// The node's name, or that of its first output.
    pub node: String,
    /// The version of the operator set that the file imports, before anything was rewritten; 0 for none.
    pub opset: i64,
    /// What is missing.
    pub reason: String,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { op, node, opset, reason } = self;
        write!(out, "`{op}` (node `{node}`, operator set {opset}): {reason}")
    }
}

/// Why a graph cannot be differentiated.
#[derive(Debug, thiserror::Error)]
pub enum GradError {
    /// The file's own reason.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// Nodes between the loss and what is trained that have no derivative here, each once.
    #[error(
        "the graph cannot be trained through {}; methods that fit a head on the features of the graph as it is need no gradient",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Unsupported(Vec<Unsupported>),
    /// The probe's reason.
    #[error("the graph could not be run once to learn its shapes: {0}")]
    Probe(#[source] ProbeError),
    /// The probe told nothing of a value.
    #[error("nothing is known of the value `{0}`")]
    Unknown(String),
    /// A value that is to be trained or read and is not there.
    #[error("the graph has no {what} `{name}`")]
    Missing {
        /// What it should be.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something to be trained that is not made of 32-bit floats.
    #[error("`{0}` is not made of floats of 32 or 64 bits and cannot be trained")]
    NotFloat(String),
    /// Nothing that is trained reaches the loss.
    #[error("the loss depends on nothing that is trained")]
    Nothing,
    /// A loss that does not fit the value it reads.
    #[error("the loss does not fit `{value}`: {reason}")]
    Loss {
        /// The value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The nodes read each other in a circle.
    #[error("the nodes of the graph cannot be put in an order in which they could be computed")]
    Circle,
}
