//! What weights are before any training, by the operator that reads them.

use std::collections::HashSet;

use headstart_onnx::proto::Node;
use headstart_onnx_grad::Graph;

use crate::rng::Rng;

/// Of tables of embeddings, and of the matrices between layer normalisations (Devlin et al., "BERT", NAACL 2019): with larger
/// ones attention blurs what texts differ in.
const NARROW: f32 = 0.02;

/// Of the slopes of `PRelu` (He et al., "Delving deep into rectifiers", ICCV 2015).
const SLOPE: f32 = 0.25;

/// How a weight is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// The same everywhere.
    Constant(f32),
    /// Normally around 0, with this deviation.
    Normal(f32),
    /// Uniformly, at most so far from 0.
    Uniform(f32),
}

/// What is made of a convolution's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onward {
    /// Half of it is cut off.
    Rectified,
    /// It is added to what it was made of, as the last of a residual block.
    Residual,
    /// Anything else.
    Other,
}

impl Onward {
    /// Of a graph's node; convolutions alone are drawn by it.
    pub(super) fn of(graph: &Graph, at: usize) -> Self {
        let nodes = graph.nodes();
        let Some(output) = nodes.get(at).filter(|node| node.is("Conv")).and_then(|node| node.makes(0)) else {
            return Self::Other;
        };
        let mut onward = Self::Other;
        for reader in nodes.iter().filter(|node| node.reads_all().contains(&output)) {
            let other = reader.reads_all().into_iter().find(|value| *value != output);
            if reader.is("Add") && other.is_some_and(|other| comes_of(nodes, at, other)) {
                return Self::Residual;
            }
            if RECTIFIERS.iter().any(|operator| reader.is(operator)) {
                onward = Self::Rectified;
            }
        }
        onward
    }
}

/// Operators that cut off or damp about half of what they read.
const RECTIFIERS: [&str; 8] =
    ["Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "Sigmoid", "HardSigmoid", "Gelu"];

/// Whether a node's value is computed from another.
fn comes_of(nodes: &[Node], at: usize, value: &str) -> bool {
    let mut wanted: HashSet<&str> =
        nodes.get(at).map(|node| node.reads_all().into_iter().collect()).unwrap_or_default();
    for node in nodes.iter().take(at).rev() {
        if wanted.contains(value) {
            return true;
        }
        if node.output.iter().any(|made| wanted.contains(made.as_str())) {
            wanted.extend(node.reads_all());
        }
    }
    wanted.contains(value)
}

impl Initial {
    /// What is common for a weight of that shape as the node's input at `place`. Scales are 1 and biases 0. Convolutions are drawn
    /// after He et al. 2015, with less spread where nothing is cut off; those that end a residual block are 0, since the
    /// statistics of no batch keep what is added up in bounds (Zhang et al., "Fixup initialization", ICLR 2019). Matrices are
    /// drawn as BERT's where `layers` are normalised, else after Glorot and Bengio ("Understanding the difficulty of training deep
    /// feedforward neural networks", AISTATS 2010).
    pub(super) fn of(node: &Node, place: usize, shape: &[usize], (layers, onward): (bool, Onward)) -> Self {
        let scale = if place == 1 { Self::Constant(1.0) } else { Self::Constant(0.0) };
        match (node.op_type.as_deref().unwrap_or_default(), shape) {
            ("BatchNormalization" | "InstanceNormalization" | "LayerNormalization", _) => scale,
            ("Conv", [_, within @ ..]) if !within.is_empty() => match onward {
                Onward::Rectified => Self::Normal(spread(2.0, within.iter().product())),
                Onward::Residual => Self::Constant(0.0),
                Onward::Other => Self::Normal(spread(1.0, within.iter().product())),
            },
            // `[inputs, outputs a group, …]`: each output sees all of the inputs, under one of the kernel's places or more.
            ("ConvTranspose", [inputs, _, ..]) => Self::Normal(spread(2.0, *inputs)),
            ("Gather", _) => Self::Normal(NARROW),
            ("MatMul" | "Gemm", [.., _, _]) if layers => Self::Normal(NARROW),
            ("MatMul" | "Gemm", [.., rows, columns]) => {
                Self::Uniform((6.0 / (rows + columns).max(1) as f32).sqrt())
            }
            ("Mul", _) => Self::Constant(1.0),
            ("PRelu", _) => Self::Constant(SLOPE),
            // A table of positions is added too.
            ("Add", shape) if shape.iter().filter(|size| **size > 1).count() > 1 => Self::Normal(NARROW),
            _ => Self::Constant(0.0),
        }
    }

    pub(super) fn fill(self, values: &mut [f32], chance: &mut Rng) {
        match self {
            Self::Constant(value) => values.fill(value),
            Self::Normal(deviation) => {
                values.iter_mut().for_each(|value| *value = deviation * normal(chance))
            }
            Self::Uniform(bound) => {
                values.iter_mut().for_each(|value| *value = (chance.unit() * 2.0 - 1.0) as f32 * bound);
            }
        }
    }
}

/// The deviation that keeps the spread of what passes through such a layer, of which `gain` is made up for: 2 for a rectifier.
fn spread(gain: f32, inputs: usize) -> f32 {
    (gain / inputs.max(1) as f32).sqrt()
}

/// Of the standard normal distribution (Box and Muller 1958).
fn normal(chance: &mut Rng) -> f32 {
    let (radius, angle) = (1.0 - chance.unit(), chance.unit());
    ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::Onward::{Other, Rectified, Residual};
    use super::*;

    fn read_by(operator: &str, place: usize, shape: &[usize]) -> Initial {
        Initial::of(&Node::new(operator, &[], &[], Vec::new()), place, shape, (false, Onward::Rectified))
    }

    #[test]
    fn scales_are_one_biases_zero_and_the_rest_is_drawn() {
        assert_eq!(read_by("LayerNormalization", 1, &[384]), Initial::Constant(1.0));
        assert_eq!(read_by("LayerNormalization", 2, &[384]), Initial::Constant(0.0));
        assert_eq!(read_by("Gemm", 2, &[384]), Initial::Constant(0.0));
        assert_eq!(read_by("Add", 1, &[384]), Initial::Constant(0.0));
        assert_eq!(read_by("Add", 1, &[1, 197, 192]), Initial::Normal(NARROW));
        assert_eq!(read_by("Conv", 1, &[16, 8, 3, 3]), Initial::Normal((2.0f32 / 72.0).sqrt()));
        assert_eq!(read_by("Conv", 2, &[16]), Initial::Constant(0.0));
        assert_eq!(read_by("Gemm", 1, &[384, 384]), Initial::Uniform((6.0f32 / 768.0).sqrt()));
    }

    #[test]
    fn matrices_between_layer_normalisations_are_narrow() {
        let node = Node::new("MatMul", &[], &[], Vec::new());
        let drawn = Initial::of(&node, 1, &[384, 1536], (true, Onward::Other));
        assert_eq!(drawn, Initial::Normal(NARROW));
    }

    #[test]
    fn convolutions_are_drawn_by_what_is_made_of_them() {
        let conv = |input: &str, output: &str| Node::new("Conv", &[input, "w"], &[output], Vec::new());
        let nodes = vec![
            conv("x", "stem"),
            Node::new("Relu", &["stem"], &["a"], Vec::new()),
            conv("a", "b"),
            conv("a", "short"),
            Node::new("Add", &["b", "short"], &["c"], Vec::new()),
            conv("c", "d"),
            Node::new("Clip", &["d"], &["e"], Vec::new()),
            conv("e", "f"),
            Node::new("Add", &["f", "c"], &["y"], Vec::new()),
        ];
        let inner = headstart_onnx::proto::Graph { node: nodes, ..Default::default() };
        let model = headstart_onnx::proto::Model { graph: Some(inner), ..Default::default() };
        let graph = Graph::new(model).unwrap();
        let found: Vec<Onward> = [0, 2, 3, 5, 7].map(|at| Onward::of(&graph, at)).to_vec();
        assert_eq!(found, [Rectified, Other, Other, Rectified, Residual], "a short cut is no residual");
        let drawn = |onward| Initial::of(&conv("x", "y"), 1, &[8, 4, 3, 3], (false, onward));
        assert_eq!(drawn(Rectified), Initial::Normal((2.0f32 / 36.0).sqrt()));
        assert_eq!(drawn(Other), Initial::Normal((1.0f32 / 36.0).sqrt()));
        assert_eq!(drawn(Residual), Initial::Constant(0.0));
    }

    #[test]
    fn what_is_drawn_has_the_spread_that_was_asked_for() {
        let mut values = vec![0.0; 20_000];
        for (initial, spread) in [(Initial::Normal(0.5), 0.5), (Initial::Uniform(0.3), 0.3 / 3.0f32.sqrt())] {
            initial.fill(&mut values, &mut Rng::new(7));
            let mean = values.iter().sum::<f32>() / 20_000.0;
            let deviation =
                (values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / 20_000.0).sqrt();
            assert!(mean.abs() < 0.01 && (deviation / spread - 1.0).abs() < 0.03, "{mean} {deviation}");
        }
    }
}
