//! Makes a graph one whose weights can be trained: every weight a constant of its own, of 32-bit floats, and nodes of
//! operator set 18 or newer.
//!
//! What comes of it computes what the file computed and is a model like any other: it is the one to be trained, and the one
//! to be served once its constants have been replaced.

mod aliases;
mod batch_normalisation;
mod casts;
mod constants;
mod upgrade;

pub use casts::widen;

use crate::error::GradError;
use crate::graph::Graph;

/// Makes a graph one that can be trained:
/// - nodes of operator sets from 9 on are brought to 18;
/// - `Constant` nodes become constants, and casts of constants to floats are done: weights stored in 16 bits become
///   weights of 32, under the name that the cast gave them;
/// - `Identity` and `Dropout` go. An `Identity` of a constant becomes a constant of its own: exporters write it where two
///   weights happened to be equal, and trained they must not stay so;
/// - a `BatchNormalization` behind a convolution is folded into it. What is trained is then the folded weight `W·g/√(v+ε)`,
///   with frozen statistics: not the trajectory of training `W` and `g` apart, but the same set of functions.
///
/// # Errors
/// [`GradError::Unsupported`] for nodes that cannot be brought to operator set 18, [`GradError::Onnx`] for constants that
/// cannot be read.
pub fn normalise(graph: &mut Graph) -> Result<(), GradError> {
    upgrade::upgrade(graph)?;
    constants::gather(graph)?;
    aliases::resolve(graph);
    casts::fold(graph)?;
    batch_normalisation::fold(graph)?;
    graph.prune();
    Ok(())
}
