//! Graphs run on ONNX Runtime, and derivatives checked.

pub(crate) mod case;
pub(crate) mod check;
pub(crate) mod data;
pub(crate) mod runtime;
