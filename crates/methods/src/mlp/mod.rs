//! One hidden layer on frozen features, trained by AdamW with dropout and stopped on held-out rows.

mod network;

use std::{collections::BTreeMap, sync::Arc};

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    container::{Reader, Writer},
    data::{self, Examples},
    error::MethodError,
    head::{Head, HeadParts, Tail},
    method::{Checked, Checkpoint, Control, FitData, Fitted, HeldOut, Method, Params, hyperparameter},
    optim::adamw::AdamW,
    rng::Rng,
    score::{self, Score},
    split::{self, SplitError},
};
use network::Network;

/// The method; see the module.
#[derive(Debug, Clone, Copy)]
pub struct Mlp;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hyperparameters {
    hidden: usize,
    epochs: usize,
    /// Epochs without a smaller held-out loss before the end.
    patience: usize,
    /// By the number of rows when null.
    batch_size: Option<usize>,
    learning_rate: f32,
    weight_decay: f32,
    dropout: f32,
    /// The share of rows held out for stopping, where no validation rows are given.
    held_out: f64,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self {
            hidden: 256,
            epochs: 60,
            patience: 6,
            batch_size: None,
            learning_rate: 1e-3,
            weight_decay: 0.01,
            dropout: 0.3,
            held_out: 0.15,
        }
    }
}

const NAME: &str = "mlp";
/// About so many steps an epoch where the batch size is left open, within [`BATCHES`].
const STEPS_AN_EPOCH: usize = 16;
/// The batch sizes that are chosen from.
const BATCHES: (usize, usize) = (8, 64);
/// Fewer rows than this are all learnt from.
const FEWEST_TO_HOLD_OUT: usize = 10;

impl Checked for Hyperparameters {
    fn check(&self) -> Result<(), MethodError> {
        let checks = [
            ("hidden", (1..=8192).contains(&self.hidden), "must lie between 1 and 8192"),
            ("epochs", (1..=10_000).contains(&self.epochs), "must lie between 1 and 10000"),
            ("patience", (1..=10_000).contains(&self.patience), "must lie between 1 and 10000"),
            (
                "batch_size",
                self.batch_size.is_none_or(|size| (1..=65_536).contains(&size)),
                "must lie between 1 and 65536",
            ),
            ("learning_rate", (1e-7..=1.0).contains(&self.learning_rate), "must lie between 1e-7 and 1"),
            ("weight_decay", (0.0..=10.0).contains(&self.weight_decay), "must lie between 0 and 10"),
            ("dropout", (0.0..=0.9).contains(&self.dropout), "must lie between 0 and 0.9"),
            ("held_out", (0.01..=0.5).contains(&self.held_out), "must lie between 0.01 and 0.5"),
        ];
        match checks.into_iter().find(|(_, fits, _)| !fits) {
            Some((name, _, problem)) => Err(hyperparameter(name, problem)),
            None => Ok(()),
        }
    }
}

impl Method for Mlp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "One hidden layer on frozen features: AdamW, dropout, early stopping, a checkpoint that can serve every epoch."
    }

    fn check(&self, given: &Map<String, Value>) -> Result<Params, MethodError> {
        Params::resolved::<Hyperparameters>(given)
    }

    fn fit(
        &self,
        data: &FitData<'_>,
        params: &Params,
        seed: u64,
        control: &mut dyn Control,
    ) -> Result<Fitted, MethodError> {
        let given: Hyperparameters = Params::checked(params.as_map())?;
        let (learnt, watched, rows) = parts(data, given.held_out, seed)?;
        let scaling = Scaling::of(learnt.features());
        let run = Run {
            x: scaling.apply(learnt.features()),
            watched_x: watched.as_ref().map(|watched| scaling.apply(watched.features())),
            learnt,
            watched,
            scaling,
            given,
            params,
            data,
            seed,
        };
        run.train(control, rows)
    }
}

/// The rows to learn from, the rows to watch, and the latter's numbers.
fn parts(
    data: &FitData<'_>,
    share: f64,
    seed: u64,
) -> Result<(Examples, Option<Examples>, Vec<usize>), MethodError> {
    let train = data.train;
    if let Some(validation) = data.validation {
        if validation.dim() != train.dim() {
            return Err(MethodError::Width { expected: train.dim(), given: validation.dim() });
        }
        let rows = (train.len()..train.len() + validation.len()).collect();
        return Ok((train.clone(), Some(validation.clone()), rows));
    }
    if train.len() < FEWEST_TO_HOLD_OUT.max(2 * train.classes().len()) || data::units(train) < 2 {
        return Ok((train.clone(), None, Vec::new()));
    }
    match split::hold_out(train.targets(), train.classes().len(), train.groups(), share, seed) {
        Ok(split) => Ok((train.select(&split.train), Some(train.select(&split.held_out)), split.held_out)),
        Err(SplitError::WholeClasses) => Ok((train.clone(), None, Vec::new())),
        Err(error) => Err(error.into()),
    }
}

/// What brings every feature to mean 0 and deviation 1.
struct Scaling {
    mean: Vec<f32>,
    scale: Vec<f32>,
}

impl Scaling {
    fn of(x: ArrayView2<'_, f32>) -> Self {
        let n = x.nrows() as f64;
        let (mut mean, mut scale) = (Vec::new(), Vec::new());
        for column in x.axis_iter(Axis(1)) {
            let average = column.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
            let variance = column.iter().map(|&value| (f64::from(value) - average).powi(2)).sum::<f64>() / n;
            mean.push(average as f32);
            // A constant feature says nothing; it is centred and left alone.
            scale.push(if variance > 1e-12 { variance.sqrt().recip() as f32 } else { 1.0 });
        }
        Self { mean, scale }
    }

    fn apply(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut scaled = x.to_owned();
        for mut row in scaled.outer_iter_mut() {
            for ((value, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *value = (*value - mean) * scale;
            }
        }
        scaled
    }
}

#[derive(Clone)]
struct Progress {
    epoch: usize,
    network: Network,
    adam: AdamW,
    best: Best,
}

#[derive(Clone)]
struct Best {
    epoch: usize,
    score: Option<Score>,
    network: Network,
}

#[derive(Serialize, Deserialize)]
struct State {
    epoch: usize,
    steps: u32,
    best_epoch: usize,
    score: Option<Score>,
}

struct Run<'a> {
    x: Array2<f32>,
    watched_x: Option<Array2<f32>>,
    learnt: Examples,
    watched: Option<Examples>,
    scaling: Scaling,
    given: Hyperparameters,
    params: &'a Params,
    data: &'a FitData<'a>,
    seed: u64,
}

impl Run<'_> {
    fn train(&self, control: &mut dyn Control, rows: Vec<usize>) -> Result<Fitted, MethodError> {
        let mut now = self.start();
        if let Some(state) = control.resume() {
            self.restore(&state, &mut now)?;
        }
        let epochs = self.given.epochs;
        while now.epoch < epochs && now.epoch < now.best.epoch + self.given.patience {
            let train_loss = self.epoch(&mut now, epochs, control)?;
            now.epoch += 1;
            let score = self.score(&now.network);
            if !train_loss.is_finite() || score.is_some_and(|score| !score.loss.is_finite()) {
                return Err(MethodError::Diverged);
            }
            let improves = match (&score, &now.best.score) {
                (Some(score), Some(best)) => score.loss < best.loss,
                (Some(_), None) | (None, _) => true,
            };
            if improves {
                now.best = Best { epoch: now.epoch, score, network: now.network.clone() };
            }
            let mut metrics = vec![("epoch", now.epoch as f64), ("train_loss", train_loss)];
            if let Some(score) = score {
                metrics.extend([("loss", score.loss), ("accuracy", score.accuracy)]);
            }
            let head = Some(self.head(&now.network, score)?);
            let step = now.adam.steps as usize;
            control.checkpoint(Checkpoint { step, state: self.save(&now)?, head, metrics: metrics.clone() });
            if control.progress(step, epochs * self.batches(), &metrics).is_break() {
                return Err(MethodError::Cancelled);
            }
        }
        self.finish(&now, rows)
    }

    fn start(&self) -> Progress {
        let classes = self.learnt.classes().len();
        let network = Network::new(
            self.learnt.dim(),
            self.given.hidden,
            classes,
            &mut Rng::stream(self.seed, u64::MAX),
        );
        let adam = AdamW::new(network.size(), self.given.learning_rate, self.given.weight_decay);
        let best = Best { epoch: 0, score: None, network: network.clone() };
        Progress { epoch: 0, network, adam, best }
    }

    fn batch_size(&self) -> usize {
        self.given.batch_size.unwrap_or_else(|| (self.x.nrows() / STEPS_AN_EPOCH).clamp(BATCHES.0, BATCHES.1))
    }

    fn batches(&self) -> usize {
        self.x.nrows().div_ceil(self.batch_size())
    }

    /// One pass over the rows in an order of its own; gives the mean loss.
    fn epoch(
        &self,
        now: &mut Progress,
        epochs: usize,
        control: &mut dyn Control,
    ) -> Result<f64, MethodError> {
        let mut rng = Rng::stream(self.seed, now.epoch as u64);
        let mut order: Vec<usize> = (0..self.x.nrows()).collect();
        rng.shuffle(&mut order);
        let mut sum = 0.0;
        for batch in order.chunks(self.batch_size()) {
            let x = self.x.select(Axis(0), batch);
            let targets = self.learnt.targets().select(batch);
            let (loss, gradient) = now.network.gradient(x.view(), &targets, self.given.dropout, &mut rng);
            now.network.step(&gradient, &mut now.adam);
            sum += loss * batch.len() as f64;
            if control.progress(now.adam.steps as usize, epochs * self.batches(), &[]).is_break() {
                return Err(MethodError::Cancelled);
            }
        }
        Ok(sum / order.len() as f64)
    }

    fn score(&self, network: &Network) -> Option<Score> {
        let (x, watched) = (self.watched_x.as_ref()?, self.watched.as_ref()?);
        Some(Score::of(network.logits(x.view()).view(), watched.targets(), None))
    }

    /// The network on features as they come: the scaling goes into the first layer.
    fn head(&self, network: &Network, score: Option<Score>) -> Result<Head, MethodError> {
        let mut rows = network.first.clone();
        let mut bias = network.first_bias.to_vec();
        for (mut row, bias) in rows.outer_iter_mut().zip(&mut bias) {
            let mut shift = 0.0;
            for ((weight, mean), scale) in row.iter_mut().zip(&self.scaling.mean).zip(&self.scaling.scale) {
                *weight *= scale;
                shift += f64::from(*weight) * f64::from(*mean);
            }
            *bias = (f64::from(*bias) - shift) as f32;
        }
        Head::new(HeadParts {
            method: NAME.to_owned(),
            hyperparameters: self.params.as_map().clone(),
            backbone: self.data.backbone.clone(),
            classes: Arc::clone(self.learnt.classes()),
            multi_label: self.learnt.targets().is_multi(),
            normalise: false,
            rows: rows.into_shared(),
            bias: bias.into(),
            tail: Tail::Layer { weights: network.second.clone(), bias: network.second_bias.to_vec() },
            temperature: score.map_or(1.0, |score| score.temperature),
            thresholds: None,
        })
    }

    fn finish(&self, now: &Progress, rows: Vec<usize>) -> Result<Fitted, MethodError> {
        let best = &now.best;
        let head = self.head(&best.network, best.score)?;
        let shape =
            format!("one hidden layer of {} units, epoch {} of {}", self.given.hidden, best.epoch, now.epoch);
        let (Some(score), Some(x), Some(watched)) = (best.score, &self.watched_x, &self.watched) else {
            return Ok(Fitted { head, held_out: None, summary: shape, metrics: BTreeMap::new() });
        };
        let logits = best.network.logits(x.view());
        let head = score::calibrated(head, &logits, watched.targets(), score.temperature)?;
        let summary = format!("{shape}, {:.1} % of held-out answers right", 100.0 * score.accuracy);
        let figures = [
            ("epoch", best.epoch as f64),
            ("accuracy", score.accuracy),
            ("loss", score.loss),
            ("temperature", score.temperature.into()),
        ];
        let metrics = figures.map(|(name, value)| (name.to_owned(), value)).into();
        Ok(Fitted { head, held_out: Some(HeldOut { rows, logits }), summary, metrics })
    }

    fn save(&self, now: &Progress) -> Result<Vec<u8>, MethodError> {
        let mut writer = Writer::default();
        writer.floats("network", &now.network.flat());
        writer.floats("adam.first", &now.adam.first);
        writer.floats("adam.second", &now.adam.second);
        writer.floats("best", &now.best.network.flat());
        let (epoch, best_epoch) = (now.epoch, now.best.epoch);
        writer
            .finish("checkpoint", &State { epoch, steps: now.adam.steps, best_epoch, score: now.best.score })
    }

    fn restore(&self, bytes: &[u8], now: &mut Progress) -> Result<(), MethodError> {
        let reader = Reader::new("checkpoint", bytes)?;
        let state: State = reader.document()?;
        let of_another = || reader.error("of another fit");
        now.network.fill(&reader.floats("network")?).ok_or_else(of_another)?;
        now.best.network.fill(&reader.floats("best")?).ok_or_else(of_another)?;
        (now.adam.first, now.adam.second) = (reader.floats("adam.first")?, reader.floats("adam.second")?);
        if now.adam.first.len() != now.network.size() || now.adam.second.len() != now.network.size() {
            return Err(of_another());
        }
        (now.epoch, now.adam.steps) = (state.epoch, state.steps);
        (now.best.epoch, now.best.score) = (state.best_epoch, state.score);
        Ok(())
    }
}
