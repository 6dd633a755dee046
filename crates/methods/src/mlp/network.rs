//! One hidden layer: its forward pass, its gradient, and a step of training.

use ndarray::{Array1, Array2, ArrayView2, Axis, linalg::general_mat_mul};

use crate::{data::Targets, optim::adamw::AdamW, rng::Rng};

/// Weights and biases of `dim → hidden → classes` with ReLU between.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    pub(super) first: Array2<f32>,
    pub(super) first_bias: Array1<f32>,
    pub(super) second: Array2<f32>,
    pub(super) second_bias: Array1<f32>,
}

impl Network {
    /// He's initial weights (He et al., ICCV 2015), uniform; biases zero.
    pub(super) fn new(dim: usize, hidden: usize, classes: usize, rng: &mut Rng) -> Self {
        let mut layer = |rows: usize, columns: usize, gain: f64| {
            let bound = (gain / columns as f64).sqrt();
            Array2::from_shape_fn((rows, columns), |_| ((2.0 * rng.unit() - 1.0) * bound) as f32)
        };
        let first = layer(hidden, dim, 6.0);
        let second = layer(classes, hidden, 3.0);
        Self { first, first_bias: Array1::zeros(hidden), second, second_bias: Array1::zeros(classes) }
    }

    /// How many numbers.
    pub(super) fn size(&self) -> usize {
        self.first.len() + self.first_bias.len() + self.second.len() + self.second_bias.len()
    }

    /// All numbers in one row, for a checkpoint.
    pub(super) fn flat(&self) -> Vec<f32> {
        let biases = self.first_bias.iter().chain(&self.second).chain(&self.second_bias);
        self.first.iter().chain(biases).copied().collect()
    }

    /// Takes in what [`Network::flat`] gave; `None` when the length differs.
    pub(super) fn fill(&mut self, flat: &[f32]) -> Option<()> {
        if flat.len() != self.size() {
            return None;
        }
        let biases = self.first_bias.iter_mut().chain(&mut self.second).chain(&mut self.second_bias);
        self.first.iter_mut().chain(biases).zip(flat).for_each(|(to, &from)| *to = from);
        Some(())
    }

    /// Logits of `x` (`n × dim`).
    pub(super) fn logits(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut hidden = affine(x, &self.first, &self.first_bias);
        hidden.mapv_inplace(|value| value.max(0.0));
        affine(hidden.view(), &self.second, &self.second_bias)
    }

    /// The mean loss of a minibatch and its gradient, hidden units dropped at the rate `dropout`.
    pub(super) fn gradient(
        &self,
        x: ArrayView2<'_, f32>,
        targets: &Targets,
        dropout: f32,
        rng: &mut Rng,
    ) -> (f64, Self) {
        let mut hidden = affine(x, &self.first, &self.first_bias);
        let kept = 1.0 / (1.0 - dropout);
        // What a unit's activation is multiplied with: 0 where it is off or dropped.
        let gates = hidden.mapv(|value| {
            let dropped = dropout > 0.0 && rng.unit() < f64::from(dropout);
            if value > 0.0 && !dropped { kept } else { 0.0 }
        });
        hidden *= &gates;
        let mut z = affine(hidden.view(), &self.second, &self.second_bias);
        let loss = derivative(&mut z, targets);
        let mut second = Array2::zeros(self.second.dim());
        general_mat_mul(1.0, &z.t(), &hidden, 0.0, &mut second);
        let mut back = Array2::zeros(hidden.dim());
        general_mat_mul(1.0, &z, &self.second, 0.0, &mut back);
        back *= &gates;
        let mut first = Array2::zeros(self.first.dim());
        general_mat_mul(1.0, &back.t(), &x, 0.0, &mut first);
        let (first_bias, second_bias) = (back.sum_axis(Axis(0)), z.sum_axis(Axis(0)));
        (loss, Self { first, first_bias, second, second_bias })
    }

    /// One step of `adam` along `gradient`.
    pub(super) fn step(&mut self, gradient: &Self, adam: &mut AdamW) {
        adam.begin();
        let mut offset = 0;
        let parts = [
            (self.first.as_slice_mut(), gradient.first.as_slice(), true),
            (self.first_bias.as_slice_mut(), gradient.first_bias.as_slice(), false),
            (self.second.as_slice_mut(), gradient.second.as_slice(), true),
            (self.second_bias.as_slice_mut(), gradient.second_bias.as_slice(), false),
        ];
        for (to, by, decays) in parts {
            if let (Some(to), Some(by)) = (to, by) {
                adam.update(offset, to, by, decays);
                offset += by.len();
            }
        }
    }
}

fn affine(x: ArrayView2<'_, f32>, weights: &Array2<f32>, bias: &Array1<f32>) -> Array2<f32> {
    let mut z = Array2::zeros((x.nrows(), bias.len()));
    z.outer_iter_mut().for_each(|mut row| row.assign(bias));
    general_mat_mul(1.0, &x, &weights.t(), 1.0, &mut z);
    z
}

/// Logits to the derivative of the mean loss (summed over labels where there are several); gives that loss.
fn derivative(z: &mut Array2<f32>, targets: &Targets) -> f64 {
    let n = z.nrows().max(1) as f32;
    let mut loss = 0.0;
    for (row, mut z) in z.outer_iter_mut().enumerate() {
        let of = targets.of(row);
        if targets.is_multi() {
            for (class, z) in z.iter_mut().enumerate() {
                let y = if of.contains(&(class as u32)) { 1.0 } else { 0.0 };
                let away = (-z.abs()).exp();
                loss += f64::from(z.max(0.0) + away.ln_1p() - y * *z);
                let p = if *z >= 0.0 { 1.0 / (1.0 + away) } else { away / (1.0 + away) };
                *z = (p - y) / n;
            }
            continue;
        }
        let class = of.first().map_or(0, |&class| class as usize);
        let most = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let right = z.get(class).map_or(0.0, |z| z - most);
        z.mapv_inplace(|value| (value - most).exp());
        let sum = z.sum();
        loss += f64::from(sum.ln() - right);
        z.mapv_inplace(|value| value / sum / n);
        if let Some(p) = z.get_mut(class) {
            *p -= 1.0 / n;
        }
    }
    loss / f64::from(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_agree_with_finite_differences() {
        let mut rng = Rng::new(2);
        let x = Array2::from_shape_fn((8, 4), |_| rng.unit() as f32 - 0.5);
        let single = Targets::Single((0..8).map(|row| row % 3).collect());
        let several =
            Targets::Multi((0..8).map(|row| if row % 2 == 0 { vec![0, 2] } else { vec![1] }).collect());
        for targets in [single, several] {
            let mut network = Network::new(4, 6, 3, &mut rng);
            // Same numbers at every call, so that the same units are dropped.
            let loss = |network: &Network| network.gradient(x.view(), &targets, 0.3, &mut Rng::new(9));
            let gradient = loss(&network).1.flat();
            let flat = network.flat();
            for (index, &slope) in gradient.iter().enumerate() {
                let mut at = |change: f32| {
                    let mut moved = flat.clone();
                    moved[index] += change;
                    network.fill(&moved).unwrap();
                    loss(&network).0
                };
                let estimate = (at(2e-3) - at(-2e-3)) / 4e-3;
                assert!((estimate - f64::from(slope)).abs() < 2e-3, "{index}: {estimate} {slope}");
            }
        }
    }
}
