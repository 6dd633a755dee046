//! A model while it is worked on: nodes in a computable order, constants by name, names that are free.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use headstart_onnx::proto::{Attribute, Model, Node, OperatorSet, Tensor, ValueInfo, element};

use crate::error::GradError;
use crate::ops::OWN_SET;

/// A model while it is worked on.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The model without its graph's nodes, constants, inputs and outputs.
    rest: Model,
    /// The operator sets as the file imports them, whatever the nodes were brought to since.
    read_with: Vec<OperatorSet>,
    pub(crate) inputs: Vec<ValueInfo>,
    pub(crate) outputs: Vec<ValueInfo>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) constants: BTreeMap<String, Tensor>,
    names: HashSet<String>,
    fresh: usize,
}

impl Graph {
    /// Takes a model up. Nodes are put in a computable order where the file has another.
    ///
    /// # Errors
    /// [`GradError::Circle`].
    pub fn new(mut model: Model) -> Result<Self, GradError> {
        let mut graph = model.graph.take().unwrap_or_default();
        let mut constants = BTreeMap::new();
        for tensor in std::mem::take(&mut graph.initializer) {
            constants.insert(tensor.name.clone().unwrap_or_default(), tensor);
        }
        let mut inputs = std::mem::take(&mut graph.input);
        // Old files list constants among the inputs too.
        inputs.retain(|input| input.name.as_ref().is_some_and(|name| !constants.contains_key(name)));
        let outputs = std::mem::take(&mut graph.output);
        let nodes = std::mem::take(&mut graph.node);
        // Types of values in between may no longer hold once nodes are rewritten.
        graph.value_info.clear();
        let mut names: HashSet<String> = constants.keys().cloned().collect();
        names.extend(inputs.iter().filter_map(|input| input.name.clone()));
        for node in &nodes {
            names.extend(node.reads_all().into_iter().map(str::to_owned));
            names.extend(node.output.iter().cloned());
        }
        model.graph = Some(graph);
        let read_with = model.opset_import.clone();
        let mut graph = Self { rest: model, read_with, inputs, outputs, nodes, constants, names, fresh: 0 };
        graph.sort()?;
        Ok(graph)
    }

    /// Takes up a model that was made of this graph: what is refused of it is named with the operator sets of the file that
    /// this graph was read from.
    ///
    /// # Errors
    /// As [`Graph::new`].
    pub fn again(&self, model: Model) -> Result<Self, GradError> {
        Ok(Self { read_with: self.read_with.clone(), ..Self::new(model)? })
    }

    /// The model, as it is now.
    #[must_use]
    pub fn into_model(self) -> Model {
        let mut model = self.rest;
        let mut graph = model.graph.take().unwrap_or_default();
        graph.node = self.nodes;
        graph.initializer = self.constants.into_values().collect();
        graph.input = self.inputs;
        graph.output = self.outputs;
        model.graph = Some(graph);
        model
    }

    /// The version of ONNX's own operators that the nodes are of, which [`normalise`](crate::normalise()) may have raised; 0
    /// for none.
    #[must_use]
    pub fn opset(&self) -> i64 {
        self.version_of("")
    }

    /// The version of an operator set that the nodes are of; 0 for none.
    #[must_use]
    pub fn version_of(&self, domain: &str) -> i64 {
        version(&self.rest.opset_import, domain).unwrap_or(0)
    }

    /// The version of an operator set that the file imports, as it was read; 0 for none.
    #[must_use]
    pub fn imported(&self, domain: &str) -> i64 {
        version(&self.read_with, domain).unwrap_or(0)
    }

    /// Has the file import an operator set in that version.
    pub(crate) fn import(&mut self, domain: &str, version: i64) {
        self.rest.opset_import.retain(|set| domain_of(set) != domain);
        self.rest.opset_import.push(OperatorSet { domain: Some(domain.to_owned()), version: Some(version) });
    }

    /// The least version of the file format that the file is written in.
    pub(crate) fn raise_format(&mut self, least: i64) {
        self.rest.ir_version = Some(self.rest.ir_version.unwrap_or_default().max(least));
    }

    /// What callers give.
    #[must_use]
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    /// What callers get.
    #[must_use]
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    /// The nodes, in a computable order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A constant by its name.
    #[must_use]
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        self.constants.get(name)
    }

    /// The constants, by name.
    pub fn constants(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.constants.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// A name that nothing has, beginning with `wanted`; it is taken from now on.
    pub fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        while !self.names.insert(name.clone()) {
            self.fresh += 1;
            name = format!("{wanted}_{}", self.fresh);
        }
        name
    }

    /// Adds a node of one output behind the others; the name of its value.
    pub fn add(&mut self, op: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let output = self.fresh(&format!("added/{op}"));
        self.nodes.push(Node::new(op, inputs, &[&output], attributes));
        output
    }

    /// Adds a node that hands a value on and reverses its gradient, times a number that callers give as the input
    /// `reversal`, a float without axes: the name of what it hands on, and that of the input.
    pub fn reverse_gradient(&mut self, value: &str) -> (String, String) {
        let (output, factor) = (self.fresh("added/reversed"), self.fresh("reversal"));
        self.inputs.push(ValueInfo::tensor(&factor, element::FLOAT, Vec::new()));
        let node = Node::new("ReverseGradient", &[value, &factor], &[&output], Vec::new());
        self.nodes.push(node.from_set(OWN_SET));
        (output, factor)
    }

    /// Puts a tensor in the place of the constant of its name.
    ///
    /// # Errors
    /// [`GradError::Missing`] where there is none.
    pub fn replace_constant(&mut self, tensor: Tensor) -> Result<(), GradError> {
        let name = tensor.name.clone().unwrap_or_default();
        match self.constants.get_mut(&name) {
            Some(place) => *place = tensor,
            None => return Err(GradError::Missing { what: "constant", name }),
        }
        Ok(())
    }

    /// Adds a constant, under its own name or one like it where that is taken; the name it has.
    pub fn add_constant(&mut self, tensor: Tensor) -> String {
        let name = self.fresh(tensor.name.as_deref().unwrap_or("added/constant"));
        self.constants.insert(name.clone(), Tensor { name: Some(name.clone()), ..tensor });
        name
    }

    /// Adds something that callers give.
    pub fn add_input(&mut self, input: ValueInfo) {
        self.names.extend(input.name.clone());
        self.inputs.push(input);
    }

    /// Gives callers these values and no others.
    pub fn set_outputs(&mut self, outputs: Vec<ValueInfo>) {
        self.outputs = outputs;
    }

    /// Which nodes read each value, by their places; those whose inner graphs read it among them.
    pub(crate) fn readers(&self) -> HashMap<&str, Vec<usize>> {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            for name in node.reads_all() {
                readers.entry(name).or_default().push(at);
            }
        }
        readers
    }

    /// Whether callers get a value.
    pub(crate) fn gives(&self, name: &str) -> bool {
        self.outputs.iter().any(|output| output.name.as_deref() == Some(name))
    }

    /// Removes nodes and constants that none of the outputs needs.
    pub fn prune(&mut self) {
        let mut needed: HashSet<String> =
            self.outputs.iter().filter_map(|output| output.name.clone()).collect();
        let mut kept = Vec::new();
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if node.output.iter().any(|name| !name.is_empty() && needed.contains(name)) {
                needed.extend(node.reads_all().into_iter().map(str::to_owned));
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.constants.retain(|name, _| needed.contains(name));
    }

    /// Puts the nodes in a computable order, as near to the present one as may be.
    fn sort(&mut self) -> Result<(), GradError> {
        let made: BTreeSet<&str> =
            self.nodes.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let mut done: HashSet<String> = HashSet::new();
        let waits = |node: &Node, done: &HashSet<String>| {
            let inner = node.has_graphs();
            let reads =
                if inner { node.reads_all() } else { node.input.iter().map(String::as_str).collect() };
            reads.into_iter().any(|name| !name.is_empty() && made.contains(name) && !done.contains(name))
        };
        let (mut order, mut left): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..self.nodes.len()).collect());
        while !left.is_empty() {
            let before = left.len();
            left.retain(|&at| {
                let node = &self.nodes[at];
                let waits = waits(node, &done);
                if !waits {
                    done.extend(node.output.iter().cloned());
                    order.push(at);
                }
                waits
            });
            if left.len() == before {
                return Err(GradError::Circle);
            }
        }
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|at| nodes[at].take()).collect();
        Ok(())
    }
}

fn version(imports: &[OperatorSet], domain: &str) -> Option<i64> {
    imports.iter().find(|set| domain_of(set) == domain)?.version
}

/// The domain of an operator set, empty for ONNX's own.
fn domain_of(set: &OperatorSet) -> &str {
    set.domain.as_deref().filter(|name| *name != "ai.onnx").unwrap_or_default()
}
