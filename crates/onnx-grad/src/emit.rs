//! The graph that comes of differentiation, while nodes are added to it: constants once, gradients summed.
//!
//! What is emitted is valid for operator sets from 18 on, for floats of 32 and of 64 bits.

use std::collections::{HashMap, HashSet};

use headstart_onnx::proto::{Attribute, Dimension, Node, Tensor, ValueInfo, element};

use crate::error::GradError;
use crate::graph::Graph;
use crate::lower::{Lowering, Portable};
use crate::parts::{Part, join};
use crate::probe::{Fact, Facts, ONE, Tried, fixed};

/// The operator set of the runtime's own additions.
const CONTRIBUTED: &str = "com.microsoft";

/// How names of what is emitted begin.
pub(crate) const EMITTED: &str = "back/";

/// The graph that comes of differentiation, while nodes are added to it.
pub struct Emit<'a> {
    facts: &'a Facts,
    lowering: &'static dyn Lowering,
    target: Graph,
    /// Values between what is trained and the loss.
    wanted: HashSet<String>,
    /// What has been given so far to the gradient of each value.
    gradients: HashMap<String, Vec<String>>,
    /// What has been given so far to the gradients of parts of each value.
    parts: HashMap<String, Vec<Part>>,
    /// Nodes and constants that are there already, by what they are.
    made: HashMap<String, String>,
}

impl<'a> Emit<'a> {
    pub(crate) fn new(
        graph: &Graph,
        facts: &'a Facts,
        wanted: HashSet<String>,
        lowering: &'static dyn Lowering,
    ) -> Self {
        let mut target = graph.clone();
        target.nodes.clear();
        let (gradients, parts, made) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { facts, lowering, target, wanted, gradients, parts, made }
    }

    pub(crate) fn finish(self) -> Graph {
        self.target
    }

    /// What is known of a value of the forward graph.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn fact(&self, name: &str) -> Result<&'a Fact, GradError> {
        self.facts.of(name)
    }

    /// Adds a node of one output; the name of its value.
    pub fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        self.node_with(op, inputs, Vec::new())
    }

    /// Adds a node of one output that is told something; the name of its value.
    pub fn node_with(&mut self, op: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let output = self.target.fresh(&format!("{EMITTED}{op}"));
        self.target.nodes.push(Node::new(op, inputs, &[&output], attributes));
        output
    }

    /// Adds a node of several outputs; the names of its values.
    pub fn node_of<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> [String; N] {
        let outputs = std::array::from_fn(|at| self.target.fresh(&format!("{EMITTED}{op}/{at}")));
        let names: [&str; N] = std::array::from_fn(|at| outputs[at].as_str());
        self.target.nodes.push(Node::new(op, inputs, &names, attributes));
        outputs
    }

    /// Adds a node of another operator set than ONNX's own; the names of its values.
    pub fn node_from<const N: usize>(
        &mut self,
        (set, op): (&str, &str),
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> [String; N] {
        let outputs = std::array::from_fn(|at| self.target.fresh(&format!("{EMITTED}{op}/{at}")));
        let names: [&str; N] = std::array::from_fn(|at| outputs[at].as_str());
        self.target.nodes.push(Node::new(op, inputs, &names, attributes).from_set(set));
        outputs
    }

    /// The product of two matrices of elements like those of the forward value `like`, either of them read as if it were
    /// transposed, and what is added to it: a list to each row, or as much as there is.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn matrix_product(
        &mut self,
        (left, turn_left): (&str, bool),
        (right, turn_right): (&str, bool),
        sum: Option<&str>,
        like: &str,
    ) -> Result<String, GradError> {
        let output = self.fresh(&format!("{EMITTED}Gemm"));
        self.matrix_product_named((left, turn_left), (right, turn_right), sum, (like, &output))?;
        Ok(output)
    }

    /// The same, under a name that is known.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn matrix_product_named(
        &mut self,
        (left, turn_left): (&str, bool),
        (right, turn_right): (&str, bool),
        sum: Option<&str>,
        (like, output): (&str, &str),
    ) -> Result<(), GradError> {
        let single = self.fact(like)?.elements == element::FLOAT;
        let (set, op) = if single { self.lowering.product() } else { Portable.product() };
        let operands: Vec<&str> = [left, right].into_iter().chain(sum).collect();
        let told = vec![
            Attribute::int("transA", i64::from(turn_left)),
            Attribute::int("transB", i64::from(turn_right)),
        ];
        self.push(Node::new(op, &operands, &[output], told).from_set(set));
        Ok(())
    }

    /// Adds a node as it is, its outputs named already.
    pub fn push(&mut self, node: Node) {
        self.target.nodes.push(node);
    }

    /// A name that nothing has.
    pub fn fresh(&mut self, wanted: &str) -> String {
        self.target.fresh(wanted)
    }

    /// A constant list of integers.
    pub fn integers(&mut self, values: &[i64]) -> String {
        self.constant(Tensor::integers("back/integers", &[values.len()], values.iter().copied()))
    }

    /// A constant integer without axes.
    pub fn integer(&mut self, value: i64) -> String {
        self.constant(Tensor::integers("back/integer", &[], [value]))
    }

    /// A constant number without axes, of elements like those of the forward value `like`.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn number(&mut self, value: f64, like: &str) -> Result<String, GradError> {
        let elements = self.fact(like)?.elements;
        Ok(self.constant(number(elements, value)))
    }

    /// Adds a constant and gives its name; an equal one that was added before is used again. The tensor's own name is
    /// the beginning of the new name.
    pub fn constant(&mut self, tensor: Tensor) -> String {
        let what = format!("{:?}", (tensor.data_type, &tensor.dims, &tensor.raw_data));
        if let Some(name) = self.made.get(&what) {
            return name.clone();
        }
        let name = self.target.add_constant(tensor);
        self.made.insert(what, name.clone());
        name
    }

    /// Adds an input of the training graph, of element type `elements` and that shape; gives its name, which is
    /// `wanted` where that is free.
    pub fn input(&mut self, wanted: &str, elements: i32, shape: Vec<Dimension>) -> String {
        let name = self.target.fresh(wanted);
        self.target.inputs.push(ValueInfo::tensor(&name, elements, shape));
        name
    }

    /// Makes a node once, for all who ask for the same under `what`.
    pub fn once(&mut self, what: String, make: impl FnOnce(&mut Self) -> String) -> String {
        if let Some(name) = self.made.get(&what) {
            return name.clone();
        }
        let name = make(self);
        self.made.insert(what, name.clone());
        name
    }

    /// The shape of a forward value as a list of integers: a constant where no size depends on the inputs. Otherwise it
    /// is made of the sizes of the graph's inputs, so that the value itself need not be kept for it.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn shape_of(&mut self, value: &str) -> Result<String, GradError> {
        let fact = self.fact(value)?;
        let axes: Vec<usize> = (0..fact.rank()).collect();
        self.sizes_of(value, &axes)
    }

    /// The sizes of some axes of a forward value as a list of integers, see [`Emit::shape_of`].
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn sizes_of(&mut self, value: &str, axes: &[usize]) -> Result<String, GradError> {
        let fact = self.fact(value)?;
        let fixed: Option<Vec<i64>> =
            axes.iter().map(|&axis| fact.size(axis).map(|size| size as i64)).collect();
        if let Some(fixed) = fixed {
            return Ok(self.integers(&fixed));
        }
        let parts: Vec<String> = axes.iter().map(|&axis| self.size_of(value, axis, fact)).collect();
        Ok(self.list(&parts))
    }

    /// The size of one axis as a list of one integer.
    fn size_of(&mut self, value: &str, axis: usize, fact: &Fact) -> String {
        if let Some(size) = fact.size(axis) {
            return self.integers(&[size as i64]);
        }
        let source = fact.tried(axis).and_then(|tried| self.facts.source(tried));
        let (source, axis) = source.unwrap_or((value, axis));
        let range = vec![Attribute::int("start", axis as i64), Attribute::int("end", axis as i64 + 1)];
        self.once(format!("size {axis} {source}"), |emit| emit.node_with("Shape", &[source], range))
    }

    /// A value shaped like the forward value `shaped`, given the shape of the forward value `like`.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn reshape(&mut self, value: &str, shaped: &str, like: &str) -> Result<String, GradError> {
        let (from, to) = (self.fact(shaped)?, self.fact(like)?);
        if from.same_shape(to) {
            return Ok(value.to_owned());
        }
        let free: Vec<usize> = (0..to.rank()).filter(|&axis| to.size(axis).is_none()).collect();
        let copied = free.iter().all(|&axis| from.tried(axis) == to.tried(axis));
        let empty = (0..to.rank()).any(|axis| to.size(axis) == Some(0));
        if !empty && (copied || free.len() == 1) {
            // 0 copies a size from the value that is reshaped, -1 is what is left.
            let rest = if copied { 0 } else { -1 };
            let sizes = (0..to.rank()).map(|axis| to.size(axis).map_or(rest, |size| size as i64));
            let sizes: Vec<i64> = sizes.collect();
            let target = self.integers(&sizes);
            return Ok(self.node("Reshape", &[value, &target]));
        }
        let target = self.shape_of(like)?;
        Ok(self.reshape_to(value, &target))
    }

    /// A value in a shape that is a list of integers; a size of 0 is one there, and no order to copy.
    pub fn reshape_to(&mut self, value: &str, shape: &str) -> String {
        self.node_with("Reshape", &[value, shape], vec![Attribute::int("allowzero", 1)])
    }

    /// A value shaped like the forward value `from`, summed over the axes along which the forward value `to` was
    /// broadcast to it: the gradient of the broadcast.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn sum_to(&mut self, value: &str, from: &str, to: &str) -> Result<String, GradError> {
        let (wide, narrow) = (self.fact(from)?.all_tried(), self.fact(to)?.all_tried());
        Ok(self.sum_over(value, &wide, &narrow))
    }

    /// As [`Emit::sum_to`], for shapes that no forward value has: `wide` is the shape of `value`, `narrow` the one to
    /// sum to; each entry is an axis, as its sizes in the probe's runs.
    pub fn sum_over(&mut self, value: &str, wide: &[Tried], narrow: &[Tried]) -> String {
        let lead = wide.len().saturating_sub(narrow.len());
        let stretched = |axis: &usize| narrow[*axis] == ONE && wide[axis + lead] != ONE;
        let inner: Vec<i64> = (0..narrow.len()).filter(stretched).map(|axis| axis as i64).collect();
        let mut sum = value.to_owned();
        if lead > 0 {
            let row = if let [only] = narrow { fixed(*only) } else { None };
            sum = match row {
                // One sum over rows is quicker than one over several axes.
                Some(size) if size > 1 && lead > 1 => {
                    let rows = self.integers(&[-1, size as i64]);
                    let rows = self.node("Reshape", &[&sum, &rows]);
                    self.sum(&rows, &[0], false)
                }
                _ => self.sum(&sum, &(0..lead as i64).collect::<Vec<_>>(), false),
            };
        }
        if !inner.is_empty() {
            sum = self.sum(&sum, &inner, true);
        }
        sum
    }

    /// The sum over some axes, which stay as axes of one element where `keep` says so.
    pub fn sum(&mut self, value: &str, axes: &[i64], keep: bool) -> String {
        let axes = self.integers(axes);
        self.node_with("ReduceSum", &[value, &axes], vec![Attribute::int("keepdims", i64::from(keep))])
    }

    /// Zeros in the shape of the forward value `like` and of its elements.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn zeros(&mut self, like: &str) -> Result<String, GradError> {
        let shape = self.shape_of(like)?;
        let elements = self.fact(like)?.elements;
        Ok(self.zeros_of(&shape, elements))
    }

    /// Zeros of a type of elements in a shape that is a list of integers.
    pub fn zeros_of(&mut self, shape: &str, elements: i32) -> String {
        let zero = Tensor { dims: vec![1], ..number(elements, 0.0) };
        self.node_with("ConstantOfShape", &[shape], vec![Attribute::tensor("value", zero)])
    }

    /// A value of `rank` axes with so many zeros before and after it along one of them; cut there where they are negative.
    pub fn pad(&mut self, value: &str, rank: usize, axis: usize, [before, after]: [i64; 2]) -> String {
        if before == 0 && after == 0 {
            return value.to_owned();
        }
        let mut pads = vec![0; 2 * rank];
        (pads[axis], pads[axis + rank]) = (before, after);
        let pads = self.integers(&pads);
        self.node("Pad", &[value, &pads])
    }

    /// A part of a value along one axis.
    pub fn slice(&mut self, value: &str, axis: usize, [start, end]: [i64; 2]) -> String {
        let (start, end) = (self.integers(&[start]), self.integers(&[end]));
        let axis = self.integers(&[axis as i64]);
        self.node("Slice", &[value, &start, &end, &axis])
    }

    /// Lists of integers, one behind the other.
    pub fn list(&mut self, parts: &[String]) -> String {
        if let [part] = parts {
            return part.clone();
        }
        self.once(format!("list {parts:?}"), |emit| {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            emit.node_with("Concat", &parts, vec![Attribute::int("axis", 0)])
        })
    }

    /// The product of two stacks of matrices, either of them read as if it were transposed.
    pub fn product(&mut self, (left, turn_left): (&str, bool), (right, turn_right): (&str, bool)) -> String {
        let told = vec![
            Attribute::int("transA", i64::from(turn_left)),
            Attribute::int("transB", i64::from(turn_right)),
        ];
        let output = self.fresh(&format!("{EMITTED}FusedMatMul"));
        let node = Node::new("FusedMatMul", &[left, right], &[&output], told).from_set(CONTRIBUTED);
        self.target.nodes.push(node);
        output
    }

    /// A value in the element type of the forward value `like`.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn cast(&mut self, value: &str, like: &str) -> Result<String, GradError> {
        let elements = i64::from(self.fact(like)?.elements);
        Ok(self.node_with("Cast", &[value], vec![Attribute::int("to", elements)]))
    }

    /// Whether the gradient of a value is of use.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.wanted.contains(name)
    }

    /// Adds to the gradient of a value; nothing where that is of no use.
    pub fn give(&mut self, name: &str, gradient: String) {
        if self.wants(name) {
            self.gradients.entry(name.to_owned()).or_default().push(gradient);
        }
    }

    /// Adds to the gradient of a part of a value; nothing where that is of no use. Parts side by side are put together by
    /// one `Concat`.
    pub fn give_part(&mut self, name: &str, part: Part) {
        if self.wants(name) {
            self.parts.entry(name.to_owned()).or_default().push(part);
        }
    }

    /// Takes back something that was given to the gradient of a value, for a node that adds to it as it computes. The
    /// node's value is to be given instead.
    pub fn take_pending(&mut self, name: &str) -> Option<String> {
        self.gradients.get_mut(name)?.pop()
    }

    /// The gradient of a value: the sum of all that was given; nothing where nothing was.
    pub(crate) fn gradient(&mut self, name: &str) -> Option<String> {
        let parts = self.parts.remove(name).unwrap_or_default();
        let joined = join(parts, self);
        let mut terms = self.gradients.remove(name).into_iter().flatten().chain(joined);
        let first = terms.next()?;
        Some(terms.fold(first, |sum, term| self.node("Add", &[&sum, &term])))
    }
}

/// A tensor of one number without axes.
fn number(elements: i32, value: f64) -> Tensor {
    match elements {
        element::DOUBLE => Tensor::doubles("back/number", &[], [value]),
        _ => Tensor::floats("back/number", &[], [value as f32]),
    }
}
