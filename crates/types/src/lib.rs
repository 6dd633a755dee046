//! The nouns of headstart: what a backbone folder states, and what a request carries. No input or output happens here.

pub mod input;
pub mod manifest;
pub mod payload;

pub use input::{InputError, Payload};
pub use manifest::{Manifest, ManifestError};
pub use payload::{Datum, Media, Modality, Truncate};
