//! Derivatives compared with central differences, and whole graphs with references, on ONNX Runtime.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; what was measured is printed"
)]

mod fine_tuning;
mod graphs;
mod losses;
mod models;
mod networks;
mod numbers;
mod ops;
mod sizes;
mod support;
mod table;
mod transformers;
