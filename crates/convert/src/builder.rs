//! A graph that grows node by node, and the weights it is to have.

use headstart_onnx::proto::{Attribute, Dimension, Graph, Node, Tensor, ValueInfo, element};

use crate::Precision;
use crate::error::ConvertError;
use crate::weights::{Form, Weights};

/// A weight that is copied when the file is written.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Name in the graph.
    pub(crate) name: String,
    /// Name in the weights' files.
    pub(crate) source: String,
    pub(crate) dims: Vec<usize>,
    pub(crate) form: Form,
}

/// A graph whose weights are not read yet.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) graph: Graph,
    pub(crate) stored: Vec<Stored>,
    output: &'static str,
}

/// A graph in the making.
pub(crate) struct Builder<'a> {
    weights: &'a Weights,
    precision: Precision,
    /// Nodes that widen weights, ahead of those that use them.
    widening: Vec<Node>,
    nodes: Vec<Node>,
    small: Vec<Tensor>,
    stored: Vec<Stored>,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(weights: &'a Weights, precision: Precision) -> Self {
        Self {
            weights,
            precision,
            widening: Vec::new(),
            nodes: Vec::new(),
            small: Vec::new(),
            stored: Vec::new(),
        }
    }

    pub(crate) fn weights(&self) -> &'a Weights {
        self.weights
    }

    /// Adds a node of one output, after which it is named; the output.
    pub(crate) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<Attribute>,
    ) -> String {
        self.nodes.push(node(operator, inputs, output, attribute));
        output.to_owned()
    }

    /// A list of integers; lists alike are one constant.
    pub(crate) fn integers(&mut self, values: &[i64]) -> String {
        let parts: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("integers_{}", parts.join("_"));
        self.small(&name, |name| Tensor::integers(name, &[values.len()], values.iter().copied()))
    }

    /// An integer without dimensions.
    pub(crate) fn integer(&mut self, value: i64) -> String {
        self.small(&format!("integer_{value}"), |name| Tensor::integers(name, &[], [value]))
    }

    /// A number without dimensions.
    pub(crate) fn number(&mut self, value: f32) -> String {
        self.small(&format!("number_{value:?}"), |name| Tensor::floats(name, &[], [value]))
    }

    /// A constant that is made here.
    pub(crate) fn floats(&mut self, name: &str, dims: &[usize], values: Vec<f32>) -> String {
        self.small(name, |name| Tensor::floats(name, dims, values))
    }

    fn small(&mut self, name: &str, tensor: impl FnOnce(&str) -> Tensor) -> String {
        if self.small.iter().all(|known| known.name.as_deref() != Some(name)) {
            self.small.push(tensor(name));
        }
        name.to_owned()
    }

    /// A vector of the weights' files, kept in single precision: it costs few bytes and no rounding.
    pub(crate) fn vector(&mut self, source: &str, length: usize, scale: f32) -> Result<String, ConvertError> {
        self.store(source, source.to_owned(), &[length], Form { half: false, scale })
    }

    /// A matrix of the weights' files; where it is stored in half precision a node widens it, which a runtime does once,
    /// at load.
    pub(crate) fn matrix(
        &mut self,
        source: &str,
        dims: [usize; 2],
        scale: f32,
    ) -> Result<String, ConvertError> {
        let half = self.precision == Precision::Half;
        if !half {
            return self.store(source, source.to_owned(), &dims, Form { half, scale });
        }
        let stored = self.store(source, format!("{source}.half"), &dims, Form { half, scale })?;
        let to = Attribute::int("to", i64::from(element::FLOAT));
        self.widening.push(node("Cast", &[&stored], source, vec![to]));
        Ok(source.to_owned())
    }

    /// Rows of a matrix of the weights' files at the places that `indices` says. Widened behind the choice, so that a
    /// table in half precision stays so in memory.
    pub(crate) fn rows(
        &mut self,
        source: &str,
        dims: [usize; 2],
        indices: &str,
        output: &str,
    ) -> Result<String, ConvertError> {
        let half = self.precision == Precision::Half;
        let table = self.store(source, source.to_owned(), &dims, Form { half, scale: 1.0 })?;
        if !half {
            return Ok(self.node("Gather", &[&table, indices], output, vec![]));
        }
        let chosen = self.node("Gather", &[&table, indices], &format!("{output}.half"), vec![]);
        Ok(self.node("Cast", &[&chosen], output, vec![Attribute::int("to", i64::from(element::FLOAT))]))
    }

    fn store(
        &mut self,
        source: &str,
        name: String,
        expected: &[usize],
        form: Form,
    ) -> Result<String, ConvertError> {
        let found = self.weights.shape(source)?;
        if found != expected {
            return Err(ConvertError::Shape {
                name: source.to_owned(),
                found: found.to_vec(),
                expected: expected.to_vec(),
            });
        }
        let source = source.to_owned();
        self.stored.push(Stored { name: name.clone(), source, dims: expected.to_vec(), form });
        Ok(name)
    }

    /// The graph, with inputs of `[N, L]` integers.
    pub(crate) fn finish(mut self, inputs: &[&str], output: &'static str, dims: Vec<Dimension>) -> Plan {
        self.widening.append(&mut self.nodes);
        let ids = |name: &&str| {
            let dims = vec![Dimension::named("N"), Dimension::named("L")];
            ValueInfo::tensor(name, element::INT64, dims)
        };
        let graph = Graph {
            node: self.widening,
            name: Some("encoder".to_owned()),
            initializer: self.small,
            input: inputs.iter().map(ids).collect(),
            output: vec![ValueInfo::tensor(output, element::FLOAT, dims)],
            ..Graph::default()
        };
        Plan { graph, stored: self.stored, output }
    }
}

impl Plan {
    /// The graph's output.
    pub(crate) fn output(&self) -> &'static str {
        self.output
    }

    /// Weights that are copied.
    pub(crate) fn parameters(&self) -> u64 {
        self.stored.iter().map(Stored::elements).sum()
    }
}

impl Stored {
    pub(crate) fn elements(&self) -> u64 {
        self.dims.iter().map(|size| *size as u64).product()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.elements() * if self.form.half { 2 } else { 4 }
    }
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<Attribute>) -> Node {
    Node {
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: Some(output.to_owned()),
        op_type: Some(operator.to_owned()),
        attribute,
        ..Node::default()
    }
}
