//! What a job's report says: how good the head is on rows that nothing was learned from or tuned on, and whether
//! transfer helped, by the same learner on raw inputs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use headstart_engine::Runtime;
use headstart_methods::data::{Examples, Targets};
use headstart_methods::evaluate::baseline::{picture, sound, tf_idf};
use headstart_methods::evaluate::learning_curve::{Curve, Ground, Learners, measure, rows_given};
use headstart_methods::evaluate::transfer::Names;
use headstart_methods::evaluate::{self, calibration};
use headstart_methods::head::HeadParts;
use headstart_methods::{FitData, Fitted, Unattended, method};
use headstart_types::classifier::untuned;
use headstart_types::job::Job;
use headstart_types::manifest::BackboneSpec;
use headstart_types::report::{
    BackboneUsed, ClassCounts, DatasetUsed, Duplicates, LeftOut, Note, Report, Row, Run,
};
use ndarray::Array2;
use serde_json::{Map, Value, json};

use crate::worker::control::{Halt, Stop};
use crate::worker::fine_tune::Parts;
use crate::worker::pace::{Pace, Part};
use crate::worker::reading::Upload;
use crate::worker::stages::Stages;
use crate::worker::table::Table;
use crate::worker::tune::Made;
use crate::worker::zero_shot::Zeroth;

/// Inverse strength of the shrinkage of both learners of the curve, as the baselines have it.
const CURVE_C: f64 = 10.0;

/// Figures of a fit that are choices.
const CHOICES: [&str; 4] = ["alpha", "beta", "c", "epoch"];

/// Inputs as they were uploaded, of training and held-out rows.
pub(super) enum Raw {
    Texts(tf_idf::Texts),
    Pictures(picture::Pictures),
    Sounds(sound::Sounds),
}

/// What the report is made from.
pub(super) struct Evidence {
    pub(super) job: Job,
    /// What the head is served on.
    pub(super) backbone: BackboneSpec,
    pub(super) found: Found,
    pub(super) table: Arc<Table>,
    pub(super) parts: Arc<Parts>,
    pub(super) version: Arc<Made>,
    /// When the learning curve ends; points that do not fit in are named in the report.
    pub(super) until: Instant,
    pub(super) halt: Arc<Halt>,
    pub(super) pace: Arc<Pace>,
}

/// What was found beside the fit.
pub(super) struct Found {
    pub(super) files: Arc<[Upload]>,
    pub(super) duplicates: Duplicates,
    pub(super) zeroth: Option<Zeroth>,
    /// Parts that are missing so far.
    pub(super) left_out: Vec<LeftOut>,
}

/// The report, but for the times of its stages. Takes a while; stops when the job does.
///
/// # Errors
/// The job's stop, or what does not fit together.
pub(super) fn report(evidence: &Evidence, raw: &Raw) -> Result<Report, Stop> {
    let Evidence { table, parts, version, .. } = evidence;
    let train = table.examples(&parts.learn)?;
    let held_out = table.examples(&parts.score)?;
    let classes = table.head.classes.as_slice();
    let logits = version.fitted.head.logits(version.scored.view())?;
    let head = version.fitted.head.parts();
    let groups = table.group_names(&parts.score);
    let curve = curve(evidence, raw, &train, &held_out)?;
    evidence.pace.begin(Part::Report);
    let learner = format!("logistic regression on {}", evidence.backbone.id);
    let frozen = version.frozen.as_ref().map(|head| head.probabilities(held_out.features())).transpose()?;
    let baseline = match raw {
        Raw::Texts(_) => "logistic regression on TF-IDF of words and pairs of words",
        Raw::Pictures(_) => "logistic regression on colours, gradients and 8 × 8 pixels",
        Raw::Sounds(_) => "logistic regression on means and deviations of MFCCs",
    };
    let said_from = |head: &HeadParts| -> Option<Vec<f64>> {
        head.thresholds.as_ref().map(|each| each.iter().copied().map(f64::from).collect())
    };
    let thresholds = said_from(head);
    let frozen_from = version.frozen.as_ref().and_then(|frozen| said_from(frozen.parts()));
    let judged = Judged::of(evidence, &train);
    let found = evaluate::evaluate(evaluate::Evidence {
        run: run(evidence),
        classes,
        train_counts: &train.targets().counts(classes.len()),
        held_out: evaluate::HeldOut {
            logits: logits.view(),
            targets: held_out.targets(),
            groups: groups.as_deref(),
            zero_shot: evidence
                .found
                .zeroth
                .as_ref()
                .map(|zeroth| evaluate::ZeroShot { rows: &zeroth.rows, scores: zeroth.scores.view() }),
        },
        temperature: Some(f64::from(head.temperature)),
        thresholds: thresholds.as_deref(),
        out_of_sample: judged.as_ref().map(Judged::lend),
        curve: Some((&curve, Names { learner: &learner, baseline })),
        tuning: version.tuning.clone().zip(frozen.as_ref().map(|frozen| evaluate::Frozen {
            probabilities: frozen.view(),
            thresholds: frozen_from.as_deref(),
        })),
        duplicates: Some(evidence.found.duplicates.clone()),
        stages: Vec::new(),
        warnings: of_the_backbone(evidence),
        left_out: evidence.found.left_out.clone(),
    });
    found.map_err(|error| Stop::Broken(error.to_string()))
}

/// What comes with the backbone.
fn of_the_backbone(evidence: &Evidence) -> Vec<Note> {
    let served = &evidence.backbone;
    let note = |code: &str, message: String| Note { code: code.to_owned(), message };
    let leans = format!("the backbone was trained on {}; what it leans to comes along", served.source_task);
    let quantised = served.original.as_ref().map(|original| {
        let learned = match evidence.version.tuning {
            Some(_) => {
                "which answers, but for those of the passes that trained the original; what came of them was rounded again"
            }
            None => "which was learned from and which answers",
        };
        let message = format!(
            "`{}` is `{original}` at lower precision: all figures are those of the lower precision, {learned}",
            served.id
        );
        note("quantised", message)
    });
    std::iter::once(note("source_task", leans)).chain(quantised).collect()
}

/// Training rows as folds that did not learn them see them.
struct Judged {
    probabilities: Array2<f32>,
    targets: Targets,
    rows: Vec<Row>,
}

impl Judged {
    fn of(evidence: &Evidence, train: &Examples) -> Option<Self> {
        let held = evidence.version.fitted.held_out.as_ref()?;
        // Rows beyond the training rows are those of validation.
        let kept: Vec<usize> = (0..held.rows.len())
            .filter(|at| held.rows.get(*at).is_some_and(|row| *row < train.len()))
            .collect();
        let rows: Vec<usize> = kept.iter().filter_map(|at| held.rows.get(*at).copied()).collect();
        let head = evidence.version.fitted.head.parts();
        let temperature = f64::from(head.temperature);
        let logits = held.logits.select(ndarray::Axis(0), &kept);
        let probabilities = if head.multi_label {
            calibration::sigmoid(logits.view(), temperature)
        } else {
            calibration::softmax(logits.view(), temperature)
        };
        let place = |row: &usize| evidence.parts.learn.get(*row).map(|row| evidence.table.place(*row));
        Some(Self {
            probabilities: probabilities.mapv(|value| value as f32),
            targets: train.targets().select(&rows),
            rows: rows.iter().filter_map(place).collect(),
        })
        .filter(|judged| !judged.rows.is_empty())
    }

    fn lend(&self) -> evaluate::OutOfSample<'_> {
        evaluate::OutOfSample {
            probabilities: self.probabilities.view(),
            targets: &self.targets,
            rows: &self.rows,
        }
    }
}

fn curve(evidence: &Evidence, raw: &Raw, train: &Examples, held_out: &Examples) -> Result<Curve, Stop> {
    let probe = method("linear_probe").ok_or_else(|| Stop::Broken("no linear probe".into()))?;
    let given = Map::from_iter([("c".to_owned(), json!(CURVE_C))]);
    let params = probe.check(&given)?;
    let backbone = evidence.version.fitted.head.parts().backbone.clone();
    let Evidence { halt, pace, .. } = evidence;
    let ground = Ground {
        train: train.targets(),
        held_out: held_out.targets(),
        classes: train.classes().len(),
        seed: evidence.job.seed.cast_unsigned(),
    };
    let (mut learned, all) = (0, rows_given(&ground));
    pace.begin(Part::Curve);
    let mut transfer = |rows: &[usize], seed: u64| -> Result<Array2<f32>, Stop> {
        halt.check()?;
        let some = train.select(rows);
        let data = FitData { train: &some, validation: None, backbone: backbone.clone(), threads: 1 };
        let fitted = probe.fit(&data, &params, seed, &mut Unattended)?;
        Ok(fitted.head.probabilities(held_out.features())?)
    };
    let mut no_transfer = |rows: &[usize], seed: u64| -> Result<Array2<f32>, Stop> {
        halt.check()?;
        let scores = match raw {
            Raw::Texts(texts) => texts.scores(rows, train.targets(), ground.classes, seed),
            Raw::Pictures(pictures) => pictures.scores(rows, train.targets(), ground.classes, seed),
            Raw::Sounds(sounds) => sounds.scores(rows, train.targets(), ground.classes, seed),
        };
        learned += rows.len();
        pace.count(learned, all);
        Ok(scores)
    };
    let mut learners = Learners { transfer: &mut transfer, no_transfer: &mut no_transfer };
    measure(&ground, &mut learners, &|| Instant::now() >= evidence.until)
}

fn run(evidence: &Evidence) -> Run {
    let Evidence { job, found, table, parts, version, .. } = evidence;
    let fitted = &version.fitted;
    let head = fitted.head.parts();
    let targets = table.targets();
    let named = [("train", &parts.learn), ("val", &parts.tune), (parts.scored_as(), &parts.score)];
    let named: Vec<_> = named.into_iter().filter(|(_, rows)| !rows.is_empty()).collect();
    let counts: Vec<(&str, Vec<usize>)> = named
        .iter()
        .map(|(name, rows)| (*name, targets.select(rows).counts(table.head.classes.len())))
        .collect();
    let class = |(class, label): (usize, &String)| ClassCounts {
        label: label.clone(),
        items: counts
            .iter()
            .filter_map(|(name, of)| of.get(class).map(|count| ((*name).to_owned(), *count)))
            .collect(),
    };
    Run {
        job: Some(job.id.to_string()),
        classifier: Some(job.classifier.clone()),
        fine_tuned_model: None,
        backbone: BackboneUsed {
            id: untuned(&head.backbone.id).to_owned(),
            sha256: head.backbone.sha256.clone(),
            source_task: Some(evidence.backbone.source_task.clone()),
            original: evidence.backbone.original.clone(),
        },
        method: head.method.clone(),
        method_reason: Some(fitted.summary.clone()),
        hyperparameters: head.hyperparameters.clone(),
        chosen: chosen(fitted),
        seed: job.seed.cast_unsigned(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
        onnxruntime: Runtime::loaded().and_then(|runtime| runtime.version().map(str::to_owned)),
        dataset: DatasetUsed {
            sha256: found.files.first().map_or_else(String::new, |file| file.sha256.to_string()),
            validation_sha256: found.files.get(1).map(|file| file.sha256.to_string()),
            splits: named.iter().map(|(name, rows)| ((*name).to_owned(), rows.len())).collect(),
            held_out: parts.scored_as().to_owned(),
            classes: table.head.classes.iter().enumerate().map(class).collect(),
        },
    }
}

/// What the method chose, of that which a job may leave to it; epochs are always its choice.
fn chosen(fitted: &Fitted) -> BTreeMap<String, f64> {
    let given = &fitted.head.parts().hyperparameters;
    let left = |name: &str| given.get(name).is_none_or(Value::is_null);
    let values = fitted.metrics.iter().filter(|(name, _)| CHOICES.contains(&name.as_str()) && left(name));
    values.map(|(name, value)| (name.clone(), shortest(*value))).collect()
}

/// A number as it is written: of one that single precision holds, the shortest that reads back as the same.
fn shortest(value: f64) -> f64 {
    let single = value as f32;
    if f64::from(single) == value { single.to_string().parse().unwrap_or(value) } else { value }
}

/// The report's bytes.
///
/// # Errors
/// When it has no JSON form.
pub(super) fn to_json(mut report: Report, stages: &Stages) -> Result<Vec<u8>, Stop> {
    report.stages = stages.listed();
    serde_json::to_vec(&report).map_err(|error| Stop::Broken(error.to_string()))
}

/// The figures that lists of versions show.
pub(super) fn listed(report: &Report) -> Value {
    serde_json::to_value(&report.metrics).map_or(Value::Null, |metrics| {
        let kept = ["accuracy", "balanced_accuracy", "macro_f1", "micro_f1"];
        let value =
            |name: &str| metrics.pointer(&format!("/{name}/value")).or_else(|| metrics.get(name)).cloned();
        kept.into_iter().filter_map(|name| Some((name.to_owned(), value(name)?))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_single_precision_are_written_as_they_are_meant() {
        assert_eq!(shortest(f64::from(0.3f32)), 0.3);
        for exact in [0.359_381_366_380_462_6, 1.0, 0.25, 1e-12, 7.0] {
            assert_eq!(shortest(exact), exact);
        }
    }
}
