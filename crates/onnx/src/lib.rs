//! ONNX files: read, extended and written. A graph is data here; nothing is run and no operator is known.
//!
//! Two ways lead into a file. [`proto`] has its messages as types: `Model::decode` reads all of it, and weights share
//! the bytes they were read from. [`Outline`] is for files whose weights should stay where they are: it reads names and
//! nodes, [`Extension`] adds to them, and the [`Assembly`] that results says which ranges of the old file and which new
//! bytes make up the new one. [`write()`] makes a file of a graph whose weights come one at a time. Fields that this crate does not know come through both ways unless they lie inside a
//! message that was decoded.

mod assembly;
mod elsewhere;
mod error;
mod extension;
mod limits;
mod node;
mod outline;
pub mod proto;
mod streaming;
mod values;
mod wire;

pub use assembly::{Assembly, Part};
pub use elsewhere::{Place, inline, whole};
pub use error::OnnxError;
pub use extension::{Extension, Header};
pub use limits::Limits;
pub use outline::{Outline, Trunk};
pub use streaming::{Streamed, write};
