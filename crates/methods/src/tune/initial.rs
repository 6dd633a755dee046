//! What weights are before any training, by the operator that reads them.

use headstart_onnx::proto::Node;

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

impl Initial {
    /// What is common for a weight of that shape as the node's input at `place`: convolutions after He et al. 2015, scales 1,
    /// biases 0; matrices as BERT's where `layers` are normalised, else after Glorot and Bengio ("Understanding the difficulty
    /// of training deep feedforward neural networks", AISTATS 2010).
    pub(super) fn of(node: &Node, place: usize, shape: &[usize], layers: bool) -> Self {
        let scale = if place == 1 { Self::Constant(1.0) } else { Self::Constant(0.0) };
        match (node.op_type.as_deref().unwrap_or_default(), shape) {
            ("BatchNormalization" | "InstanceNormalization" | "LayerNormalization", _) => scale,
            ("Conv", [_, within @ ..]) if !within.is_empty() => Self::Normal(he(within.iter().product())),
            // `[inputs, outputs a group, …]`: each output sees all of the inputs, under one of the kernel's places or more.
            ("ConvTranspose", [inputs, _, ..]) => Self::Normal(he(*inputs)),
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

/// The deviation that keeps the spread of what passes through such a layer and a rectifier.
fn he(inputs: usize) -> f32 {
    (2.0 / inputs.max(1) as f32).sqrt()
}

/// Of the standard normal distribution (Box and Muller 1958).
fn normal(chance: &mut Rng) -> f32 {
    let (radius, angle) = (1.0 - chance.unit(), chance.unit());
    ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_by(operator: &str, place: usize, shape: &[usize]) -> Initial {
        Initial::of(&Node::new(operator, &[], &[], Vec::new()), place, shape, false)
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
        assert_eq!(Initial::of(&node, 1, &[384, 1536], true), Initial::Normal(NARROW));
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
