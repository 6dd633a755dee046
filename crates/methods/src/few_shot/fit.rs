//! What a few examples say, and how much they are to weigh against the labels' names.

use std::sync::Arc;

use ndarray::{Array2, ArrayView1, Axis};
use serde_json::Map;

use super::{FLOOR, Rung, Said, Shown, Wording};
use crate::data::{Examples, Targets};
use crate::error::MethodError;
use crate::head::{Head, HeadParts, Tail, squash};
use crate::method::{FitData, Fitted, Method as _, Unattended};
use crate::prototype::{Prototype, unit_rows};

/// Examples that every label must have for a head tuned on folds.
const ENOUGH: usize = 8;

/// What cosines are multiplied with; the one in the middle is what is believed before there is evidence.
const SCALES: [f32; 3] = [10.0, 20.0, 40.0];
const SCALE: f32 = 20.0;

/// Examples a label at which they weigh as much as the names, before there is evidence.
const PRIOR_EXAMPLES: f32 = 3.0;

/// How fast belief in a weight falls with its distance from what is believed before, in nats of loss; the same for a
/// doubling of the scale, by a sixteenth.
const STRICTNESS: f32 = 4.0;

/// Weights are tried in steps of a tenth.
const TENTHS: u8 = 10;

/// The name of the method in heads of means alone.
const NAME: &str = "few_shot";

/// What the examples say; `None` while too few labels have any.
pub(super) fn fit(
    wording: &Wording,
    names: &Arc<[String]>,
    shown: &Shown,
) -> Result<Option<Said>, MethodError> {
    let counts = shown.counts();
    let enough = |count: &usize| *count >= ENOUGH && (!wording.multi_label || shown.len() - count >= ENOUGH);
    if !counts.is_empty() && counts.iter().all(enough) {
        return tuned(wording, names, shown).map(Some);
    }
    let labels: Vec<usize> = (0..counts.len()).filter(|label| counts.get(*label) > Some(&0)).collect();
    if wording.multi_label || labels.len() < 2 {
        return Ok(None);
    }
    means(wording, names, shown, labels).map(Some)
}

/// Two distributions as one, `∝ names^(1 − weight) · said^weight`.
pub(super) fn pooled(names: ArrayView1<'_, f32>, said: ArrayView1<'_, f32>, weight: f32) -> Vec<f32> {
    let mut logits = Array2::from_shape_fn((1, names.len()), |(_, place)| {
        let log = |of: &ArrayView1<'_, f32>| of.get(place).copied().unwrap_or(0.0).max(FLOOR).ln();
        (1.0 - weight) * log(&names) + weight * log(&said)
    });
    squash(&mut logits, 1.0, false);
    logits.into_raw_vec_and_offset().0
}

/// A head tuned on folds; where one label is right, pooled with the names by what it said of rows it had not seen.
fn tuned(wording: &Wording, names: &Arc<[String]>, shown: &Shown) -> Result<Said, MethodError> {
    let targets = if wording.multi_label {
        Targets::Multi(shown.labels.clone())
    } else {
        Targets::Single(shown.labels.iter().filter_map(|labels| labels.first().copied()).collect())
    };
    let train = Examples::new(shown.features.clone(), targets, Arc::clone(names), None)?;
    let data = FitData { train: &train, validation: None, backbone: wording.backbone.clone(), threads: 1 };
    let params = Prototype.check(&Map::new())?;
    let fitted = Prototype.fit(&data, &params, 0, &mut Unattended)?;
    let weight = if wording.multi_label { 1.0 } else { trusted(shown, &fitted) };
    Ok(Said {
        head: Arc::new(fitted.head),
        labels: (0..names.len()).collect(),
        weight,
        rung: Rung::Prototype,
    })
}

fn trusted(shown: &Shown, fitted: &Fitted) -> f32 {
    let per_label = shown.len() as f32 / shown.zero_shot.ncols().max(1) as f32;
    let Some(held_out) = &fitted.held_out else { return believed(per_label) };
    let mut said = held_out.logits.clone();
    fitted.head.squash(&mut said);
    let rows: Vec<Row<'_>> = held_out
        .rows
        .iter()
        .zip(said.outer_iter())
        .filter_map(|(&row, said)| {
            let right = usize::try_from(*shown.labels.get(row)?.first()?).ok()?;
            Some(Row { names: shown.zero_shot.row(row).to_vec(), said, right })
        })
        .collect();
    (0..=TENTHS)
        .map(|tenths| f32::from(tenths) / f32::from(TENTHS))
        .map(|weight| (weight, loss(&rows, weight) + doubt(weight, per_label)))
        .min_by(|one, other| one.1.total_cmp(&other.1))
        .map_or_else(|| believed(per_label), |(weight, _)| weight)
}

/// One example that had no part in what is said of it.
struct Row<'a> {
    names: Vec<f32>,
    said: ArrayView1<'a, f32>,
    right: usize,
}

/// Nats that the right labels cost.
fn loss(rows: &[Row<'_>], weight: f32) -> f32 {
    rows.iter()
        .map(|row| {
            let pooled = pooled(ArrayView1::from(&row.names), row.said, weight);
            -pooled.get(row.right).copied().unwrap_or(0.0).max(FLOOR).ln()
        })
        .sum()
}

/// The weight that is believed in before there is evidence.
fn believed(per_label: f32) -> f32 {
    per_label / (per_label + PRIOR_EXAMPLES)
}

fn doubt(weight: f32, per_label: f32) -> f32 {
    STRICTNESS * (weight - believed(per_label)).powi(2)
}

/// Means of the labels that have examples; weight and scale by what the means of the others say of each example.
fn means(
    wording: &Wording,
    names: &Arc<[String]>,
    shown: &Shown,
    labels: Vec<usize>,
) -> Result<Said, MethodError> {
    let class_of = |row: usize| {
        let label = *shown.labels.get(row)?.first()? as usize;
        labels.binary_search(&label).ok()
    };
    let units = unit_rows(shown.features.view());
    let mut sums = Array2::<f32>::zeros((labels.len(), units.ncols()));
    for (row, unit) in units.outer_iter().enumerate() {
        if let Some(class) = class_of(row) {
            sums.row_mut(class).zip_mut_with(&unit, |sum, value| *sum += value);
        }
    }
    let means = unit_rows(sums.view());
    let counts = shown.counts();
    let mut left_out = units.dot(&means.t());
    let mut judged = Vec::new();
    for (row, unit) in units.outer_iter().enumerate() {
        let Some(class) = class_of(row) else { continue };
        let alone = labels.get(class).and_then(|label| counts.get(*label)).is_none_or(|count| *count < 2);
        if !alone {
            let others = unit_rows((&sums.row(class) - &unit).insert_axis(Axis(0)).view());
            left_out[[row, class]] = others.row(0).dot(&unit);
            judged.push((row, class));
        }
    }
    let per_label = shown.len() as f32 / labels.len() as f32;
    let (weight, scale) = chosen(shown, &labels, &left_out, &judged, per_label);
    let head = Head::new(HeadParts {
        method: NAME.to_owned(),
        hyperparameters: Map::new(),
        backbone: wording.backbone.clone(),
        classes: labels.iter().filter_map(|label| names.get(*label).cloned()).collect(),
        multi_label: false,
        normalise: true,
        rows: means.into_shared(),
        bias: vec![0.0; labels.len()].into(),
        tail: Tail::Cache {
            classes: Vec::new(),
            scale,
            alpha: 0.0,
            beta: 1.0,
            mass: sums.outer_iter().map(|sum| sum.dot(&sum).sqrt()).collect(),
        },
        temperature: 1.0,
        thresholds: None,
    })?;
    Ok(Said { head: Arc::new(head), labels, weight, rung: Rung::FewShot })
}

/// The weight and scale that cost the examples least, each judged without its own part in the means.
fn chosen(
    shown: &Shown,
    labels: &[usize],
    cosines: &Array2<f32>,
    judged: &[(usize, usize)],
    per_label: f32,
) -> (f32, f32) {
    let mut best = (f32::INFINITY, believed(per_label), SCALE);
    for scale in SCALES {
        let mut said = cosines * scale;
        squash(&mut said, 1.0, false);
        let rows: Vec<Row<'_>> = judged
            .iter()
            .map(|&(row, right)| {
                let names = labels.iter().map(|label| shown.zero_shot[[row, *label]]).collect();
                Row { names, said: said.row(row), right }
            })
            .collect();
        let step = STRICTNESS / 16.0 * (scale / SCALE).log2().powi(2);
        let inner = (1..TENTHS).map(|tenths| f32::from(tenths) / f32::from(TENTHS));
        let weights: Vec<f32> = if rows.is_empty() { vec![believed(per_label)] } else { inner.collect() };
        for weight in weights {
            let cost = loss(&rows, weight) + doubt(weight, per_label) + step;
            if cost < best.0 {
                best = (cost, weight, scale);
            }
        }
    }
    (best.1, best.2)
}
