//! The nouns of headstart: what a backbone folder states, what a request carries, what is kept. No input or output
//! happens here.

pub mod classifier;
pub mod file;
pub mod gate;
mod hex;
pub mod hugging_face;
pub mod ids;
pub mod input;
pub mod job;
pub mod key;
pub mod label;
pub mod manifest;
pub mod object;
pub mod payload;
pub mod purge;
pub mod report;
pub mod runner;
pub mod tensor;
pub mod tensor_data;
pub mod webhook;
pub mod wording;

pub use hex::hex;
pub use input::{InputError, MOST_ITEMS, Payload};
pub use label::Label;
pub use manifest::{Manifest, ManifestError};
pub use payload::{Datum, Media, Modality, Truncate};
pub use tensor::{DataType, Tensor, TensorSpec, Values};
