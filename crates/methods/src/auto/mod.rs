//! Picks the method by the amount of data and by held-out answers, and says why.

mod tuning;

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use ndarray::Axis;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    data::{Examples, Targets},
    error::MethodError,
    linear_probe::LinearProbe,
    method::{Checked, Checkpoint, Control, FitData, Fitted, HeldOut, Method, Params, hyperparameter},
    mlp::Mlp,
    prototype::Prototype,
    score::largest,
};

pub use tuning::{Deciding, Judged, choose, deciding, judge, leaves_room};

/// The method; see the module.
#[derive(Debug, Clone, Copy)]
pub struct Auto;

/// Without those of the methods that it tries: whoever wants to set some names the method.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hyperparameters {
    /// Seconds that training the backbone may take; it stays as it is where 0.
    tune_seconds: u64,
}

/// A week.
const MOST_SECONDS: u64 = 7 * 24 * 60 * 60;

impl Checked for Hyperparameters {
    fn check(&self) -> Result<(), MethodError> {
        if self.tune_seconds <= MOST_SECONDS {
            return Ok(());
        }
        Err(hyperparameter("tune_seconds", format!("must be 0 to {MOST_SECONDS}")))
    }
}

/// With fewer rows than this a class, class means are all that can be trusted.
const FEW_A_CLASS: f64 = 4.0;
/// From here on a hidden layer has a chance.
const ROWS_FOR_MLP: usize = 1000;
const ROWS_A_CLASS_FOR_MLP: f64 = 30.0;

impl Method for Auto {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn docs(&self) -> &'static str {
        "Tries the methods that the amount of data allows, keeps the best on held-out rows, and says why; with `tune_seconds` \
         above 0 also one that trains the backbone, where that is believed to take no longer."
    }

    fn check(&self, given: &Map<String, Value>) -> Result<Params, MethodError> {
        Params::resolved::<Hyperparameters>(given)
    }

    fn may_tune(&self, params: &Params) -> Result<Option<Duration>, MethodError> {
        let given: Hyperparameters = Params::checked(params.as_map())?;
        Ok(Some(Duration::from_secs(given.tune_seconds)))
    }

    fn fit(
        &self,
        data: &FitData<'_>,
        _params: &Params,
        seed: u64,
        control: &mut dyn Control,
    ) -> Result<Fitted, MethodError> {
        let (candidates, why) = candidates(data.train);
        let mut resumed = control.resume();
        let mut best: Option<(Fitted, &'static str)> = None;
        let mut figures: Vec<String> = Vec::new();
        let mut metrics = BTreeMap::new();
        for (index, method) in candidates.iter().enumerate() {
            let mut inner = Inner { outer: control, index, count: candidates.len(), state: None };
            // Methods before the one that was cut off are quick to repeat and give the same bytes.
            if resumed.as_ref().is_some_and(|state| state.first().is_some_and(|&of| usize::from(of) == index))
            {
                inner.state = resumed.take().map(|state| state.get(1..).unwrap_or_default().to_vec());
            }
            let fitted = method.fit(data, &method.check(&Map::new())?, seed, &mut inner)?;
            if let Some(accuracy) = fitted.metrics.get("accuracy") {
                figures.push(format!("{} {:.1} %", method.name(), 100.0 * accuracy));
                metrics.insert(format!("accuracy.{}", method.name()), *accuracy);
            }
            let replaces = match &best {
                Some((best, _)) => beats(&fitted, best, data),
                None => true,
            };
            if replaces {
                best = Some((fitted, method.name()));
            }
        }
        let Some((mut fitted, name)) = best else { return Err(MethodError::Diverged) };
        let held_out = if figures.is_empty() {
            "too few rows to hold any out".to_owned()
        } else {
            format!("held-out answers right: {}", figures.join(", "))
        };
        let summary = format!("{name}, {why}; {held_out}. {}", fitted.summary);
        fitted.summary = summary;
        fitted.metrics.extend(metrics);
        Ok(fitted)
    }
}

/// The methods worth trying, simplest first, and the reason in words.
fn candidates(train: &Examples) -> (Vec<&'static dyn Method>, String) {
    let classes = train.classes().len();
    let a_class = train.len() as f64 / classes as f64;
    let rows = format!("{} rows for {classes} classes", train.len());
    if a_class < FEW_A_CLASS {
        return (vec![&Prototype], format!("because {rows} are too few to fit weights"));
    }
    if train.len() < ROWS_FOR_MLP || a_class < ROWS_A_CLASS_FOR_MLP {
        return (vec![&Prototype, &LinearProbe], format!("the best of what {rows} can bear"));
    }
    (vec![&Prototype, &LinearProbe, &Mlp], format!("the best of all methods on {rows}"))
}

/// Whether `other` is right more often than `best` on the rows that both held out. A hidden layer must be so by at
/// least one standard error, since its epoch was picked on these very rows.
fn beats(other: &Fitted, best: &Fitted, data: &FitData<'_>) -> bool {
    let (Some(a), Some(b)) = (&other.held_out, &best.held_out) else {
        return best.held_out.is_none();
    };
    let (mut wins, mut losses) = (0.0f64, 0.0f64);
    for (place, row) in a.rows.iter().enumerate() {
        let Ok(there) = b.rows.binary_search(row) else { continue };
        let (targets, row) = match data.validation {
            Some(validation) if *row >= data.train.len() => (validation.targets(), row - data.train.len()),
            Some(_) | None => (data.train.targets(), *row),
        };
        let difference = right(a, place, targets, row) - right(b, there, targets, row);
        wins += difference.max(0.0);
        losses += (-difference).max(0.0);
    }
    if other.head.parts().method == "mlp" {
        return wins > losses && wins - losses >= (wins + losses).sqrt();
    }
    // With equal answers the later, discriminative method is kept: its probabilities are fitted.
    wins >= losses
}

/// The share of right answers in one row.
fn right(held_out: &HeldOut, place: usize, targets: &Targets, row: usize) -> f64 {
    if place >= held_out.logits.nrows() {
        return 0.0;
    }
    let z = held_out.logits.index_axis(Axis(0), place);
    let of = targets.of(row);
    if targets.is_multi() {
        let sides = z.iter().enumerate().filter(|(class, z)| (**z > 0.0) == of.contains(&(*class as u32)));
        return sides.count() as f64 / z.len() as f64;
    }
    if of.contains(&(largest(z) as u32)) { 1.0 } else { 0.0 }
}

/// One candidate's view of the control: its share of the progress, its own checkpoints.
struct Inner<'a> {
    outer: &'a mut dyn Control,
    index: usize,
    count: usize,
    state: Option<Vec<u8>>,
}

/// Steps that each candidate counts for.
const STEPS: usize = 1000;

impl Control for Inner<'_> {
    fn progress(&mut self, step: usize, total: usize, metrics: &[(&'static str, f64)]) -> ControlFlow<()> {
        let part = (STEPS * step / total.max(1)).min(STEPS);
        self.outer.progress(STEPS * self.index + part, STEPS * self.count, metrics)
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        let mut state = vec![self.index as u8];
        state.extend(checkpoint.state);
        self.outer.checkpoint(Checkpoint { state, ..checkpoint });
    }

    fn resume(&mut self) -> Option<Vec<u8>> {
        self.state.take()
    }
}
