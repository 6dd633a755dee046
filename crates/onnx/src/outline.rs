//! What a file holds and where: nodes, names and types are read, weights are left in place.

use std::collections::{BTreeSet, HashSet};
use std::io::{Read, Seek};
use std::ops::Range;

use prost::Message as _;

use crate::error::OnnxError;
use crate::proto::{Attribute, Entry, Graph, Node, OperatorSet, Tensor, ValueInfo};
use crate::wire::{Field, Fields, Source};

/// Something read from a file, with the place of the whole field.
#[derive(Debug)]
struct Placed<T> {
    item: T,
    span: Range<u64>,
}

/// A constant's name, and which other files its values are in.
#[derive(Debug, Default)]
struct Constant {
    name: String,
    external: bool,
    files: BTreeSet<String>,
}

/// A file whose weights were not read.
#[derive(Debug, Default)]
pub struct Outline {
    ir_version: i64,
    producer: String,
    opsets: Vec<OperatorSet>,
    metadata: Vec<Entry>,
    inputs: Vec<Placed<ValueInfo>>,
    outputs: Vec<ValueInfo>,
    nodes: Vec<Placed<Node>>,
    constants: Vec<Placed<Constant>>,
    /// Names of values whose types are stated.
    typed: Vec<Placed<String>>,
    rest_of_graph: Vec<Range<u64>>,
    rest_of_model: Vec<Range<u64>>,
}

/// The part of a file's graph that some values need.
#[derive(Debug)]
pub struct Trunk {
    /// Version of the file format.
    pub ir_version: i64,
    /// The operator sets that nodes refer to.
    pub opsets: Vec<OperatorSet>,
    /// Named notes.
    pub metadata: Vec<Entry>,
    /// What callers give.
    pub inputs: Vec<ValueInfo>,
    /// Every name that is taken: of values, in inner graphs too.
    pub(crate) names: HashSet<String>,
    /// Names of values that can be read from outside.
    pub(crate) values: HashSet<String>,
    /// Fields of the graph that stay, in order.
    pub(crate) graph: Vec<Range<u64>>,
    /// Fields of the model that stay, in order.
    pub(crate) model: Vec<Range<u64>>,
}

impl Outline {
    /// Reads a file, passing over its weights.
    ///
    /// # Errors
    /// [`OnnxError::Read`] and [`OnnxError::Malformed`].
    pub fn read(file: impl Read + Seek) -> Result<Self, OnnxError> {
        let mut source = Source::new(file)?;
        let mut outline = Self::default();
        let (mut fields, mut graphs) = (source.fields(), 0);
        while let Some(field) = fields.next(&mut source)? {
            match field.number {
                1 => outline.ir_version = field.integer.unwrap_or_default() as i64,
                // Whose file it is, and what it is said to be, change with what is added.
                2 => outline.producer = source.text(&field.content)?,
                3 | 5 | 6 => {}
                7 => {
                    graphs += 1;
                    outline.graph(&mut source, &field)?;
                }
                14 => outline.metadata.push(Entry::decode(source.read(&field.content)?.as_slice())?),
                8 => {
                    outline.opsets.push(OperatorSet::decode(source.read(&field.content)?.as_slice())?);
                    outline.rest_of_model.push(field.span);
                }
                _ => outline.rest_of_model.push(field.span),
            }
        }
        match graphs {
            1 => Ok(outline),
            _ => Err(OnnxError::Malformed(format!("it has {graphs} graphs where there must be one"))),
        }
    }

    fn graph<R: Read + Seek>(&mut self, source: &mut Source<R>, graph: &Field) -> Result<(), OnnxError> {
        let mut fields = Fields::of(graph);
        while let Some(field) = fields.next(source)? {
            let span = field.span.clone();
            match field.number {
                1 => {
                    let item = Node::decode(source.read(&field.content)?.as_slice())?;
                    self.nodes.push(Placed { item, span });
                }
                5 => self.constants.push(Placed { item: constant(source, &field)?, span }),
                11 => {
                    let item = ValueInfo::decode(source.read(&field.content)?.as_slice())?;
                    self.inputs.push(Placed { item, span });
                }
                12 => self.outputs.push(ValueInfo::decode(source.read(&field.content)?.as_slice())?),
                13 => {
                    let value = ValueInfo::decode(source.read(&field.content)?.as_slice())?;
                    self.typed.push(Placed { item: value.name.unwrap_or_default(), span });
                }
                15 => self.constants.push(Placed { item: sparse(source, &field)?, span }),
                _ => self.rest_of_graph.push(span),
            }
        }
        Ok(())
    }

    /// The program that wrote the file; empty where it does not say.
    #[must_use]
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// What callers must give: inputs that are no constants, in order.
    pub fn inputs(&self) -> impl Iterator<Item = &ValueInfo> {
        let constants: HashSet<&str> =
            self.constants.iter().map(|constant| constant.item.name.as_str()).collect();
        let inputs = self.inputs.iter().map(|input| &input.item);
        inputs.filter(move |input| input.name.as_deref().is_some_and(|name| !constants.contains(name)))
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().map(|node| &node.item)
    }

    /// Names of constants.
    pub fn constants(&self) -> impl Iterator<Item = &str> {
        self.constants.iter().map(|constant| constant.item.name.as_str())
    }

    /// The outputs, as the file states them.
    #[must_use]
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    /// The other files that hold values, as the file writes their paths: whoever loads it reads these too.
    #[must_use]
    pub fn external_files(&self) -> BTreeSet<String> {
        let mut files: BTreeSet<String> =
            self.constants.iter().flat_map(|constant| constant.item.files.iter().cloned()).collect();
        let mut attributes: Vec<&Attribute> =
            self.nodes.iter().flat_map(|node| &node.item.attribute).collect();
        while let Some(attribute) = attributes.pop() {
            files.extend(tensors(attribute).filter_map(location));
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                let sparse = graph.sparse_initializer.iter();
                let sparse = sparse.flat_map(|tensor| tensor.values.iter().chain(&tensor.indices));
                files.extend(graph.initializer.iter().chain(sparse).filter_map(location));
                attributes.extend(graph.node.iter().flat_map(|node| &node.attribute));
            }
        }
        files
    }

    /// What `wanted` values need: every other node, constant and output is left out.
    ///
    /// # Errors
    /// [`OnnxError::Missing`] when nothing computes one of them or what they need, [`OnnxError::External`].
    pub fn up_to(self, wanted: &[&str]) -> Result<Trunk, OnnxError> {
        self.cut(wanted, true)
    }

    /// As [`Self::up_to`], without inputs that nothing of it reads.
    ///
    /// # Errors
    /// As there.
    pub fn only(self, wanted: &[&str]) -> Result<Trunk, OnnxError> {
        self.cut(wanted, false)
    }

    fn cut(self, wanted: &[&str], all_inputs: bool) -> Result<Trunk, OnnxError> {
        let mut needed: HashSet<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        let (mut values, mut names, mut graph) = (HashSet::new(), HashSet::new(), self.rest_of_graph);
        for Placed { item: node, span } in self.nodes.into_iter().rev() {
            if node.output.iter().any(|name| !name.is_empty() && needed.contains(name)) {
                visit(&node, &mut needed, &mut names)?;
                values.extend(node.output.into_iter().filter(|name| !name.is_empty()));
                graph.push(span);
            }
        }
        let mut all_constants = HashSet::new();
        for Placed { item, span } in self.constants {
            all_constants.insert(item.name.clone());
            if needed.contains(&item.name) {
                if item.external {
                    return Err(OnnxError::External(item.name));
                }
                values.insert(item.name);
                graph.push(span);
            }
        }
        let mut inputs = Vec::new();
        for Placed { item, span } in self.inputs {
            let name = item.name.clone().unwrap_or_default();
            // Old files list constants among the inputs too.
            if (all_inputs && !all_constants.contains(&name)) || needed.contains(&name) {
                values.insert(name);
                graph.push(span);
                inputs.push(item);
            }
        }
        names.extend(values.iter().cloned());
        // What inner graphs define is no outer value, but the name is taken.
        if let Some(missing) = needed.iter().filter(|name| !names.contains(*name)).min() {
            return Err(OnnxError::Missing(missing.clone()));
        }
        if let Some(missing) = wanted.iter().find(|name| !values.contains(**name)) {
            return Err(OnnxError::Missing((*missing).to_owned()));
        }
        graph.extend(
            self.typed.into_iter().filter(|typed| values.contains(&typed.item)).map(|typed| typed.span),
        );
        graph.sort_by_key(|span| span.start);
        let Self { ir_version, opsets, metadata, rest_of_model: model, .. } = self;
        Ok(Trunk { ir_version, opsets, metadata, inputs, names, values, graph, model })
    }
}

/// Reads a tensor's name and where its values are.
fn constant<R: Read + Seek>(source: &mut Source<R>, tensor: &Field) -> Result<Constant, OnnxError> {
    let (mut found, mut fields) = (Constant::default(), Fields::of(tensor));
    while let Some(field) = fields.next(source)? {
        match field.number {
            8 => found.name = source.text(&field.content)?,
            13 => {
                let entry = Entry::decode(source.read(&field.content)?.as_slice())?;
                found.files.extend(value_of_location(&entry));
            }
            14 => found.external = field.integer == Some(1),
            _ => {}
        }
    }
    Ok(found)
}

/// Reads a sparse tensor's name: that of its values.
fn sparse<R: Read + Seek>(source: &mut Source<R>, tensor: &Field) -> Result<Constant, OnnxError> {
    let (mut found, mut fields) = (Constant::default(), Fields::of(tensor));
    while let Some(field) = fields.next(source)? {
        if matches!(field.number, 1 | 2) {
            let inner = constant(source, &field)?;
            found.external |= inner.external;
            found.files.extend(inner.files);
            if field.number == 1 {
                found.name = inner.name;
            }
        }
    }
    Ok(found)
}

/// Adds the names that a node reads to `needed`, and those its inner graphs define to `names`.
fn visit(node: &Node, needed: &mut HashSet<String>, names: &mut HashSet<String>) -> Result<(), OnnxError> {
    needed.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
    for attribute in &node.attribute {
        if let Some(tensor) = tensors(attribute).find(|tensor| tensor.is_external()) {
            return Err(OnnxError::External(tensor.name.clone().unwrap_or_default()));
        }
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            visit_graph(graph, needed, names)?;
        }
    }
    Ok(())
}

fn visit_graph(
    graph: &Graph,
    needed: &mut HashSet<String>,
    names: &mut HashSet<String>,
) -> Result<(), OnnxError> {
    if let Some(tensor) = graph.initializer.iter().find(|tensor| tensor.is_external()) {
        return Err(OnnxError::External(tensor.name.clone().unwrap_or_default()));
    }
    names.extend(graph.input.iter().filter_map(|input| input.name.clone()));
    names.extend(graph.initializer.iter().filter_map(|tensor| tensor.name.clone()));
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_ref());
    names.extend(sparse.filter_map(|tensor| tensor.name.clone()));
    for node in &graph.node {
        visit(node, needed, names)?;
        names.extend(node.output.iter().filter(|name| !name.is_empty()).cloned());
    }
    // A body may hand an outer value on as it is.
    needed.extend(graph.output.iter().filter_map(|output| output.name.clone()));
    Ok(())
}

fn location(tensor: &Tensor) -> Option<String> {
    tensor.external_data.iter().find_map(value_of_location)
}

fn value_of_location(entry: &Entry) -> Option<String> {
    entry.value.clone().filter(|_| entry.key.as_deref() == Some("location"))
}

fn tensors(attribute: &Attribute) -> impl Iterator<Item = &Tensor> {
    let sparse = attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors);
    let sparse = sparse.flat_map(|tensor| tensor.values.iter().chain(&tensor.indices));
    attribute.t.iter().chain(&attribute.tensors).chain(sparse)
}
