//! Operators of our own for graphs that are trained: products of matrices and convolutions by whatever the processor multiplies
//! fastest with, and gradients in one pass where the runtime's operators take several.
//!
//! They run on the session's own threads. Every number is summed in one order whatever their count, so that a run's bytes do
//! not depend on it; they do depend on the kind of processor. [`docs/adr/0024`](../../../../docs/adr/0024-kernels-of-our-own.md)
//! says what was measured.

mod amx;
mod convolution;
mod curves;
mod depthwise;
mod machine;
mod operand;
mod operator;
mod operators;
mod product;
mod rows;
mod shared;
mod simd;
#[cfg(test)]
mod tests;
mod tile;
mod windows;

use headstart_onnx::proto::{Dimension, Graph, Model, Node, OperatorSet, ValueInfo, element};
use ort::environment::Environment;
use ort::operator::OperatorDomain;
use ort::session::Session;
use prost::Message as _;

/// The domain of the operators.
const DOMAIN: &str = "headstart.kernels";

/// Whether this machine is faster with them than with the runtime's.
#[must_use]
pub fn available() -> bool {
    machine::kind() != machine::Kind::Neither
}

/// The operators, for sessions of so many threads, where they are available.
///
/// # Errors
/// The runtime's.
pub fn operators(threads: usize) -> ort::Result<Option<OperatorDomain>> {
    available().then(|| operators::domain(DOMAIN, threads)).transpose()
}

/// Opens a session with the operators, so that the runtime notes their domain. It does so for the whole process when it first sees
/// one, and sessions made at that moment by other threads fail or read what is being written: this comes before them.
///
/// # Errors
/// The runtime's.
pub fn register(environment: &Environment) -> ort::Result<()> {
    let Some(operators) = operators(1)? else { return Ok(()) };
    let value = |name| vec![ValueInfo::tensor(name, element::FLOAT, vec![Dimension::of(1)])];
    let model = Model {
        ir_version: Some(8),
        opset_import: vec![OperatorSet { version: Some(18), ..OperatorSet::default() }],
        graph: Some(Graph {
            name: Some("register".to_owned()),
            node: vec![Node::new("Identity", &["x"], &["y"], Vec::new())],
            input: value("x"),
            output: value("y"),
            ..Graph::default()
        }),
        ..Model::default()
    };
    let mut builder = Session::builder(environment)?.with_intra_threads(1)?.with_operators(operators)?;
    builder.commit_from_memory(&model.encode_to_vec()).map(drop)
}
