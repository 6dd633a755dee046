//! The run: steps, scores after every epoch, the best weights kept, and between those and the first ones the best mix.

use std::ops::ControlFlow;

use headstart_types::runner::{RunnerError, Runners, Trained, Trainer};
use headstart_types::tensor::{DataType, Tensor, Values};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::batches::{self, Feed};
use super::choose::{Goal, Role};
use super::graph::Tunable;
use super::methods::of_rows;
use super::recipe::Recipe;
use super::schedule;
use super::state::State;
use crate::calibrate;
use crate::data::Targets;
use crate::error::MethodError;
use crate::method::{Checkpoint, Control};
use crate::optim::fused::{Optimiser, Pace};
use crate::rng::Rng;
use crate::score::accuracy;

/// Steps in a row that were not finite before the run is given up.
const MISSTEPS: u32 = 5;

/// Shares of the tuned weights that are tried against the first ones.
pub(super) const SHARES: [f32; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

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
    /// How much an answer counts, of rows without and with each class; all alike where absent. Of rows with one class each
    /// the second number alone counts, of pairs none does.
    pub class_weights: Option<&'a [[f32; 2]]>,
    /// Rows learnt from.
    pub learn: &'a [usize],
    /// Rows that stop the run and choose among its weights; never learnt from. Without any the last epoch is kept.
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
    /// How the rows held out fared; nothing where none are, or the head has no part.
    pub held_out: Option<Score>,
}

/// How rows fare that are not learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Share of the answers that were right.
    pub accuracy: f64,
    /// The same where rows weigh as their class does: it chooses among passes and mixtures.
    #[serde(default)]
    pub weighted: Option<f64>,
    /// Mean log loss.
    pub log_loss: f64,
}

impl Score {
    /// What scores are compared by, the better the higher.
    fn rank(&self) -> (f64, f64) {
        (self.weighted.unwrap_or(self.accuracy), -self.log_loss)
    }
}

/// How a mix of first and tuned weights does (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mixed {
    /// Share of the tuned weights: 0 is where the run began.
    pub share: f32,
    /// How the rows held out fare.
    pub held_out: Score,
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
    let pairs = work.tunable.goal == Goal::Pairs;
    let steps = batches::count(work.learn, work.targets, recipe.batch_size, pairs);
    let kept = steps * state.epochs.len() + state.batch;
    let mut run = Run { work, recipe, trainer, steps, kept };
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
    /// Of an epoch.
    steps: usize,
    /// The step after which what the run can go on from was last handed out.
    kept: usize,
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

    /// What is left of an epoch, and its score.
    fn epoch(&mut self, state: &mut State, control: &mut dyn Control) -> Result<(), MethodError> {
        let (epoch, size) = (state.epochs.len(), self.recipe.batch_size);
        let total = self.steps * self.recipe.epochs;
        let turn = (self.work.seed, epoch);
        let batches = match self.work.tunable.goal {
            Goal::Classes { .. } | Goal::Labels { .. } => {
                batches::of_epoch(self.work.learn, self.work.feed, size, turn)
            }
            Goal::Pairs => batches::of_pairs(self.work.learn, self.work.targets, size, turn),
        };
        for batch in batches.iter().skip(state.batch) {
            let loss = self.step(state, batch, total)?;
            state.batch += 1;
            // A step that was not finite moved nothing.
            if loss.is_finite() {
                state.loss += loss * batch.len() as f64;
                state.counted += batch.len();
            }
            let done = self.steps * epoch + state.batch;
            let told = Some(("loss", loss)).filter(|_| loss.is_finite());
            if control.progress(done, total, told.as_slice()) == ControlFlow::Break(()) {
                return Err(MethodError::Cancelled);
            }
            if state.batch < batches.len() {
                self.keep(state, done, control)?;
            }
        }
        let held_out = self.score(self.work.tune)?;
        let loss = state.loss / state.counted.max(1) as f64;
        let ended = Epoch { loss, held_out };
        // Where nothing is held out the last epoch is the best.
        let better = match (held_out, state.best().and_then(|best| best.held_out)) {
            (Some(new), Some(best)) => new.rank() > best.rank(),
            (None, _) | (_, None) => true,
        };
        state.epochs.push(ended);
        (state.batch, state.loss, state.counted) = (0, 0.0, 0);
        if better {
            state.best_epoch = epoch;
            state.best_weights = self.weights();
            state.stale = 0;
        } else {
            state.stale += 1;
        }
        self.keep(state, self.steps * (epoch + 1), control)
    }

    /// Hands out what the run can go on from, where enough steps were done since it last did: of a backbone it is large.
    fn keep(&mut self, state: &mut State, step: usize, control: &mut dyn Control) -> Result<(), MethodError> {
        if step < self.kept + self.recipe.checkpoint_steps {
            return Ok(());
        }
        self.kept = step;
        state.weights = self.weights();
        let last = state.epochs.last();
        let held_out = last.and_then(|epoch| epoch.held_out);
        let scores =
            held_out.map(|score| [("held_out_accuracy", score.accuracy), ("held_out_loss", score.log_loss)]);
        let metrics =
            last.map(|epoch| ("loss", epoch.loss)).into_iter().chain(scores.into_iter().flatten()).collect();
        control.checkpoint(Checkpoint { step, state: state.write()?, head: None, metrics });
        Ok(())
    }

    /// One step on a batch, in as many parts as the recipe asks for; its mean loss.
    fn step(&mut self, state: &mut State, batch: &[usize], total: usize) -> Result<f64, MethodError> {
        let step = self.steps * state.epochs.len() + state.batch;
        let mut chance = Rng::stream(self.work.seed.wrapping_add(1), step as u64);
        let whole: f32 = batch.iter().flat_map(|row| self.weights_of(*row)).sum();
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
    fn answers(&self, rows: &[usize], whole: f32) -> Vec<(String, Tensor)> {
        let names = self.work.tunable.loss_inputs.iter().cloned();
        let shares = rows.iter().flat_map(|row| self.weights_of(*row)).map(|weight| weight / whole);
        let tensors = match self.work.tunable.goal {
            Goal::Classes { .. } => {
                let class = |row: &usize| self.of(*row).first().copied().unwrap_or_default() as usize;
                vec![integers_of(rows.len(), rows.iter().map(class)), floats(vec![rows.len()], shares)]
            }
            Goal::Labels { smoothing } => {
                let shape = || vec![rows.len(), self.work.classes];
                let said = rows.iter().flat_map(|row| self.has(*row));
                let doubt = smoothing as f32 / 2.0;
                let said = said.map(|has| if has { 1.0 - doubt } else { doubt });
                vec![floats(shape(), said), floats(shape(), shares)]
            }
            Goal::Pairs => self.pairs(rows, shares.sum()),
        };
        names.zip(tensors).collect()
    }

    /// All pairs of rows: which, whether they share a class, and how much each counts. Those that do and those that do not
    /// count half each.
    fn pairs(&self, rows: &[usize], share: f32) -> Vec<Tensor> {
        let all = || (0..rows.len()).flat_map(|left| (left + 1..rows.len()).map(move |right| (left, right)));
        let classes = |at: usize| rows.get(at).map_or(&[][..], |row| self.of(*row));
        let alike: Vec<bool> = all()
            .map(|(left, right)| classes(left).iter().any(|class| classes(right).contains(class)))
            .collect();
        let count = alike.len();
        let same = alike.iter().filter(|alike| **alike).count();
        let weight = |alike: &bool| share * 0.5 / if *alike { same } else { count - same } as f32;
        let column = |place: fn((usize, usize)) -> usize| integers_of(count, all().map(place));
        vec![
            column(|(left, _)| left),
            column(|(_, right)| right),
            floats(vec![count], alike.iter().map(|alike| if *alike { 1.0 } else { 0.0 })),
            floats(vec![count], alike.iter().map(weight)),
        ]
    }

    fn of(&self, row: usize) -> &[u32] {
        self.work.targets.of(row)
    }

    /// Whether a row has each class.
    fn has(&self, row: usize) -> impl Iterator<Item = bool> {
        let of = self.of(row);
        (0..self.work.classes).map(move |class| of.binary_search(&(class as u32)).is_ok())
    }

    /// What a row's answers weigh: one number, or one for each class where they are given one by one.
    fn weights_of(&self, row: usize) -> Vec<f32> {
        let weight = |class: usize, has: bool| {
            let pair = self.work.class_weights.and_then(|weights| weights.get(class));
            pair.map_or(1.0, |[without, with]| if has { *with } else { *without })
        };
        match self.work.tunable.goal {
            Goal::Classes { .. } => {
                vec![self.of(row).first().map_or(1.0, |class| weight(*class as usize, true))]
            }
            Goal::Labels { .. } => self.has(row).enumerate().map(|(class, has)| weight(class, has)).collect(),
            Goal::Pairs => vec![1.0],
        }
    }

    /// How rows fare; nothing where there are none, or what is trained are the features.
    fn score(&mut self, rows: &[usize]) -> Result<Option<Score>, MethodError> {
        if rows.is_empty() || self.work.tunable.goal == Goal::Pairs {
            return Ok(None);
        }
        let (mut order, mut all) = (Vec::with_capacity(rows.len()), Vec::new());
        for batch in batches::by_length(rows, self.work.feed, self.recipe.batch_size) {
            let inputs = self.work.feed.batch(&batch, None)?;
            let given: Vec<(&str, &Tensor)> =
                inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            let outputs = self.trainer.look(&given, &[&self.work.tunable.output]).map_err(refused)?;
            all.extend(outputs.first().into_iter().flat_map(values));
            order.extend(batch);
        }
        let logits = Array2::from_shape_vec((order.len(), self.work.classes), all)
            .map_err(|_| MethodError::Graph("the graph gave other logits than one a class".into()))?;
        let targets = self.work.targets.select(&order);
        let weights = of_rows(self.work.class_weights);
        Ok(Some(Score {
            accuracy: accuracy(logits.view(), &targets, None),
            weighted: weights.map(|weights| accuracy(logits.view(), &targets, Some(&weights))),
            log_loss: calibrate::loss(logits.view(), &targets, 1.0),
        }))
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
            match self.score(self.work.tune)? {
                Some(held_out) => mixes.push(Mixed { share, held_out }),
                None => break,
            }
        }
        let better = |a: &&Mixed, b: &&Mixed| {
            let (a, b) = (a.held_out.rank(), b.held_out.rank());
            a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
        };
        let best = || mixes.iter().max_by(better).map_or(1.0, |mixed| mixed.share);
        let share = self.recipe.share.unwrap_or_else(best);
        let served = first.iter().zip(mix(share));
        let weights = served.map(|(weight, values)| Trained { values, ..weight.clone() }).collect();
        Ok(Tuned { weights, epochs: state.epochs, best: state.best_epoch, mixes, share })
    }
}

fn between(from: &[f32], to: &[f32], share: f32) -> Vec<f32> {
    if share == 1.0 {
        return to.to_vec();
    }
    from.iter().zip(to).map(|(from, to)| from + share * (to - from)).collect()
}

fn integers_of(count: usize, values: impl Iterator<Item = usize>) -> Tensor {
    let bytes: Vec<u8> = values.flat_map(|value| (value as i64).to_le_bytes()).collect();
    Tensor { shape: vec![count], values: Values::Fixed { datatype: DataType::Int64, bytes: bytes.into() } }
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
