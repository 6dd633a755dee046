//! Reverse-mode differentiation of ONNX graphs: a graph goes in, and one that computes loss and gradients comes out, of
//! ordinary nodes that any runtime can run. Nothing is run here, no file is read and no clock: a [`Probe`] of the
//! caller's runs the graph when its shapes are to be known.
//!
//! [`Graph`] holds a model while it is worked on. [`differentiate`] emits the forward nodes, a [`Loss`], and the
//! reverse walk over the nodes between the loss and what is trained; each operator's derivative is a file under `ops/`,
//! listed in [`ops::OPS`]. The [`TrainingGraph`] that results names its inputs and outputs.

mod canonical;
mod coverage;
mod emit;
mod error;
mod graph;
pub mod losses;
pub mod lower;
mod normalise;
pub mod ops;
mod parts;
mod probe;
mod site;
mod walk;

pub use coverage::table as coverage;
pub use emit::Emit;
pub use error::{GradError, Unsupported};
pub use graph::Graph;
pub use losses::Loss;
pub use normalise::{normalise, widen};
pub use parts::Part;
pub use probe::{Fact, Facts, INTEGERS_MOST, Observed, Probe, ProbeError, RUNS, Sample, Sizes, Tried};
pub use site::Site;
pub use walk::{Options, TrainingGraph, differentiate};
