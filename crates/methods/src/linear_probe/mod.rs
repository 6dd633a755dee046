//! Multinomial logistic regression on frozen features, its penalty chosen by cross-validation.

mod basis;
mod objective;
mod search;
mod weights;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use ndarray::{Array2, Axis, concatenate};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    data::{Examples, Targets},
    error::MethodError,
    head::{Head, HeadParts, Tail},
    method::{Checked, Control, FitData, Fitted, HeldOut, Method, Params, hyperparameter},
    optim::lbfgs::Options,
    score, split,
};
use basis::Basis;
use objective::Answers;
use search::{Fold, Found, Problem};
pub(crate) use weights::ClassWeight;

/// The method; see the module.
#[derive(Debug, Clone, Copy)]
pub struct LinearProbe;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hyperparameters {
    /// Inverse penalty as in scikit-learn; chosen from `cs` when null.
    c: Option<f64>,
    cs: Vec<f64>,
    folds: usize,
    class_weight: Value,
    max_iterations: usize,
    tolerance: f64,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        let cs = (0..10).map(|index| 10f64.powf(-4.0 + 8.0 * f64::from(index) / 9.0)).collect();
        Self { c: None, cs, folds: 5, class_weight: Value::Null, max_iterations: 100, tolerance: 1e-4 }
    }
}

const NAME: &str = "linear_probe";
/// The last fit is solved this much more exactly than those that only choose the penalty.
const LAST_TOLERANCE: f64 = 0.01;
/// The penalty where there are too few rows to choose one.
const DEFAULT_C: f64 = 1.0;
/// Fewer rows than this are not parted into folds.
const FEWEST_FOR_FOLDS: usize = 10;
const SANE_C: std::ops::RangeInclusive<f64> = 1e-12..=1e12;

impl Checked for Hyperparameters {
    fn check(&self) -> Result<(), MethodError> {
        if self.c.is_some_and(|c| !SANE_C.contains(&c)) {
            return Err(hyperparameter("c", "must lie between 1e-12 and 1e12"));
        }
        if self.cs.is_empty() || self.cs.len() > 100 || self.cs.iter().any(|c| !SANE_C.contains(c)) {
            return Err(hyperparameter("cs", "must hold 1 to 100 numbers between 1e-12 and 1e12"));
        }
        if !self.cs.is_sorted_by(|a, b| a < b) {
            return Err(hyperparameter("cs", "must ascend"));
        }
        if !(2..=20).contains(&self.folds) {
            return Err(hyperparameter("folds", "must lie between 2 and 20"));
        }
        if !(1..=10_000).contains(&self.max_iterations) {
            return Err(hyperparameter("max_iterations", "must lie between 1 and 10000"));
        }
        if !(1e-9..=0.1).contains(&self.tolerance) {
            return Err(hyperparameter("tolerance", "must lie between 1e-9 and 0.1"));
        }
        ClassWeight::read(&self.class_weight).map(|_| ())
    }
}

impl Method for LinearProbe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "Logistic regression on frozen features: multinomial, or one sigmoid a label; penalty by cross-validation."
    }

    fn check(&self, given: &Map<String, Value>) -> Result<Params, MethodError> {
        Params::resolved::<Hyperparameters>(given)
    }

    fn check_classes(&self, params: &Params, classes: &[String]) -> Result<(), MethodError> {
        let given: Hyperparameters = Params::checked(params.as_map())?;
        ClassWeight::read(&given.class_weight)?.check_names(classes)
    }

    fn fit(
        &self,
        data: &FitData<'_>,
        params: &Params,
        seed: u64,
        control: &mut dyn Control,
    ) -> Result<Fitted, MethodError> {
        let given: Hyperparameters = Params::checked(params.as_map())?;
        let class_weight = ClassWeight::read(&given.class_weight)?;
        class_weight.check_names(data.train.classes())?;
        let layout = Layout::new(data, given.folds, seed)?;
        let basis = Basis::of(data.train.features());
        let x = basis.coordinates(layout.features.view());
        let classes = Arc::clone(data.train.classes());
        let (answers, outputs) = answers(&layout.targets, classes.len());
        let options =
            Options { max_steps: given.max_iterations, tolerance: given.tolerance, ..Options::default() };
        let problem = Problem {
            x: x.view(),
            answers,
            targets: layout.targets.clone(),
            classes: &classes,
            class_weight: &class_weight,
            variances: &basis.variances,
            outputs,
            options,
            threads: data.threads,
        };
        let cs = given.c.map_or(given.cs.clone(), |c| vec![c]);
        let mut steps = 0;
        let found = if layout.folds.is_empty() {
            None
        } else {
            Some(problem.search(&cs, &layout.folds, &mut steps, control)?)
        };
        let chosen = found.as_ref().and_then(|found| cs.get(found.best).copied());
        let c = chosen.unwrap_or(given.c.unwrap_or(DEFAULT_C));
        let mut parameters = found.as_ref().map_or_else(|| problem.zeros(), |found| mean(&found.parameters));
        let last = Problem {
            options: Options {
                tolerance: given.tolerance * LAST_TOLERANCE,
                max_steps: given.max_iterations * 5,
                ..options
            },
            ..problem
        };
        let whole = 0..layout.train;
        last.fit(std::slice::from_ref(&whole), c, &mut parameters, &mut || {
            steps += 1;
            control.progress(steps, steps + 1, &[("c", c)])
        })?;
        let (weights, bias) = on_features(&basis, &parameters, outputs, classes.len(), x.ncols());
        let head = Head::new(HeadParts {
            method: NAME.to_owned(),
            hyperparameters: params.as_map().clone(),
            backbone: data.backbone.clone(),
            classes,
            multi_label: layout.targets.is_multi(),
            normalise: false,
            rows: weights.into_shared(),
            bias: bias.into(),
            tail: Tail::Identity,
            temperature: 1.0,
            thresholds: None,
        })?;
        finish(head, &layout, found.as_ref(), &cs, c)
    }
}

/// Rows in the order in which each fold's are neighbours: training rows by fold, then validation rows.
struct Layout {
    features: Array2<f32>,
    targets: Targets,
    /// The row number of each, counted through training and validation rows.
    order: Vec<usize>,
    /// How many of the rows are for training.
    train: usize,
    folds: Vec<Fold>,
}

impl Layout {
    fn new(data: &FitData<'_>, k: usize, seed: u64) -> Result<Self, MethodError> {
        let train = data.train;
        if let Some(validation) = data.validation {
            return Self::with_validation(train, validation);
        }
        let n = train.len();
        let k = k.min(crate::data::units(train));
        if n < FEWEST_FOR_FOLDS.max(2 * train.classes().len()) || k < 2 {
            let (features, targets) = (train.features().to_owned(), train.targets().clone());
            return Ok(Self { features, targets, order: (0..n).collect(), train: n, folds: Vec::new() });
        }
        let splits = split::folds(train.targets(), train.classes().len(), train.groups(), k, seed)?;
        let mut order: Vec<usize> = splits.iter().flat_map(|split| split.held_out.iter().copied()).collect();
        // Rows that no fold holds out are learned from in all of them.
        let held: BTreeSet<usize> = order.iter().copied().collect();
        order.extend((0..n).filter(|row| !held.contains(row)));
        let mut start = 0;
        let folds = splits.iter().map(|split| {
            let held_out = start..start + split.held_out.len();
            start = held_out.end;
            let around: [Range<usize>; 2] = [0..held_out.start, held_out.end..n];
            Fold { train: around.into_iter().filter(|range| !range.is_empty()).collect(), held_out }
        });
        let folds = folds.collect();
        let features = train.features().select(Axis(0), &order);
        Ok(Self { features, targets: train.targets().select(&order), order, train: n, folds })
    }

    fn with_validation(train: &Examples, validation: &Examples) -> Result<Self, MethodError> {
        if validation.dim() != train.dim() {
            return Err(MethodError::Width { expected: train.dim(), given: validation.dim() });
        }
        let targets = match (train.targets(), validation.targets()) {
            (Targets::Single(a), Targets::Single(b)) => Targets::Single([a.as_slice(), b].concat()),
            (Targets::Multi(a), Targets::Multi(b)) => Targets::Multi([a.as_slice(), b].concat()),
            (Targets::Single(_) | Targets::Multi(_), _) => {
                return Err(MethodError::Unsuitable(
                    "validation rows have another kind of labels".to_owned(),
                ));
            }
        };
        let views = [train.features(), validation.features()];
        let wrong = |_| MethodError::Width { expected: train.dim(), given: validation.dim() };
        let features = concatenate(Axis(0), &views).map_err(wrong)?;
        let (n, all) = (train.len(), train.len() + validation.len());
        let whole = 0..n;
        let folds = vec![Fold { train: vec![whole], held_out: n..all }];
        Ok(Self { features, targets, order: (0..all).collect(), train: n, folds })
    }
}

fn answers(targets: &Targets, classes: usize) -> (Answers, usize) {
    match targets {
        Targets::Single(of) if classes == 2 => (
            Answers::Sigmoids(Array2::from_shape_fn((of.len(), 1), |(row, _)| {
                of.get(row).map_or(0.0, |&c| c as f32)
            })),
            1,
        ),
        Targets::Single(of) => (Answers::Softmax(of.clone()), classes),
        Targets::Multi(_) => {
            let label = |(row, class): (usize, usize)| {
                if targets.of(row).contains(&(class as u32)) { 1.0 } else { 0.0 }
            };
            (Answers::Sigmoids(Array2::from_shape_fn((targets.len(), classes), label)), classes)
        }
    }
}

/// Logits a class: the one output for two classes becomes `−z/2` and `z/2`, whose softmax is its sigmoid.
fn expand(logits: &Array2<f32>, classes: usize) -> Array2<f32> {
    if logits.ncols() == classes {
        return logits.clone();
    }
    Array2::from_shape_fn((logits.nrows(), classes), |(row, class)| {
        let half = logits.get((row, 0)).map_or(0.0, |z| z / 2.0);
        if class == 0 { -half } else { half }
    })
}

fn mean(of: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = of.first().cloned().unwrap_or_default();
    for other in of.iter().skip(1) {
        sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
    }
    sum.iter_mut().for_each(|sum| *sum /= of.len() as f64);
    sum
}

fn on_features(
    basis: &Basis,
    parameters: &[f64],
    outputs: usize,
    classes: usize,
    rank: usize,
) -> (Array2<f32>, Vec<f32>) {
    let at = |index: usize| parameters.get(index).copied().unwrap_or_default();
    let weights = Array2::from_shape_fn((outputs, rank), |(output, column)| at(output * rank + column));
    let bias: Vec<f64> = (0..outputs).map(|output| at(outputs * rank + output)).collect();
    let (weights, bias) = basis.undo(&weights, &bias);
    if outputs == classes {
        return (weights.mapv(|w| w as f32), bias.iter().map(|&b| b as f32).collect());
    }
    let half = |class: usize, value: f64| (if class == 0 { -value / 2.0 } else { value / 2.0 }) as f32;
    let two =
        Array2::from_shape_fn((2, weights.ncols()), |(class, column)| half(class, weights[[0, column]]));
    let bias = bias.first().copied().unwrap_or_default();
    (two, vec![half(0, bias), half(1, bias)])
}

fn finish(
    head: Head,
    layout: &Layout,
    found: Option<&Found>,
    cs: &[f64],
    c: f64,
) -> Result<Fitted, MethodError> {
    let classes = head.classes().len();
    let Some(found) = found else {
        let summary = format!("logistic regression with C = {c}; too few rows to hold any out");
        return Ok(Fitted { head, held_out: None, summary, metrics: BTreeMap::from([("c".to_owned(), c)]) });
    };
    let mut held: Vec<(usize, usize)> = layout
        .folds
        .iter()
        .flat_map(|fold| fold.held_out.clone())
        .filter_map(|place| layout.order.get(place).map(|&row| (row, place)))
        .collect();
    held.sort_unstable();
    let (rows, places): (Vec<usize>, Vec<usize>) = held.into_iter().unzip();
    let logits = expand(&found.logits.select(Axis(0), &places), classes);
    let targets = layout.targets.select(&places);
    let Some(score) = found.scores.get(found.best) else { return Err(MethodError::Diverged) };
    let how = if layout.train == layout.order.len() {
        format!("{} folds", layout.folds.len())
    } else {
        "the validation rows".to_owned()
    };
    let summary = format!(
        "logistic regression with C = {c:.4} of {} values, {:.1} % of held-out answers right on {how}",
        cs.len(),
        100.0 * score.accuracy
    );
    let figures = [
        ("c", c),
        ("accuracy", score.accuracy),
        ("loss", score.loss),
        ("temperature", score.temperature.into()),
    ];
    let metrics = figures.map(|(name, value)| (name.to_owned(), value)).into();
    let head = score::calibrated(head, &logits, &targets, score.temperature)?;
    Ok(Fitted { head, held_out: Some(HeldOut { rows, logits }), summary, metrics })
}
