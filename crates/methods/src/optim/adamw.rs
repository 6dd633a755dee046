//! AdamW: Adam with weight decay apart from the gradient.

/// The state of one run (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019), with the usual
/// β₁ = 0.9, β₂ = 0.999, ε = 1e-8.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// Step size.
    pub learning_rate: f32,
    /// Share of a weight that a step of size 1 takes away.
    pub weight_decay: f32,
    /// Steps made.
    pub steps: u32,
    /// Running means of the gradients.
    pub first: Vec<f32>,
    /// Running means of their squares.
    pub second: Vec<f32>,
}

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

impl AdamW {
    /// For `size` parameters.
    pub fn new(size: usize, learning_rate: f32, weight_decay: f32) -> Self {
        Self { learning_rate, weight_decay, steps: 0, first: vec![0.0; size], second: vec![0.0; size] }
    }

    /// Counts a step; [`AdamW::update`] is then called for every part of the parameters.
    pub fn begin(&mut self) {
        self.steps += 1;
    }

    /// Moves the parameters that start at `offset`. `decays` is false for biases.
    pub fn update(&mut self, offset: usize, parameters: &mut [f32], gradient: &[f32], decays: bool) {
        let end = offset + parameters.len();
        let (Some(first), Some(second)) = (self.first.get_mut(offset..end), self.second.get_mut(offset..end))
        else {
            return;
        };
        let steps = self.steps as i32;
        let rate = self.learning_rate / (1.0 - BETA1.powi(steps));
        let correction = (1.0 - BETA2.powi(steps)).sqrt().recip();
        let keep = 1.0 - if decays { self.learning_rate * self.weight_decay } else { 0.0 };
        for (((p, g), m), v) in parameters.iter_mut().zip(gradient).zip(first).zip(second) {
            *m = BETA1 * *m + (1.0 - BETA1) * g;
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
            *p = keep * *p - rate * *m / (v.sqrt() * correction + EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_the_steps_that_the_paper_defines() {
        // Two steps by hand, gradient 2 and then −1, from 1 with rate 0.1 and decay 0.01.
        let mut adam = AdamW::new(1, 0.1, 0.01);
        let mut x = [1.0f32];
        let (mut expected, mut m, mut v) = (1.0f64, 0.0f64, 0.0f64);
        for (t, g) in [(1, 2.0f64), (2, -1.0)] {
            adam.begin();
            adam.update(0, &mut x, &[g as f32], true);
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (m_hat, v_hat) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t)));
            expected -= 0.1 * (m_hat / (v_hat.sqrt() + 1e-8) + 0.01 * expected);
            assert!((f64::from(x[0]) - expected).abs() < 1e-5, "{x:?} {expected}");
        }
    }
}
