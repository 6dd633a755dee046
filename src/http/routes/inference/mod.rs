//! The open inference protocol, version 2: raw tensors for any backbone, in the bodies of its clients.

mod configuration;
mod infer;
mod metadata;
mod protocol;
mod repository;
mod statistics;

pub(crate) use configuration::*;
pub(crate) use infer::*;
pub(crate) use metadata::*;
pub(crate) use protocol::{HEADER_LENGTH, InferenceError, VERSION};
pub(crate) use repository::*;
pub(crate) use statistics::*;
