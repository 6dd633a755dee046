//! Nodes made and looked into.

use std::collections::BTreeSet;

use crate::proto::{Attribute, Graph, Node, Tensor, attribute};

impl Node {
    /// A node of ONNX's own operators; an empty name is an optional input left out.
    #[must_use]
    pub fn new(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Attribute>) -> Self {
        Self {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: outputs.iter().map(|&name| name.to_owned()).collect(),
            op_type: Some(op.to_owned()),
            attribute: attributes,
            ..Self::default()
        }
    }

    /// The same node, its operator taken from the set of `domain`.
    #[must_use]
    pub fn from_set(self, domain: &str) -> Self {
        Self { domain: Some(domain.to_owned()), ..self }
    }

    /// The operator's name.
    #[must_use]
    pub fn op(&self) -> &str {
        self.op_type.as_deref().unwrap_or_default()
    }

    /// The domain of the operator set, empty for ONNX's own.
    #[must_use]
    pub fn set(&self) -> &str {
        match self.domain.as_deref() {
            None | Some("ai.onnx") => "",
            Some(domain) => domain,
        }
    }

    /// Whether it is this operator of ONNX's own.
    #[must_use]
    pub fn is(&self, op: &str) -> bool {
        self.op() == op && self.set().is_empty()
    }

    /// The name of the value read at a place, unless it is left out.
    #[must_use]
    pub fn reads(&self, at: usize) -> Option<&str> {
        self.input.get(at).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The name of the value made at a place, unless it is left out.
    #[must_use]
    pub fn makes(&self, at: usize) -> Option<&str> {
        self.output.get(at).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// An attribute by its name.
    #[must_use]
    pub fn told(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
    }

    /// An attribute that is an integer. Some writers leave a zero out of the file, and only say that there is an integer.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        let told = self.told(name)?;
        told.i.or_else(|| (told.r#type == Some(attribute::INT)).then_some(0))
    }

    /// An attribute that is a list of integers.
    #[must_use]
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.told(name).map(|attribute| attribute.ints.as_slice())
    }

    /// An attribute that is a number; a zero may be left out as that of an integer.
    #[must_use]
    pub fn float(&self, name: &str) -> Option<f32> {
        let told = self.told(name)?;
        told.f.or_else(|| (told.r#type == Some(attribute::FLOAT)).then_some(0.0))
    }

    /// An attribute that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.told(name)?.s.as_ref()?).ok()
    }

    /// Whether it holds graphs of its own, as loops and branches do.
    #[must_use]
    pub fn has_graphs(&self) -> bool {
        self.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
    }

    /// Every name it reads: its inputs, and all that its inner graphs read, their own values among them.
    #[must_use]
    pub fn reads_all(&self) -> BTreeSet<&str> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let (mut nodes, mut graphs): (Vec<&Node>, Vec<&Graph>) = (vec![self], Vec::new());
        while let Some(node) = nodes.pop() {
            names.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
            for attribute in &node.attribute {
                graphs.extend(attribute.g.iter().chain(&attribute.graphs));
            }
            for graph in graphs.drain(..) {
                nodes.extend(&graph.node);
                names.extend(graph.output.iter().filter_map(|output| output.name.as_deref()));
            }
        }
        names
    }
}

impl Attribute {
    /// A number.
    #[must_use]
    pub fn number(name: &str, value: f32) -> Self {
        Self {
            name: Some(name.to_owned()),
            f: Some(value),
            r#type: Some(attribute::FLOAT),
            ..Self::default()
        }
    }

    /// Text.
    #[must_use]
    pub fn string(name: &str, value: &str) -> Self {
        let s = Some(value.to_owned().into());
        Self { name: Some(name.to_owned()), s, r#type: Some(attribute::STRING), ..Self::default() }
    }

    /// A tensor.
    #[must_use]
    pub fn tensor(name: &str, value: Tensor) -> Self {
        let t = Some(value);
        Self { name: Some(name.to_owned()), t, r#type: Some(attribute::TENSOR), ..Self::default() }
    }
}
