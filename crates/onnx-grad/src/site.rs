//! A node where it stands: what it reads and makes, and what is known of that.

use headstart_onnx::proto::Node;

use crate::error::{GradError, Unsupported};
use crate::graph::Graph;
use crate::probe::{Fact, Facts};

/// A node where it stands.
pub struct Site<'a> {
    /// The node.
    pub node: &'a Node,
    /// Names of the values that [`Op::forward`](crate::ops::Op::forward) kept for the gradient.
    pub kept: Vec<String>,
    graph: &'a Graph,
    facts: &'a Facts,
}

impl<'a> Site<'a> {
    pub(crate) fn new(node: &'a Node, graph: &'a Graph, facts: &'a Facts) -> Self {
        Self { node, kept: Vec::new(), graph, facts }
    }

    /// The version of the operator set that the node is of, [normalised](crate::normalise()) or not; 0 for none.
    #[must_use]
    pub fn opset(&self) -> i64 {
        self.graph.version_of(self.node.set())
    }

    /// The value read at a place.
    ///
    /// # Errors
    /// [`GradError::Unsupported`] where it is left out.
    pub fn input(&self, at: usize) -> Result<&'a str, GradError> {
        self.node.reads(at).ok_or_else(|| self.refuse(&format!("its input {at} is left out")))
    }

    /// The value made at a place.
    ///
    /// # Errors
    /// As [`Site::input`].
    pub fn output(&self, at: usize) -> Result<&'a str, GradError> {
        self.node.makes(at).ok_or_else(|| self.refuse(&format!("its output {at} is left out")))
    }

    /// What is known of a value.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn fact(&self, name: &str) -> Result<&'a Fact, GradError> {
        self.facts.of(name)
    }

    /// What is known of the value read at a place.
    ///
    /// # Errors
    /// As [`Site::input`] and [`Site::fact`].
    pub fn input_fact(&self, at: usize) -> Result<&'a Fact, GradError> {
        self.fact(self.input(at)?)
    }

    /// What is known of the value made at a place.
    ///
    /// # Errors
    /// As [`Site::output`] and [`Site::fact`].
    pub fn output_fact(&self, at: usize) -> Result<&'a Fact, GradError> {
        self.fact(self.output(at)?)
    }

    /// The integers read at a place, that must not depend on the graph's inputs; nothing where the input is left out.
    ///
    /// # Errors
    /// [`GradError::Unsupported`] where they depend on the inputs.
    pub fn integers(&self, at: usize) -> Result<Option<Vec<i64>>, GradError> {
        let Some(name) = self.node.reads(at) else { return Ok(None) };
        let found = self.fact(name)?.integers();
        let reason = || self.refuse(&format!("its input {at} depends on the graph's inputs"));
        found.map(Some).ok_or_else(reason)
    }

    /// The one number that a constant read at a place holds; nothing where the input is left out.
    ///
    /// # Errors
    /// [`GradError::Unsupported`] where it is no constant of one element, [`GradError::Onnx`].
    pub fn number(&self, at: usize) -> Result<Option<f64>, GradError> {
        let Some(name) = self.node.reads(at) else { return Ok(None) };
        let values = self.graph.constant(name).map(headstart_onnx::proto::Tensor::to_numbers).transpose()?;
        match values.as_deref() {
            Some([value]) => Ok(Some(*value)),
            _ => Err(self.refuse(&format!("its input {at} is no constant number"))),
        }
    }

    /// The numbers of a constant of floats read at a place; nothing where it is left out or no constant.
    ///
    /// # Errors
    /// [`GradError::Onnx`].
    pub fn numbers(&self, at: usize) -> Result<Option<Vec<f64>>, GradError> {
        let constant = self.node.reads(at).and_then(|name| self.graph.constant(name));
        Ok(constant.map(headstart_onnx::proto::Tensor::to_numbers).transpose()?)
    }

    /// Whether the value read at a place is a constant of the file.
    #[must_use]
    pub fn is_constant(&self, at: usize) -> bool {
        self.node.reads(at).is_some_and(|name| self.graph.constant(name).is_some())
    }

    /// An axis, counted from the back where it is negative, of values of `rank` axes.
    ///
    /// # Errors
    /// [`GradError::Unsupported`] where there is no such axis.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, GradError> {
        let from = if axis < 0 { axis + rank as i64 } else { axis };
        let found = usize::try_from(from).ok().filter(|axis| *axis < rank);
        found.ok_or_else(|| self.refuse(&format!("it has no axis {axis}")))
    }

    /// The node refused, with the reason.
    #[must_use]
    pub fn refuse(&self, reason: &str) -> GradError {
        GradError::Unsupported(vec![self.unsupported(reason)])
    }

    pub(crate) fn unsupported(&self, reason: &str) -> Unsupported {
        let node = self.node;
        let op = if node.set().is_empty() {
            node.op().to_owned()
        } else {
            format!("{}::{}", node.set(), node.op())
        };
        let name = node.name.as_deref().filter(|name| !name.is_empty());
        let name = name.or_else(|| node.output.first().map(String::as_str)).unwrap_or_default();
        let opset = self.graph.imported(node.set());
        Unsupported { op, node: name.to_owned(), opset, reason: reason.to_owned() }
    }
}
