//! Tensors in, tensors out: the only crate that knows ONNX Runtime.
//!
//! An [`Engine`] owns the lanes, threads that run models. A [`Backbone`] is one loaded model with its queue: callers
//! take a [`Permit`] before they do any work, then submit items and await one [`Row`] for each. What a tensor shows
//! (a sentence, a photo) is not known here.

mod backbone;
mod batch;
mod call;
mod engine;
mod error;
mod examples;
mod folder;
#[cfg(target_arch = "x86_64")]
pub mod kernels;
#[cfg(not(target_arch = "x86_64"))]
#[path = "no_kernels.rs"]
pub mod kernels;
mod lane;
mod memory;
mod noise;
mod outputs;
mod places;
mod pool;
mod reads;
mod replicas;
mod runtime;
mod schedule;
mod session;
mod signal;
mod signature;
mod step_back;
mod tensors;
mod told;
mod training;
mod trial;
mod warm_up;
mod weights;

pub use backbone::{Backbone, Request, TensorTicket, Ticket};
pub use batch::Limits;
pub use call::{Class, Input, Row, Timing, Want};
pub use engine::{Device, Engine, EngineOptions};
pub use error::EngineError;
pub use examples::GraphInputs;
pub use folder::{Folder, FolderError, MANIFEST, SharedWeights, beside};
pub use places::{Permit, Places};
pub use runtime::{Runtime, RuntimeError};
pub use session::Provider;
pub use signature::Signature;
pub use step_back::step_back;
pub use training::Workbench;
