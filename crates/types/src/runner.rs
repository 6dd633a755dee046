//! Graphs run for those who know no runtime: named tensors in, named tensors out.

use crate::tensor::Tensor;

/// A graph could not be opened or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunnerError {
    /// The runtime refused the graph, or what was given to it.
    #[error("{0}")]
    Refused(String),
    /// An input or output of this name is not the graph's, or has another shape.
    #[error("`{name}` {problem}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Makes sessions of graphs: ONNX models, as bytes.
pub trait Runners: Sync {
    /// A graph that is run as it is.
    ///
    /// # Errors
    /// [`RunnerError::Refused`].
    fn runner(&self, model: &[u8], form: Form) -> Result<Box<dyn Runner>, RunnerError>;

    /// A graph that takes its trained weights as inputs and gives their gradients, and one that takes them and gives answers
    /// alone; the weights start with the values given here and stay in place from step to step.
    ///
    /// # Errors
    /// [`RunnerError`] also where a weight or gradient is not the graph's.
    fn trainer(&self, graphs: &Graphs, weights: Vec<Trained>) -> Result<Box<dyn Trainer>, RunnerError>;

    /// Whether graphs may use operators of the domain `headstart.kernels`, and are faster with them.
    fn has_kernels(&self) -> bool {
        false
    }
}

/// How a graph is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As the runtime computes it fastest.
    Optimised,
    /// Every node as it is in the file.
    AsWritten,
}

/// The two graphs of a training, ONNX models as bytes. Both take the trained weights as inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Graphs {
    /// Forward and backward.
    pub training: Vec<u8>,
    /// Forward alone.
    pub forward: Vec<u8>,
}

/// A graph that is run as it is.
pub trait Runner: Send {
    /// Runs the graph; outputs come in the order in which they are asked for.
    ///
    /// # Errors
    /// [`RunnerError`].
    fn run(&mut self, inputs: &[(&str, &Tensor)], outputs: &[&str]) -> Result<Vec<Tensor>, RunnerError>;
}

/// A weight that is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The graph's input that it is.
    pub name: String,
    /// The graph's output that is its gradient.
    pub gradient: String,
    /// Its dimensions; the gradient has the same.
    pub shape: Vec<usize>,
    /// Its values in row order.
    pub values: Vec<f32>,
}

/// A trained weight between two steps.
#[derive(Debug)]
pub struct Weight<'a> {
    /// Values, which the next step reads.
    pub values: &'a mut [f32],
    /// The gradient that the last step left.
    pub gradient: &'a mut [f32],
}

/// A graph that is run forward and backward.
pub trait Trainer: Send {
    /// One pass forward and backward on a batch, given by name; the outputs asked for come in their order, gradients
    /// stay with the [weights](Trainer::weights). Batches may differ in size.
    ///
    /// # Errors
    /// [`RunnerError`].
    fn step(&mut self, batch: &[(&str, &Tensor)], outputs: &[&str]) -> Result<Vec<Tensor>, RunnerError>;

    /// One pass forward with the weights as they are.
    ///
    /// # Errors
    /// [`RunnerError`].
    fn look(&mut self, batch: &[(&str, &Tensor)], outputs: &[&str]) -> Result<Vec<Tensor>, RunnerError>;

    /// The trained weights, in the order in which they were given.
    fn weights(&mut self) -> Vec<Weight<'_>>;
}
