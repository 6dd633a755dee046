//! ONNX Runtime called without a server: what a program that links the library could reach with the same weights.
//!
//! [`library`] loads it, [`TextEmbedder`], [`ImageEmbedder`], [`SoundEmbedder`] and [`TensorEmbedder`] are one lane each,
//! [`plan`] says how items are grouped and spread over sessions, [`lanes`] runs a plan and times it.

pub(crate) mod lanes;
pub(crate) mod library;
pub(crate) mod plan;

mod image;
mod session;
mod sound;
mod tensors;
mod text;

pub(crate) use image::ImageEmbedder;
pub(crate) use lanes::Embedder;
pub(crate) use ort::environment::Environment;
pub(crate) use sound::SoundEmbedder;
pub(crate) use tensors::TensorEmbedder;
pub(crate) use text::TextEmbedder;
