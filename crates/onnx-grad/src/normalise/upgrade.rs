//! Nodes of operator sets from 9 on, written as operator set 18 has them.
//!
//! Only what changed in meaning or form is rewritten; operators that are neither rewritten nor known to be the same since
//! are refused. Source: the changelog of operators, <https://github.com/onnx/onnx/blob/main/docs/Changelog.md>.

use headstart_onnx::proto::{Attribute, Node, Tensor};

use crate::error::{GradError, Unsupported};
use crate::graph::Graph;
use crate::ops::OLDEST_OPSET;

/// The oldest operator set that is read.
const OLDEST: i64 = 9;

/// The operator set that nodes are brought to.
const LEAST: i64 = OLDEST_OPSET;

/// Operators that mean the same in every set from [`OLDEST`] to [`LEAST`], or to which only was added.
const SAME: &str = "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Bernoulli \
    BitShift Cast CastLike Ceil Celu Compress Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum \
    DepthToSpace DequantizeLinear Det Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU \
    Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample \
    HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual \
    Log LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization Min Mish \
    Mod Mul Multinomial Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pow QLinearConv QLinearMatMul QuantizeLinear RNN \
    RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal Relu Reshape ReverseSequence Round \
    ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Softplus Softsign SpaceToDepth Sqrt Sub Sum Tan \
    Tanh ThresholdedRelu Tile Transpose Trilu Unique Where Xor";

/// Brings a graph to operator set [`LEAST`]; newer ones stay as they are.
pub(super) fn upgrade(graph: &mut Graph) -> Result<(), GradError> {
    let from = graph.opset();
    if from >= LEAST {
        return Ok(());
    }
    let mut refused = Vec::new();
    for node in std::mem::take(&mut graph.nodes) {
        let reason = refusal(&node, from, graph);
        match reason {
            Some(reason) => refused.push(unsupported(&node, from, &reason)),
            None => Upgrade { graph: &mut *graph, from }.node(node),
        }
    }
    if !refused.is_empty() {
        return Err(GradError::Unsupported(refused));
    }
    graph.import("", LEAST);
    graph.raise_format(8);
    Ok(())
}

/// Why a node cannot be brought to operator set [`LEAST`].
fn refusal(node: &Node, from: i64, graph: &Graph) -> Option<String> {
    if !node.set().is_empty() {
        return None;
    }
    if from < OLDEST {
        return Some(format!("operator sets from {OLDEST} on are read"));
    }
    if node.has_graphs() {
        return Some(format!("it holds graphs of an operator set below {LEAST}"));
    }
    if node.text("coordinate_transformation_mode") == Some("tf_half_pixel_for_nn") {
        return Some("its way of placing pixels is no longer part of ONNX".to_owned());
    }
    if from < 11
        && node.is("Resize")
        && let Err(reason) = rounding(node, graph)
    {
        return Some(reason.to_owned());
    }
    let rewritten = REWRITTEN.contains(&node.op()) || node.op().starts_with("Reduce");
    let known = rewritten || SAME.split_whitespace().any(|op| op == node.op());
    (!known).then(|| format!("what operator set {LEAST} has for it is not known here"))
}

fn unsupported(node: &Node, opset: i64, reason: &str) -> Unsupported {
    let name = node.name.as_deref().filter(|name| !name.is_empty()).or_else(|| node.makes(0));
    Unsupported {
        op: node.op().to_owned(),
        node: name.unwrap_or_default().to_owned(),
        opset,
        reason: reason.to_owned(),
    }
}

/// Operators that [`Upgrade::node`] rewrites.
const REWRITTEN: &[&str] = &[
    "Clip",
    "Dropout",
    "Hardmax",
    "LogSoftmax",
    "Pad",
    "Resize",
    "Scatter",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "TopK",
    "Unsqueeze",
    "Upsample",
];

/// A graph whose nodes are added again, brought to operator set [`LEAST`].
struct Upgrade<'a> {
    graph: &'a mut Graph,
    from: i64,
}

impl Upgrade<'_> {
    fn node(&mut self, mut node: Node) {
        if node.set().is_empty() {
            match node.op() {
                "Clip" if self.from < 11 => self.numbers_to_inputs(&mut node, &["min", "max"]),
                "Dropout" if self.from < 12 => node.attribute.clear(),
                "Softmax" | "LogSoftmax" | "Hardmax" if self.from < 13 => return self.flat(node),
                "Pad" if self.from < 11 => {
                    self.lists_to_inputs(&mut node, &["pads"]);
                    self.numbers_to_inputs(&mut node, &["value"]);
                }
                "Slice" if self.from < 10 => self.lists_to_inputs(&mut node, &["starts", "ends", "axes"]),
                "TopK" if self.from < 10 => {
                    let most = Attribute::ints("k", node.int("k").into_iter().collect());
                    node.attribute.retain(|told| told.name.as_deref() != Some("k"));
                    node.attribute.push(most);
                    self.lists_to_inputs(&mut node, &["k"]);
                }
                "Split" => self.split(&mut node),
                "Squeeze" | "Unsqueeze" if self.from < 13 => self.lists_to_inputs(&mut node, &["axes"]),
                "ReduceSum" if self.from < 13 => self.lists_to_inputs(&mut node, &["axes"]),
                "Scatter" => node.op_type = Some("ScatterElements".to_owned()),
                "Upsample" => resize(&mut node, "floor"),
                "Resize" if self.from < 11 => {
                    let rounded = rounding(&node, self.graph).unwrap_or("floor");
                    resize(&mut node, rounded);
                }
                // Its sum moved earlier than the others.
                "ReduceSum" => {}
                op if op.starts_with("Reduce") => self.lists_to_inputs(&mut node, &["axes"]),
                _ => {}
            }
        }
        self.graph.nodes.push(node);
    }

    /// Attributes that are lists of integers become the next inputs; those that are not there are left out.
    fn lists_to_inputs(&mut self, node: &mut Node, names: &[&str]) {
        for name in names {
            let list =
                node.ints(name).map(|list| Tensor::integers(name, &[list.len()], list.iter().copied()));
            self.give_input(node, name, list);
        }
    }

    /// The same for attributes that are numbers.
    fn numbers_to_inputs(&mut self, node: &mut Node, names: &[&str]) {
        for name in names {
            let number = node.float(name).map(|number| Tensor::floats(name, &[], [number]));
            self.give_input(node, name, number);
        }
    }

    fn give_input(&mut self, node: &mut Node, name: &str, value: Option<Tensor>) {
        node.attribute.retain(|told| told.name.as_deref() != Some(name));
        node.input.push(value.map_or_else(String::new, |tensor| self.graph.add_constant(tensor)));
    }

    /// Sizes as an input since 13; how many parts there are is said since 18.
    fn split(&mut self, node: &mut Node) {
        if self.from < 13 && node.told("split").is_some() {
            self.lists_to_inputs(node, &["split"]);
        }
        if node.reads(1).is_none() {
            node.attribute.push(Attribute::int("num_outputs", node.output.len() as i64));
        }
    }

    /// Before 13 a softmax is over all axes from one on: of the value with those as one.
    fn flat(&mut self, mut node: Node) {
        let axis = node.int("axis").unwrap_or(1);
        let last = vec![Attribute::int("axis", -1)];
        let (Some(x), Some(y)) = (node.reads(0), node.makes(0)) else { return self.graph.nodes.push(node) };
        if axis == -1 {
            node.attribute = last;
            return self.graph.nodes.push(node);
        }
        let flat = self.graph.add("Flatten", &[x], vec![Attribute::int("axis", axis)]);
        let soft = self.graph.add(node.op(), &[&flat], last);
        let shape = self.graph.add("Shape", &[x], Vec::new());
        self.graph.nodes.push(Node::new("Reshape", &[&soft, &shape], &[y], Vec::new()));
    }
}

/// The forerunners of today's `Resize` scaled from the corner.
fn resize(node: &mut Node, rounded: &str) {
    node.op_type = Some("Resize".to_owned());
    node.input.insert(node.input.len().min(1), String::new());
    node.attribute.push(Attribute::string("coordinate_transformation_mode", "asymmetric"));
    node.attribute.push(Attribute::string("nearest_mode", rounded));
}

/// Which of two pixels the runtime takes for a `Resize` of operator set 10: the one above along an axis that becomes
/// smaller, else the one below. Today's node takes one way for all axes.
fn rounding(node: &Node, graph: &Graph) -> Result<&'static str, &'static str> {
    if !matches!(node.text("mode"), None | Some("nearest")) {
        return Ok("floor");
    }
    let scales = node.reads(1).and_then(|name| numbers(name, graph)).ok_or("its scales are no constant")?;
    match (scales.iter().any(|scale| *scale < 1.0), scales.iter().any(|scale| *scale > 1.0)) {
        (true, true) => Err("it makes one axis smaller and another larger"),
        (true, false) => Ok("ceil"),
        (false, _) => Ok("floor"),
    }
}

/// The numbers of a constant, which may still be a node.
fn numbers(name: &str, graph: &Graph) -> Option<Vec<f64>> {
    let maker = || graph.nodes.iter().find(|node| node.is("Constant") && node.makes(0) == Some(name));
    let tensor = graph.constant(name).or_else(|| maker()?.told("value")?.t.as_ref())?;
    tensor.to_numbers().ok()
}
