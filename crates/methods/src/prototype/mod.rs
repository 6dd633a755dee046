//! Nearest class mean with a cache of the examples themselves; fitted in milliseconds, grown one example at a time. With
//! several labels a row, the nearer of two means for each label.
//!
//! Means, cosine and temperature: Snell et al., "Prototypical networks", NeurIPS 2017. Cache: Zhang et al.,
//! "Tip-Adapter", ECCV 2022, with class means in the place of its text classifier.

mod contrast;

use std::{collections::BTreeMap, sync::Arc};

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, concatenate, linalg::general_mat_mul, s};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    data::{self, Examples, Targets},
    error::MethodError,
    head::{Head, HeadParts, Tail, affinities, mix},
    method::{Checked, Control, FitData, Fitted, HeldOut, Method, Params, hyperparameter},
    score::{self, Score},
    split,
};
use contrast::Contrast;

/// The method; see the module.
#[derive(Debug, Clone, Copy)]
pub struct Prototype;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hyperparameters {
    /// The cache's weight; chosen on folds when null.
    alpha: Option<f32>,
    /// The cache's sharpness; chosen on folds when null.
    beta: Option<f32>,
    /// What cosines are multiplied with before the temperature.
    scale: f32,
    /// Examples a class that the cache keeps, drawn by seed; 0 for none.
    cache_per_class: usize,
    folds: usize,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self { alpha: None, beta: None, scale: 20.0, cache_per_class: 16, folds: 5 }
    }
}

const NAME: &str = "prototype";
/// Tip-Adapter's own starting values, for too few rows to choose any.
const ALPHA: f32 = 1.0;
const BETA: f32 = 5.5;
const ALPHAS: [f32; 6] = [0.0, 0.1, 0.3, 1.0, 3.0, 10.0];
const BETAS: [f32; 5] = [1.0, 3.0, 5.5, 10.0, 20.0];
/// Fewer rows than this are not parted into folds.
const FEWEST_FOR_FOLDS: usize = 10;

impl Checked for Hyperparameters {
    fn check(&self) -> Result<(), MethodError> {
        if self.alpha.is_some_and(|alpha| !(0.0..=1000.0).contains(&alpha)) {
            return Err(hyperparameter("alpha", "must lie between 0 and 1000"));
        }
        if self.beta.is_some_and(|beta| !(0.0..=1000.0).contains(&beta)) {
            return Err(hyperparameter("beta", "must lie between 0 and 1000"));
        }
        if !(0.01..=1000.0).contains(&self.scale) {
            return Err(hyperparameter("scale", "must lie between 0.01 and 1000"));
        }
        if self.cache_per_class > 1000 {
            return Err(hyperparameter("cache_per_class", "must lie between 0 and 1000"));
        }
        if !(2..=20).contains(&self.folds) {
            return Err(hyperparameter("folds", "must lie between 2 and 20"));
        }
        Ok(())
    }
}

impl Method for Prototype {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "Nearest class mean by cosine with a cache of examples, or for several labels the nearer mean of rows with and \
         without each; fitted in milliseconds and grown while it serves."
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
        let several = data.train.targets().is_multi();
        let pairs = pairs(&given, several);
        let folds = folds(data, given.folds, seed)?;
        let count = data.train.classes().len();
        // Raw logits of the held-out rows, by pair of alpha and beta and by fold.
        let mut trials: Vec<Vec<Array2<f32>>> = vec![Vec::new(); pairs.len()];
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for (step, fold) in folds.iter().enumerate() {
            let model = Model::learn(&fold.train, &given, seed);
            let cosines = model.cosines(fold.held_out.features());
            let mut last: Option<(f32, Array2<f32>)> = None;
            for (trial, &(alpha, beta)) in trials.iter_mut().zip(&pairs) {
                // Pairs are ordered by beta: what the keys say is the same for every alpha.
                let said = match last.take() {
                    Some((of, said)) if of == beta => said,
                    Some(_) | None => affinities(&cosines, count, &model.key_classes, beta),
                };
                trial.push(mix(&cosines, &said, given.scale, alpha));
                last = Some((beta, said));
            }
            rows.extend(fold.rows.iter().copied());
            targets.push(fold.held_out.targets().clone());
            if control.progress(step + 1, folds.len() + 1, &[]).is_break() {
                return Err(MethodError::Cancelled);
            }
        }
        let model = Model::learn(data.train, &given, seed);
        let head = |alpha, beta| model.head(data, params, given.scale, alpha, beta);
        if folds.is_empty() {
            let cached = !several && given.cache_per_class > 0;
            let alpha = if cached { given.alpha.unwrap_or(ALPHA) } else { 0.0 };
            let beta = given.beta.unwrap_or(BETA);
            let summary = format!("{}, not tuned", described(several, alpha, beta));
            return Ok(Fitted {
                head: head(alpha, beta)?,
                held_out: None,
                summary,
                metrics: BTreeMap::new(),
            });
        }
        let order = ascending(&rows);
        let targets = join(&targets).select(&order);
        let best = choose(&trials, &pairs, &order, &targets)?;
        let Some(best) = best else { return Err(MethodError::Diverged) };
        rows.sort_unstable();
        let head = head(best.alpha, best.beta)?;
        best.finish(head, rows, &targets)
    }
}

/// What gives the first layer: class means and cached examples, all of length 1, or planes between means.
struct Model {
    /// Means, then keys; for several labels the planes, before the scale.
    rows: Array2<f32>,
    bias: Vec<f32>,
    key_classes: Vec<u32>,
    grows: Grows,
}

/// What further examples are added to.
enum Grows {
    /// The length of each class's sum.
    Mass(Vec<f32>),
    Contrast(Contrast),
}

impl Model {
    fn learn(examples: &Examples, given: &Hyperparameters, seed: u64) -> Self {
        let count = examples.classes().len();
        let x = unit_rows(examples.features());
        let of = match examples.targets() {
            Targets::Single(of) => of,
            Targets::Multi(_) => return Self::of_several(&x, examples.targets(), count),
        };
        let mut sums = Array2::<f64>::zeros((count, x.ncols()));
        for (x, &class) in x.outer_iter().zip(of) {
            sums.row_mut(class as usize).zip_mut_with(&x, |sum, &value| *sum += f64::from(value));
        }
        let (means, mass) = directions(&sums);
        let kept = split::draw(examples.targets(), count, given.cache_per_class, seed);
        let (kept, key_classes): (Vec<usize>, Vec<u32>) =
            kept.into_iter().filter_map(|row| of.get(row).map(|&class| (row, class))).unzip();
        let mut rows = Array2::zeros((count + kept.len(), x.ncols()));
        rows.slice_mut(s![..count, ..]).assign(&means);
        rows.slice_mut(s![count.., ..]).assign(&x.select(Axis(0), &kept));
        let bias = vec![0.0; rows.nrows()];
        Self { rows, bias, key_classes, grows: Grows::Mass(mass) }
    }

    fn of_several(x: &Array2<f32>, targets: &Targets, count: usize) -> Self {
        let mut contrast = Contrast::new(count, x.ncols());
        contrast.add(x.view(), targets);
        let (rows, bias) = contrast.planes(1.0);
        Self { rows, bias, key_classes: Vec::new(), grows: Grows::Contrast(contrast) }
    }

    /// The first layer: cosines with means and keys, or how far on its side of each plane a row is.
    fn cosines(&self, features: ArrayView2<'_, f32>) -> Array2<f32> {
        let x = unit_rows(features);
        let mut out = Array2::zeros((x.nrows(), self.rows.nrows()));
        out.outer_iter_mut().for_each(|mut row| row.assign(&ArrayView1::from(&self.bias)));
        general_mat_mul(1.0, &x, &self.rows.t(), 1.0, &mut out);
        out
    }

    fn head(
        &self,
        data: &FitData<'_>,
        params: &Params,
        scale: f32,
        alpha: f32,
        beta: f32,
    ) -> Result<Head, MethodError> {
        let (rows, bias, tail) = match &self.grows {
            Grows::Contrast(contrast) => {
                let (rows, bias) = contrast.planes(scale);
                (rows, bias, contrast.tail())
            }
            Grows::Mass(mass) => {
                let (classes, mass) = (self.key_classes.clone(), mass.clone());
                (self.rows.clone(), self.bias.clone(), Tail::Cache { classes, scale, alpha, beta, mass })
            }
        };
        Head::new(HeadParts {
            method: NAME.to_owned(),
            hyperparameters: params.as_map().clone(),
            backbone: data.backbone.clone(),
            classes: Arc::clone(data.train.classes()),
            multi_label: data.train.targets().is_multi(),
            normalise: true,
            rows: rows.into_shared(),
            bias: bias.into(),
            tail,
            temperature: 1.0,
            thresholds: None,
        })
    }
}

/// Whether a head takes further examples in.
#[must_use]
pub fn is(head: &Head) -> bool {
    match head.parts().tail {
        Tail::Contrast { .. } => true,
        Tail::Cache { .. } => !head.parts().multi_label,
        Tail::Identity | Tail::Layer { .. } => false,
    }
}

/// Labels of further examples as [`add_examples`] takes them.
#[must_use]
pub fn targets(head: &Head, labels: Vec<Vec<u32>>) -> Targets {
    if head.parts().multi_label {
        return Targets::Multi(labels);
    }
    Targets::Single(labels.into_iter().filter_map(|labels| labels.first().copied()).collect())
}

/// The head with further examples taken in: exact means, and the cache filled up to its size a class. Temperature,
/// thresholds, alpha and beta stay as they are.
///
/// # Errors
///
/// [`MethodError::Unsuitable`] for a head of another method or other labels, [`MethodError::Width`] for features of
/// another width.
pub fn add_examples(
    head: &Head,
    features: ArrayView2<'_, f32>,
    targets: &Targets,
) -> Result<Head, MethodError> {
    let parts = head.parts();
    if features.ncols() != head.dim() {
        return Err(MethodError::Width { expected: head.dim(), given: features.ncols() });
    }
    if features.nrows() != targets.len() || targets.is_multi() != parts.multi_label {
        return Err(MethodError::Unsuitable("examples need one answer each, of the head's kind".to_owned()));
    }
    data::check_targets(targets, parts.classes.len())?;
    if let Some(row) = features.outer_iter().position(|row| row.iter().any(|value| !value.is_finite())) {
        return Err(data::DataError::NotFinite { row }.into());
    }
    let given: Hyperparameters = Params::read(&parts.hyperparameters)?;
    let x = unit_rows(features);
    let (rows, bias, tail) = match &parts.tail {
        Tail::Contrast { means, counts } => {
            let mut contrast = Contrast::of(means, counts);
            contrast.add(x.view(), targets);
            let (rows, bias) = contrast.planes(given.scale);
            (rows, bias, contrast.tail())
        }
        Tail::Cache { classes, scale, alpha, beta, mass } if !parts.multi_label => {
            let (rows, classes, mass) =
                grown(parts, (classes.as_slice(), mass.as_slice()), &x, targets, given.cache_per_class);
            let bias = vec![0.0; rows.nrows()];
            (rows, bias, Tail::Cache { classes, scale: *scale, alpha: *alpha, beta: *beta, mass })
        }
        Tail::Cache { .. } | Tail::Identity | Tail::Layer { .. } => {
            let problem = "only a prototype head takes in further examples".to_owned();
            return Err(MethodError::Unsuitable(problem));
        }
    };
    Head::new(HeadParts { rows: rows.into_shared(), bias: bias.into(), tail, ..parts.clone() })
}

/// Means and keys, the keys' classes and the means' masses, with further examples of length 1.
fn grown(
    parts: &HeadParts,
    (classes, mass): (&[u32], &[f32]),
    x: &Array2<f32>,
    targets: &Targets,
    cache_per_class: usize,
) -> (Array2<f32>, Vec<u32>, Vec<f32>) {
    let (count, before) = (parts.classes.len(), parts.rows.nrows());
    let mut sums = Array2::from_shape_fn((count, x.ncols()), |(class, column)| {
        f64::from(parts.rows[[class, column]]) * mass.get(class).copied().map_or(0.0, f64::from)
    });
    let mut key_classes = classes.to_vec();
    let mut kept = Vec::new();
    let mut have = Targets::Single(key_classes.clone()).counts(count);
    for (row, x) in x.outer_iter().enumerate() {
        for &class in targets.of(row) {
            sums.row_mut(class as usize).zip_mut_with(&x, |sum, &value| *sum += f64::from(value));
            if let Some(have) = have.get_mut(class as usize).filter(|have| **have < cache_per_class) {
                *have += 1;
                kept.push(row);
                key_classes.push(class);
            }
        }
    }
    let (means, mass) = directions(&sums);
    let mut rows = Array2::zeros((before + kept.len(), x.ncols()));
    rows.slice_mut(s![..before, ..]).assign(&parts.rows);
    rows.slice_mut(s![..count, ..]).assign(&means);
    rows.slice_mut(s![before.., ..]).assign(&x.select(Axis(0), &kept));
    (rows, key_classes, mass)
}

pub(crate) fn unit_rows(features: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut x = features.to_owned();
    for mut row in x.outer_iter_mut() {
        let length = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.mapv_inplace(|value| (f64::from(value) / length) as f32);
        }
    }
    x
}

/// Sums as unit rows and their lengths; a class without examples stays at zero.
fn directions(sums: &Array2<f64>) -> (Array2<f32>, Vec<f32>) {
    let mass: Vec<f64> = sums.outer_iter().map(|row| row.dot(&row).sqrt()).collect();
    let means = Array2::from_shape_fn(sums.dim(), |(class, column)| {
        let length = mass.get(class).copied().unwrap_or(0.0);
        if length > 0.0 { (sums[[class, column]] / length) as f32 } else { 0.0 }
    });
    (means, mass.into_iter().map(|length| length as f32).collect())
}

/// One pair of alpha and beta on the held-out rows.
struct Judged {
    alpha: f32,
    beta: f32,
    score: Score,
    logits: Array2<f32>,
}

impl Judged {
    fn finish(self, head: Head, rows: Vec<usize>, targets: &Targets) -> Result<Fitted, MethodError> {
        let Score { accuracy, loss, temperature, .. } = self.score;
        let what = described(targets.is_multi(), self.alpha, self.beta);
        let summary = format!("{what}, {:.1} % of held-out answers right", 100.0 * accuracy);
        let figures = [
            ("alpha", self.alpha.into()),
            ("beta", self.beta.into()),
            ("accuracy", accuracy),
            ("loss", loss),
            ("temperature", temperature.into()),
        ];
        Ok(Fitted {
            head: score::calibrated(head, &self.logits, targets, temperature)?,
            held_out: Some(HeldOut { rows, logits: self.logits }),
            summary,
            metrics: figures.map(|(name, value): (&str, f64)| (name.to_owned(), value)).into(),
        })
    }
}

fn described(several: bool, alpha: f32, beta: f32) -> String {
    if several {
        return "the nearer of the means of rows with and without each label".to_owned();
    }
    format!("nearest class mean with a cache (alpha {alpha}, beta {beta})")
}

/// The pair with the most right answers, of equals the one with the least loss.
fn choose(
    trials: &[Vec<Array2<f32>>],
    pairs: &[(f32, f32)],
    order: &[usize],
    targets: &Targets,
) -> Result<Option<Judged>, MethodError> {
    let mut judged = Vec::with_capacity(pairs.len());
    for (parts, &pair) in trials.iter().zip(pairs) {
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        let joined = concatenate(Axis(0), &views).map_err(|_| MethodError::Diverged)?;
        let logits = joined.select(Axis(0), order);
        judged.push((score::accuracy(logits.view(), targets, None), pair, logits));
    }
    // A temperature is dear to find, so only those that can win get one.
    let most = judged.iter().map(|(accuracy, ..)| *accuracy).fold(f64::NEG_INFINITY, f64::max);
    let finalists = judged.into_iter().filter(|(accuracy, ..)| *accuracy >= most);
    let scored = finalists.map(|(_, (alpha, beta), logits)| {
        let score = Score::of(logits.view(), targets, None);
        Judged { alpha, beta, score, logits }
    });
    Ok(scored.reduce(|best, other| if other.score.beats(&best.score) { other } else { best }))
}

/// The pairs of alpha and beta to try.
fn pairs(given: &Hyperparameters, several: bool) -> Vec<(f32, f32)> {
    let betas = given.beta.map_or(BETAS.to_vec(), |beta| vec![beta]);
    if several || given.cache_per_class == 0 {
        return vec![(0.0, given.beta.unwrap_or(BETA))];
    }
    let alphas = given.alpha.map_or(ALPHAS.to_vec(), |alpha| vec![alpha]);
    let mut pairs = Vec::new();
    for (index, beta) in betas.into_iter().enumerate() {
        // Without a say of the cache, its sharpness makes no difference.
        pairs.extend(alphas.iter().filter(|&&alpha| alpha > 0.0 || index == 0).map(|&alpha| (alpha, beta)));
    }
    pairs
}

struct Fold {
    train: Examples,
    held_out: Examples,
    rows: Vec<usize>,
}

fn folds(data: &FitData<'_>, k: usize, seed: u64) -> Result<Vec<Fold>, MethodError> {
    let train = data.train;
    if let Some(validation) = data.validation {
        let rows = (train.len()..train.len() + validation.len()).collect();
        return Ok(vec![Fold { train: train.clone(), held_out: validation.clone(), rows }]);
    }
    let k = k.min(data::units(train));
    if train.len() < FEWEST_FOR_FOLDS.max(2 * train.classes().len()) || k < 2 {
        return Ok(Vec::new());
    }
    let splits = split::folds(train.targets(), train.classes().len(), train.groups(), k, seed)?;
    let fold = |split: split::Split| Fold {
        train: train.select(&split.train),
        held_out: train.select(&split.held_out),
        rows: split.held_out,
    };
    Ok(splits.into_iter().map(fold).collect())
}

fn join(parts: &[Targets]) -> Targets {
    if parts.iter().any(Targets::is_multi) {
        let rows = parts.iter().flat_map(|part| (0..part.len()).map(|row| part.of(row).to_vec()));
        return Targets::Multi(rows.collect());
    }
    Targets::Single(
        parts.iter().flat_map(|part| (0..part.len()).flat_map(|row| part.of(row).to_vec())).collect(),
    )
}

fn ascending(rows: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&place| rows.get(place).copied());
    order
}
