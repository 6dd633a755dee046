//! New nodes behind an old graph: names that collide with nothing, and the file that comes of it.

use std::collections::HashSet;
use std::ops::Range;

use prost::Message as _;

use crate::assembly::{Assembly, Part};
use crate::error::OnnxError;
use crate::outline::Trunk;
use crate::proto::{Attribute, Dimension, Entry, Graph, Model, Node, Tensor, ValueInfo};

/// The first version of the file format in which constants need not be inputs.
const CONSTANTS_APART: i64 = 4;

/// What a new file says about itself.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// The program that wrote it.
    pub producer_name: String,
    /// The program's version.
    pub producer_version: String,
    /// Version of the model.
    pub model_version: i64,
    /// For people.
    pub doc_string: String,
    /// Named notes, in order; those of the old file stay behind them unless a key is used again.
    pub metadata: Vec<(String, String)>,
}

/// A graph that is being extended.
#[derive(Debug)]
pub struct Extension {
    trunk: Trunk,
    prefix: String,
    opset: i64,
    own: HashSet<String>,
    added: Graph,
}

impl Extension {
    /// Begins to extend a graph that is written for operator set `least` or newer. New names begin with `prefix`, made
    /// longer where the graph has such names.
    ///
    /// # Errors
    /// [`OnnxError::Opset`].
    pub fn new(trunk: Trunk, prefix: &str, least: i64) -> Result<Self, OnnxError> {
        let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let set = trunk.opsets.iter().find(|set| own(set.domain.as_deref().unwrap_or_default()));
        let found = set.and_then(|set| set.version).unwrap_or_default();
        if found < least {
            return Err(OnnxError::Opset { found, least });
        }
        let mut prefix = prefix.to_owned();
        while trunk.names.iter().any(|name| name.starts_with(&prefix)) {
            prefix.push('_');
        }
        Ok(Self { trunk, prefix, opset: found, own: HashSet::new(), added: Graph::default() })
    }

    /// The version of ONNX's own operators that nodes are read by.
    #[must_use]
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// What callers give, old and new.
    pub fn inputs(&self) -> impl Iterator<Item = &ValueInfo> {
        self.trunk.inputs.iter().chain(&self.added.input)
    }

    /// The dimension that stands for the number of items: the first of the first input.
    #[must_use]
    pub fn batch(&self) -> Dimension {
        let first = self.inputs().next().and_then(ValueInfo::dimensions).and_then(<[_]>::first);
        let named = first.and_then(|dimension| dimension.dim_param.as_deref());
        Dimension::named(named.unwrap_or("N"))
    }

    /// Adds a node of one output; the name of its value.
    pub fn add(&mut self, op: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let output = format!("{}{}_{}", self.prefix, op, self.own.len());
        self.node(op, inputs, attributes, &output);
        output
    }

    /// Adds a node whose value is an output of the file. It is named `wanted`, with a `_` behind for as long as the
    /// name is taken.
    pub fn add_output(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
        (wanted, elements, shape): (&str, i32, Vec<Dimension>),
    ) -> String {
        let mut output = wanted.to_owned();
        while self.trunk.names.contains(&output) || self.own.contains(&output) {
            output.push('_');
        }
        self.node(op, inputs, attributes, &output);
        self.added.output.push(ValueInfo::tensor(&output, elements, shape));
        output
    }

    /// Keeps an output of the old file, as it is.
    ///
    /// # Errors
    /// [`OnnxError::Missing`] when the part that is extended does not have it.
    pub fn keep_output(&mut self, output: ValueInfo) -> Result<(), OnnxError> {
        let name = output.name.clone().unwrap_or_default();
        if !self.trunk.values.contains(&name) {
            return Err(OnnxError::Missing(name));
        }
        self.added.output.push(output);
        Ok(())
    }

    fn node(&mut self, op: &str, inputs: &[&str], attribute: Vec<Attribute>, output: &str) {
        self.own.insert(output.to_owned());
        self.added.node.push(Node {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(format!("{}node_{}", self.prefix, self.added.node.len())),
            op_type: Some(op.to_owned()),
            attribute,
            ..Node::default()
        });
    }

    /// Adds a constant of floats in row order; its name.
    pub fn floats(&mut self, what: &str, dims: &[usize], values: impl IntoIterator<Item = f32>) -> String {
        let name = format!("{}{what}_{}", self.prefix, self.own.len());
        self.constant(name, |name| Tensor::floats(name, dims, values))
    }

    /// Adds a constant of integers in row order; its name.
    pub fn integers(&mut self, what: &str, dims: &[usize], values: impl IntoIterator<Item = i64>) -> String {
        let name = format!("{}{what}_{}", self.prefix, self.own.len());
        self.constant(name, |name| Tensor::integers(name, dims, values))
    }

    fn constant(&mut self, name: String, tensor: impl FnOnce(&str) -> Tensor) -> String {
        self.added.initializer.push(tensor(&name));
        self.own.insert(name.clone());
        name
    }

    /// Adds something that callers give.
    pub fn add_input(&mut self, input: ValueInfo) {
        self.own.extend(input.name.clone());
        self.added.input.push(input);
    }

    /// The file: the old one's fields where they are, the new ones between and around them.
    ///
    /// # Errors
    /// [`OnnxError::Missing`] when a node reads what is not there.
    pub fn finish(self, header: Header) -> Result<Assembly, OnnxError> {
        let Self { trunk, own, added, .. } = self;
        let read = added.node.iter().flat_map(|node| &node.input);
        let known = |name: &String| own.contains(name) || trunk.values.contains(name);
        if let Some(missing) = read.filter(|name| !name.is_empty()).find(|name| !known(name)) {
            return Err(OnnxError::Missing(missing.clone()));
        }
        let entry = |(key, value)| Entry { key: Some(key), value: Some(value) };
        let mut metadata_props: Vec<Entry> = header.metadata.into_iter().map(entry).collect();
        for old in trunk.metadata {
            if metadata_props.iter().all(|new| new.key != old.key) {
                metadata_props.push(old);
            }
        }
        let model = Model {
            ir_version: Some(trunk.ir_version.max(CONSTANTS_APART)),
            producer_name: Some(header.producer_name),
            producer_version: Some(header.producer_version),
            model_version: Some(header.model_version),
            doc_string: Some(header.doc_string),
            metadata_props,
            ..Model::default()
        };
        let mut graph: Vec<Part> = old(trunk.graph).collect();
        graph.push(Part::New(added.encode_to_vec()));
        let mut head = model.encode_to_vec();
        prost::encoding::encode_key(7, prost::encoding::WireType::LengthDelimited, &mut head);
        prost::encoding::encode_varint(graph.iter().map(Part::bytes).sum(), &mut head);
        let parts = std::iter::once(Part::New(head)).chain(graph).chain(old(trunk.model));
        Ok(Assembly::new(parts.collect()))
    }
}

/// Ranges of the old file, in order; neighbours as one.
fn old(spans: Vec<Range<u64>>) -> impl Iterator<Item = Part> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if last.end == span.start => last.end = span.end,
            _ => joined.push(span),
        }
    }
    joined.into_iter().map(Part::Old)
}
