//! The numbers that say how a backbone is tuned.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::MethodError;
use crate::linear_probe::ClassWeight;
use crate::method::{Checked, hyperparameter};
use crate::optim::fused::Rule;

/// Which optimiser trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimiserKind {
    /// AdamW with betas of 0.9 and 0.999 and an epsilon of 1e-8 (Loshchilov and Hutter, 2019).
    Adamw,
    /// Gradient descent with a momentum of 0.9.
    Sgd,
}

/// Hyperparameters of every method that trains a graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the examples.
    pub epochs: usize,
    /// Examples a step.
    pub batch_size: usize,
    /// Parts that a step's examples are computed in, one after the other: less memory, the same step.
    pub accumulate: usize,
    /// The optimiser.
    pub optimiser: OptimiserKind,
    /// Learning rate of the backbone's last weights.
    pub learning_rate: f32,
    /// The head's learning rate as a multiple of `learning_rate`.
    pub head_rate: f32,
    /// The learning rate of the backbone's first weights as a share of that of its last; those between lie on a geometric
    /// line.
    pub layer_decay: f32,
    /// Share of a weight that a step at a learning rate of 1 takes away; biases and scales keep theirs.
    pub weight_decay: f32,
    /// Share of the steps over which the learning rate rises.
    pub warm_up: f64,
    /// Largest L2 norm of the gradient over all weights together; a longer one is scaled down to it.
    pub clip: f32,
    /// Share of a label's mass that goes to all classes alike.
    pub label_smoothing: f64,
    /// What a mistake weighs by class, as the linear probe has it: `null`, `"balanced"`, or a number a class.
    pub class_weight: Value,
    /// Epochs without a better score on the rows held out before the end.
    pub patience: usize,
    /// Share of the tuned weights that is served, the rest being the first ones; what held-out rows like best where null.
    pub share: Option<f32>,
    /// Whether tables of embeddings are trained too.
    pub embeddings: bool,
    /// Whether pictures are varied at random: parts of them, mirrored or not.
    pub augment: bool,
    /// Share of a text's tokens that are left out at random in each step.
    pub token_dropout: f64,
    /// Whether the same graph is trained from random weights too, for the report: it takes as long again.
    pub from_random: bool,
    /// Steps between two checkpoints, at least.
    pub checkpoint_steps: usize,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 32,
            accumulate: 1,
            optimiser: OptimiserKind::Adamw,
            learning_rate: 5e-5,
            head_rate: 10.0,
            layer_decay: 0.5,
            weight_decay: 0.01,
            warm_up: 0.1,
            clip: 1.0,
            label_smoothing: 0.0,
            class_weight: Value::Null,
            patience: 2,
            share: None,
            embeddings: false,
            augment: true,
            token_dropout: 0.0,
            from_random: false,
            checkpoint_steps: 100,
        }
    }
}

impl Checked for Recipe {
    fn check(&self) -> Result<(), MethodError> {
        let within = |name: &str, good: bool, range: &str| {
            if good { Ok(()) } else { Err(hyperparameter(name, format!("must be {range}"))) }
        };
        within("epochs", (1..=1000).contains(&self.epochs), "1 to 1000")?;
        within("batch_size", (1..=4096).contains(&self.batch_size), "1 to 4096")?;
        within("accumulate", (1..=self.batch_size).contains(&self.accumulate), "1 to `batch_size`")?;
        within("learning_rate", self.learning_rate > 0.0 && self.learning_rate <= 1.0, "above 0, at most 1")?;
        within("head_rate", (0.0..=1000.0).contains(&self.head_rate), "0 to 1000")?;
        within("layer_decay", self.layer_decay > 0.0 && self.layer_decay <= 1.0, "above 0, at most 1")?;
        within("weight_decay", (0.0..=1.0).contains(&self.weight_decay), "0 to 1")?;
        within("warm_up", (0.0..=1.0).contains(&self.warm_up), "0 to 1")?;
        within("clip", self.clip > 0.0 && self.clip.is_finite(), "above 0")?;
        within("label_smoothing", (0.0..0.5).contains(&self.label_smoothing), "0 to below 0.5")?;
        within("patience", (1..=1000).contains(&self.patience), "1 to 1000")?;
        within("share", self.share.is_none_or(|share| (0.0..=1.0).contains(&share)), "0 to 1, or null")?;
        within("token_dropout", (0.0..0.9).contains(&self.token_dropout), "0 to below 0.9")?;
        within("checkpoint_steps", (1..=1_000_000).contains(&self.checkpoint_steps), "1 to 1000000")?;
        ClassWeight::read(&self.class_weight).map(|_| ())
    }
}

impl Recipe {
    pub(super) fn rule(&self) -> Rule {
        match self.optimiser {
            OptimiserKind::Adamw => Rule::AdamW { betas: (0.9, 0.999), epsilon: 1e-8 },
            OptimiserKind::Sgd => Rule::Sgd { momentum: 0.9 },
        }
    }
}
