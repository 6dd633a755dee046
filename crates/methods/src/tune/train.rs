//! The run: steps, scores after every epoch, the best weights kept, and between those and the first ones the best mix.

use std::ops::ControlFlow;

use headstart_types::runner::{RunnerError, Runners, Trained, Trainer};
use headstart_types::tensor::{DataType, Tensor, Values};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::batches::{self, Feed};
use super::choose::Role;
use super::graph::Tunable;
use super::recipe::Recipe;
use super::schedule;
use super::state::State;
use crate::calibrate;
use crate::data::Targets;
use crate::error::MethodError;
use crate::method::{Checkpoint, Control};
use crate::optim::fused::{Optimiser, Pace};
use crate::rng::Rng;
use crate::score;

/// Steps in a row that were not finite before the run is given up.
const MISSTEPS: u32 = 5;

/// Shares of the tuned weights that are tried against the first ones.
const SHARES: [f32; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// What a run works on.
pub struct Work<'a> {
    /// The classifier.
    pub tunable: Tunable,
    /// The examples.
    pub feed: &'a dyn Feed,
    /// What is right for each row.
    pub targets: &'a Targets,
    /// How many classes there are.
    pub classes: usize,
    /// How much a row of each class counts; all alike where absent. A row of several classes counts once.
    pub class_weights: Option<&'a [f32]>,
    /// Rows learnt from.
    pub learn: &'a [usize],
    /// Rows that stop the run and choose among its weights; never learnt from.
    pub tune: &'a [usize],
    /// What order and augmentation come of.
    pub seed: u64,
    /// Threads of the steps of the optimiser. The result does not depend on them.
    pub threads: usize,
}

/// How one epoch went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Mean loss of the rows learnt from, as the weights moved.
    pub loss: f64,
    /// Share of the rows held out that were right.
    pub accuracy: f64,
    /// Mean log loss of the rows held out.
    pub log_loss: f64,
}

/// How a mix of first and tuned weights does (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mixed {
    /// Share of the tuned weights: 0 is where the run began.
    pub share: f32,
    /// Share of the rows held out that were right.
    pub accuracy: f64,
    /// Mean log loss of the rows held out.
    pub log_loss: f64,
}

/// What a run ends with.
#[derive(Debug, Clone)]
pub struct Tuned {
    /// The weights to serve: the best mix.
    pub weights: Vec<Trained>,
    /// Every epoch, in order.
    pub epochs: Vec<Epoch>,
    /// The epoch whose weights were kept.
    pub best: usize,
    /// The mixes that were tried.
    pub mixes: Vec<Mixed>,
    /// The share that was taken.
    pub share: f32,
}

/// Trains from wherever the control says it was left.
///
/// # Errors
/// [`MethodError::Cancelled`], [`MethodError::Diverged`] after several steps that were not finite, what the feed says, and
/// [`MethodError::Graph`] for what the runtime refuses.
pub fn train(
    work: &Work<'_>,
    recipe: &Recipe,
    runners: &dyn Runners,
    control: &mut dyn Control,
) -> Result<Tuned, MethodError> {
    let sizes: Vec<usize> = work.tunable.weights.iter().map(|weight| weight.values.len()).collect();
    let mut state = match control.resume() {
        Some(bytes) => State::read(&bytes, recipe.rule(), &sizes)?,
        None => State::new(Optimiser::new(recipe.rule(), &sizes), &work.tunable.weights),
    };
    let trainer = runners.trainer(&work.tunable.graphs, work.tunable.weights.clone()).map_err(refused)?;
    let mut run = Run { work, recipe, trainer };
    run.set(&state.weights);
    while state.epochs.len() < recipe.epochs && state.stale < recipe.patience {
        run.epoch(&mut state, control)?;
    }
    run.finish(state)
}

struct Run<'a> {
    work: &'a Work<'a>,
    recipe: &'a Recipe,
    trainer: Box<dyn Trainer>,
}

impl Run<'_> {
    fn set(&mut self, weights: &[Vec<f32>]) {
        for (weight, values) in self.trainer.weights().into_iter().zip(weights) {
            weight.values.copy_from_slice(values);
        }
    }

    fn weights(&mut self) -> Vec<Vec<f32>> {
        self.trainer.weights().into_iter().map(|weight| weight.values.to_vec()).collect()
    }

    fn steps_an_epoch(&self) -> usize {
        self.work.learn.len().div_ceil(self.recipe.batch_size)
    }

    /// What is left of an epoch, and its score.
    fn epoch(&mut self, state: &mut State, control: &mut dyn Control) -> Result<(), MethodError> {
        let (epoch, size) = (state.epochs.len(), self.recipe.batch_size);
        let total = self.steps_an_epoch() * self.recipe.epochs;
        let batches = batches::of_epoch(self.work.learn, self.work.feed, size, (self.work.seed, epoch));
        for batch in batches.iter().skip(state.batch) {
            let loss = self.step(state, batch, total)?;
            state.batch += 1;
            state.loss += loss * batch.len() as f64;
            let done = self.steps_an_epoch() * epoch + state.batch;
            if control.progress(done, total, &[("loss", loss)]) == ControlFlow::Break(()) {
                return Err(MethodError::Cancelled);
            }
            if done.is_multiple_of(self.recipe.checkpoint_steps) && state.batch < batches.len() {
                self.keep(state, done, control)?;
            }
        }
        let (accuracy, log_loss) = self.score(self.work.tune)?;
        let loss = state.loss / self.work.learn.len().max(1) as f64;
        let ended = Epoch { loss, accuracy, log_loss };
        let better = state.best().is_none_or(|best| (accuracy, -log_loss) > (best.accuracy, -best.log_loss));
        state.epochs.push(ended);
        (state.batch, state.loss) = (0, 0.0);
        if better {
            state.best_epoch = epoch;
            state.best_weights = self.weights();
            state.stale = 0;
        } else {
            state.stale += 1;
        }
        self.keep(state, self.steps_an_epoch() * (epoch + 1), control)
    }

    /// Hands out what the run can go on from.
    fn keep(&mut self, state: &mut State, step: usize, control: &mut dyn Control) -> Result<(), MethodError> {
        state.weights = self.weights();
        let metrics = state.epochs.last().map_or_else(Vec::new, |epoch| {
            vec![
                ("loss", epoch.loss),
                ("held_out_accuracy", epoch.accuracy),
                ("held_out_loss", epoch.log_loss),
            ]
        });
        control.checkpoint(Checkpoint { step, state: state.write()?, head: None, metrics });
        Ok(())
    }

    /// One step on a batch, in as many parts as the recipe asks for; its mean loss.
    fn step(&mut self, state: &mut State, batch: &[usize], total: usize) -> Result<f64, MethodError> {
        let step = self.steps_an_epoch() * state.epochs.len() + state.batch;
        let mut chance = Rng::stream(self.work.seed.wrapping_add(1), step as u64);
        let whole: f32 = batch.iter().map(|row| self.weight_of(*row)).sum();
        let each = batch.len().div_ceil(self.recipe.accumulate);
        let (mut loss, mut sums) = (0.0, Vec::new());
        for part in batch.chunks(each) {
            loss += self.pass(part, whole, &mut chance)?;
            if batch.len() > each {
                self.add_to(&mut sums);
            }
        }
        for (weight, sum) in self.trainer.weights().into_iter().zip(&sums) {
            weight.gradient.copy_from_slice(sum);
        }
        let factor = schedule::factor(step, total, self.recipe.warm_up) as f32;
        let paces = self.paces(factor);
        let (weights, clip) = (self.trainer.weights(), Some(self.recipe.clip));
        let stepped = state.optimiser.step(weights, &paces, clip, self.work.threads);
        let stepped = stepped.ok_or(MethodError::Unsuitable("weights are not those of the run".into()))?;
        state.missteps = if stepped.moved && loss.is_finite() { 0 } else { state.missteps + 1 };
        if state.missteps >= MISSTEPS { Err(MethodError::Diverged) } else { Ok(loss) }
    }

    /// Forward and backward for some rows of a step whose weights sum to `whole`.
    fn pass(&mut self, rows: &[usize], whole: f32, chance: &mut Rng) -> Result<f64, MethodError> {
        let mut inputs = self.work.feed.batch(rows, Some(chance))?;
        inputs.extend(self.answers(rows, whole));
        let given: Vec<(&str, &Tensor)> =
            inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let outputs = self.trainer.step(&given, &[&self.work.tunable.loss]).map_err(refused)?;
        let loss = outputs.first().and_then(|loss| values(loss).next());
        loss.map(f64::from).ok_or_else(|| MethodError::Graph("the graph gave no loss".into()))
    }

    fn add_to(&mut self, sums: &mut Vec<Vec<f32>>) {
        let weights = self.trainer.weights();
        if sums.is_empty() {
            *sums = weights.into_iter().map(|weight| weight.gradient.to_vec()).collect();
            return;
        }
        for (sum, weight) in sums.iter_mut().zip(weights) {
            sum.iter_mut().zip(weight.gradient).for_each(|(sum, part)| *sum += *part);
        }
    }

    /// Step sizes and decay of each weight.
    fn paces(&self, factor: f32) -> Vec<Pace> {
        let recipe = self.recipe;
        let weights = self.work.tunable.weights.iter().zip(&self.work.tunable.roles);
        let pace = |(weight, role): (&Trained, &Role)| {
            let share = match role {
                Role::Head => recipe.head_rate,
                Role::Backbone(depth) => recipe.layer_decay.powf(1.0 - depth),
                Role::Down { .. } | Role::Up => 1.0,
            };
            Pace {
                learning_rate: recipe.learning_rate * share * factor,
                weight_decay: if weight.shape.len() > 1 { recipe.weight_decay } else { 0.0 },
            }
        };
        weights.map(pace).collect()
    }

    /// What the loss reads beside the batch.
    fn answers(&self, rows: &[usize], whole: f32) -> [(String, Tensor); 2] {
        let [answers, weights] = &self.work.tunable.loss_inputs;
        let share = |row: &usize| self.weight_of(*row) / whole;
        if !self.work.tunable.multi_label {
            let class = |row: &usize| i64::from(self.of(*row).first().copied().unwrap_or_default());
            let shares = rows.iter().map(share);
            return [
                (answers.clone(), integers(rows.iter().map(class))),
                (weights.clone(), floats(vec![rows.len()], shares)),
            ];
        }
        let classes = self.work.classes;
        let has = |row: &usize, class: usize| self.of(*row).binary_search(&(class as u32)).is_ok();
        let said =
            rows.iter().flat_map(|row| (0..classes).map(move |class| f32::from(u8::from(has(row, class)))));
        let shares =
            rows.iter().flat_map(|row| std::iter::repeat_n(share(row) / classes.max(1) as f32, classes));
        let shape = || vec![rows.len(), classes];
        [(answers.clone(), floats(shape(), said)), (weights.clone(), floats(shape(), shares))]
    }

    fn of(&self, row: usize) -> &[u32] {
        self.work.targets.of(row)
    }

    fn weight_of(&self, row: usize) -> f32 {
        let weight = |class: &u32| {
            let weights = self.work.class_weights?;
            weights.get(*class as usize).copied()
        };
        self.of(row)
            .iter()
            .filter_map(weight)
            .fold(None, |most: Option<f32>, weight| Some(most.map_or(weight, |most| most.max(weight))))
            .unwrap_or(1.0)
    }

    /// Share of answers that are right, and the mean log loss.
    fn score(&mut self, rows: &[usize]) -> Result<(f64, f64), MethodError> {
        let (mut right, mut loss) = (0.0, 0.0);
        for batch in batches::by_length(rows, self.work.feed, self.recipe.batch_size) {
            let inputs = self.work.feed.batch(&batch, None)?;
            let given: Vec<(&str, &Tensor)> =
                inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            let outputs = self.trainer.look(&given, &[&self.work.tunable.logits]).map_err(refused)?;
            let logits: Vec<f32> = outputs.first().map(|logits| values(logits).collect()).unwrap_or_default();
            let logits = Array2::from_shape_vec((batch.len(), logits.len() / batch.len().max(1)), logits)
                .map_err(|_| MethodError::Graph("the graph gave other logits than one a class".into()))?;
            let targets = self.work.targets.select(&batch);
            right += score::accuracy(logits.view(), &targets, None) * batch.len() as f64;
            loss += calibrate::loss(logits.view(), &targets, 1.0) * batch.len() as f64;
        }
        let count = rows.len().max(1) as f64;
        Ok((right / count, loss / count))
    }

    /// The best mix of the weights that the run began with and those it kept.
    fn finish(mut self, state: State) -> Result<Tuned, MethodError> {
        let first = &self.work.tunable.weights;
        let mut mixes = Vec::with_capacity(SHARES.len());
        let mix = |share: f32| -> Vec<Vec<f32>> {
            let pairs = first.iter().zip(&self.work.tunable.roles).zip(&state.best_weights);
            // Of two factors one is mixed: their product is to be.
            let mixed = |((from, role), to): ((&Trained, &Role), &Vec<f32>)| match role {
                Role::Down { .. } => to.clone(),
                Role::Head | Role::Backbone(_) | Role::Up => between(&from.values, to, share),
            };
            pairs.map(mixed).collect()
        };
        for share in SHARES {
            self.set(&mix(share));
            let (accuracy, log_loss) = self.score(self.work.tune)?;
            mixes.push(Mixed { share, accuracy, log_loss });
        }
        let better = |a: &&Mixed, b: &&Mixed| {
            a.accuracy.total_cmp(&b.accuracy).then(b.log_loss.total_cmp(&a.log_loss))
        };
        let share = mixes.iter().max_by(better).map_or(1.0, |mixed| mixed.share);
        let served = first.iter().zip(mix(share));
        let weights = served.map(|(weight, values)| Trained { values, ..weight.clone() }).collect();
        Ok(Tuned { weights, epochs: state.epochs, best: state.best_epoch, mixes, share })
    }
}

fn between(from: &[f32], to: &[f32], share: f32) -> Vec<f32> {
    from.iter().zip(to).map(|(from, to)| from + share * (to - from)).collect()
}

fn integers(values: impl ExactSizeIterator<Item = i64>) -> Tensor {
    let shape = vec![values.len()];
    let bytes: Vec<u8> = values.flat_map(i64::to_le_bytes).collect();
    Tensor { shape, values: Values::Fixed { datatype: DataType::Int64, bytes: bytes.into() } }
}

fn floats(shape: Vec<usize>, values: impl Iterator<Item = f32>) -> Tensor {
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    Tensor { shape, values: Values::Fixed { datatype: DataType::Fp32, bytes: bytes.into() } }
}

/// The elements of a tensor of 32-bit floats; none of another.
fn values(tensor: &Tensor) -> impl Iterator<Item = f32> {
    let bytes = match &tensor.values {
        Values::Fixed { datatype: DataType::Fp32, bytes } => bytes.as_ref(),
        Values::Fixed { .. } | Values::Strings(_) => &[],
    };
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

fn refused(error: RunnerError) -> MethodError {
    MethodError::Graph(error.to_string())
}
