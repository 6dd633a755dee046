//! The report put together: from scores and answers to the whole document.

use headstart_types::report::{
    Calibration, Duplicates, LeftOut, Metrics, Note, Reliability, Report, Row, Run, Stage, Suspicious,
    SuspiciousRow, Tuning, VERSION,
};
use ndarray::{ArrayView2, Axis};
use thiserror::Error;

use super::calibration::{by_chance, confidences, judged, label_reliability, reliability, sigmoid, softmax};
use super::curves::{Ranking, binary_curves, coverage};
use super::groups::by_group;
use super::intervals::{Units, mean_quality};
use super::learning_curve::{Curve, qualities};
use super::metrics::best_classes;
use super::notes;
use super::quality;
use super::suspicious::{Suspect, suspicious};
use super::transfer::{self, Names};
use super::tuned::{Said, gain};
use crate::data::Targets;
use crate::rng::Rng;

/// Suspicious rows that a report lists.
const SUSPECTS: usize = 100;

/// Scores on the held-out rows.
#[derive(Debug, Clone, Copy)]
pub struct HeldOut<'a> {
    /// What the head gives before any temperature, `[n, classes]`.
    pub logits: ArrayView2<'a, f32>,
    /// The right answers.
    pub targets: &'a Targets,
    /// The group of each row, where the data names groups.
    pub groups: Option<&'a [Option<String>]>,
    /// Zero-shot scores, where the backbone has them.
    pub zero_shot: Option<ZeroShot<'a>>,
}

/// Zero-shot scores of held-out rows, all or some.
#[derive(Debug, Clone, Copy)]
pub struct ZeroShot<'a> {
    /// Which of the held-out rows.
    pub rows: &'a [usize],
    /// `[rows, classes]`.
    pub scores: ArrayView2<'a, f32>,
}

/// Probabilities of the training rows by models that did not see them: those of the folds of cross-validation.
#[derive(Debug, Clone, Copy)]
pub struct OutOfSample<'a> {
    /// `[n, classes]`.
    pub probabilities: ArrayView2<'a, f32>,
    /// The labels as uploaded.
    pub targets: &'a Targets,
    /// Where each row stands in the upload.
    pub rows: &'a [Row],
}

/// A linear probe on the held-out rows.
#[derive(Debug, Clone, Copy)]
pub struct Frozen<'a> {
    /// Its probabilities, `[n, classes]`.
    pub probabilities: ArrayView2<'a, f32>,
    /// With several labels a row: from which probability on it gives each label; ½ where absent.
    pub thresholds: Option<&'a [f64]>,
}

/// All a report is made of.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// What was run. Its seed is that of the bootstrap too.
    pub run: Run,
    /// Class names, by index.
    pub classes: &'a [String],
    /// Training items of each class.
    pub train_counts: &'a [usize],
    /// The held-out rows.
    pub held_out: HeldOut<'a>,
    /// What the logits are divided by when served; `None` for 1.
    pub temperature: Option<f64>,
    /// With several labels a row: from which probability on each label is given; ½ where absent.
    pub thresholds: Option<&'a [f64]>,
    /// For suspicious labels.
    pub out_of_sample: Option<OutOfSample<'a>>,
    /// The learning curve and what its learners are called.
    pub curve: Option<(&'a Curve, Names<'a>)>,
    /// How the backbone was trained, and what a linear probe on it as it came says of the held-out rows.
    pub tuning: Option<(Tuning, Frozen<'a>)>,
    /// Items that occur more than once.
    pub duplicates: Option<Duplicates>,
    /// Where the time went.
    pub stages: Vec<Stage>,
    /// Warnings from elsewhere, such as what the backbone's source task leans to; those of the figures come on top.
    pub warnings: Vec<Note>,
    /// Parts that are missing, and why; points of the curve come on top.
    pub left_out: Vec<LeftOut>,
}

/// Why evidence makes no report.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvaluateError {
    /// Nothing was held out.
    #[error("no held-out rows")]
    Empty,
    /// A part is of another size than the rest.
    #[error("{part} has {given} entries where {expected} were expected")]
    Size {
        /// The part.
        part: &'static str,
        /// Its size.
        given: usize,
        /// The size of the rest.
        expected: usize,
    },
    /// A target that is no class.
    #[error("class {class} of {classes}")]
    UnknownClass {
        /// The class index.
        class: u32,
        /// How many classes there are.
        classes: usize,
    },
    /// A score is not a finite number, or the temperature not above zero.
    #[error("{0} has a number that cannot be used")]
    NotFinite(&'static str),
}

/// Makes the report. The same evidence gives the same report.
///
/// # Errors
///
/// [`EvaluateError`] when the parts do not fit together.
pub fn evaluate(evidence: Evidence<'_>) -> Result<Report, EvaluateError> {
    check(&evidence)?;
    let seeds = |part| Rng::stream(evidence.run.seed, part).next_u64();
    let HeldOut { logits, targets, groups, zero_shot } = evidence.held_out;
    let temperature = evidence.temperature.unwrap_or(1.0);
    let units = &Units::of(targets.len(), groups);
    let (served, metrics) = match targets {
        Targets::Single(labels) => {
            let served = softmax(logits, temperature);
            let metrics = quality::single_label(served.view(), labels, evidence.classes, (units, seeds(0)));
            (served, metrics)
        }
        Targets::Multi(rows) => {
            let served = sigmoid(logits, temperature);
            let half = vec![0.5; evidence.classes.len()];
            let thresholds = evidence.thresholds.unwrap_or(&half);
            let metrics =
                quality::multi_label(served.view(), rows, evidence.classes, thresholds, (units, seeds(0)));
            (served, metrics)
        }
    };
    let mut report = bare(&evidence, metrics);
    calibration(&mut report, &evidence, served.view(), seeds(5));
    match targets {
        Targets::Single(labels) => {
            single_label_parts(&mut report, &evidence, served.view(), labels, (units, seeds(1)));
        }
        Targets::Multi(rows) => {
            let best = best_classes(served.view());
            let right: Vec<bool> = best.iter().zip(rows).map(|(best, has)| has.contains(best)).collect();
            report.coverage = Some(coverage(&confidences(served.view()), &right));
            report.thresholds = quality::thresholds(served.view(), rows);
        }
    }
    let measure = if targets.is_multi() { "mean F1 of an item's labels" } else { "accuracy" };
    let by_row = quality::by_row(served.view(), targets, evidence.thresholds);
    report.groups = groups.and_then(|groups| by_group(&by_row, groups, measure, seeds(2)));
    report.zero_shot = zero_shot.filter(|zeroth| !zeroth.rows.is_empty()).map(|ZeroShot { rows, scores }| {
        let groups: Option<Vec<Option<String>>> =
            groups.map(|groups| rows.iter().filter_map(|row| groups.get(*row).cloned()).collect());
        let qualities = qualities(&scores.to_owned(), &targets.select(rows));
        mean_quality(&qualities, &Units::of(rows.len(), groups.as_deref()), seeds(3))
    });
    report.tuning = evidence.tuning.as_ref().map(|(tuning, frozen)| {
        let probabilities = frozen.probabilities.mapv(f64::from);
        let frozen = Said { probabilities: probabilities.view(), thresholds: frozen.thresholds };
        let tuned = Said { probabilities: served.view(), thresholds: evidence.thresholds };
        let (frozen, gain) = gain(frozen, tuned, targets, (units, seeds(6)));
        Tuning { frozen: Some(frozen), gain: Some(gain), ..tuning.clone() }
    });
    report.transfer =
        evidence.curve.and_then(|(curve, names)| transfer::judge(curve, names, (units, seeds(4))));
    if let Some((curve, _)) = evidence.curve {
        report.left_out.extend(transfer::left_out(curve));
    }
    report.suspicious = evidence.out_of_sample.map(|rows| suspects(rows, evidence.classes));
    report.warnings.extend(notes::warnings(&report, evidence.train_counts, units));
    if evidence.curve.is_some() && report.transfer.is_none() {
        report.warnings.push(notes::transfer_not_measured());
    }
    report.verdict = notes::verdict(&report);
    Ok(report)
}

/// Whether scores mean what they say, before and after the temperature.
fn calibration(report: &mut Report, evidence: &Evidence<'_>, served: ArrayView2<'_, f64>, seed: u64) {
    let HeldOut { logits, targets, .. } = evidence.held_out;
    let judge = |scores: ArrayView2<'_, f64>| {
        let found = match targets {
            Targets::Single(labels) => reliability(scores, labels),
            Targets::Multi(rows) => label_reliability(scores, rows),
        };
        Reliability { chance: Some(by_chance(&judged(scores, targets.is_multi()), seed)), ..found }
    };
    let plain = if targets.is_multi() { sigmoid(logits, 1.0) } else { softmax(logits, 1.0) };
    report.calibration = Some(Calibration {
        temperature: evidence.temperature,
        before: judge(plain.view()),
        after: evidence.temperature.map(|_| judge(served)),
    });
}

/// The parts that only problems of one class an item have.
fn single_label_parts(
    report: &mut Report,
    evidence: &Evidence<'_>,
    served: ArrayView2<'_, f64>,
    labels: &[u32],
    seed: (&Units, u64),
) {
    let predicted = best_classes(served);
    let right: Vec<bool> = labels.iter().zip(&predicted).map(|(label, said)| label == said).collect();
    report.confusion = Some(quality::confusion(labels, &predicted, evidence.classes));
    report.coverage = Some(coverage(&confidences(served), &right));
    let commonest = (0u32..).zip(evidence.train_counts).min_by_key(|(_, count)| std::cmp::Reverse(**count));
    report.majority_accuracy = commonest
        .map(|(class, _)| super::metrics::mean(labels.iter().map(|l| f64::from(u8::from(*l == class)))));
    if let ([_, positive], Some(scores)) = (evidence.classes, served.axis_iter(Axis(1)).nth(1)) {
        let ranking = Ranking::new(scores.to_vec(), labels.iter().map(|label| *label == 1).collect());
        report.curves = binary_curves(positive, &ranking, seed);
    }
}

/// The metrics and what needs no arithmetic.
fn bare(evidence: &Evidence<'_>, metrics: Metrics) -> Report {
    Report {
        version: VERSION,
        verdict: String::new(),
        run: evidence.run.clone(),
        metrics,
        majority_accuracy: None,
        confusion: None,
        curves: None,
        calibration: None,
        coverage: None,
        thresholds: Vec::new(),
        transfer: None,
        tuning: None,
        zero_shot: None,
        suspicious: None,
        duplicates: evidence.duplicates.clone(),
        groups: None,
        gate: None,
        stages: evidence.stages.clone(),
        warnings: evidence.warnings.clone(),
        left_out: evidence.left_out.clone(),
    }
}

fn suspects(rows: OutOfSample<'_>, classes: &[String]) -> Suspicious {
    let found = suspicious(rows.probabilities.mapv(f64::from).view(), rows.targets);
    let name = |class: Option<u32>| class.and_then(|class| classes.get(class as usize)).cloned();
    let listed = |suspect: &Suspect| {
        Some(SuspiciousRow {
            row: rows.rows.get(suspect.row)?.clone(),
            label: name(suspect.label),
            suggested: name(suspect.suggested),
            label_score: suspect.label_score,
            suggested_score: suspect.suggested_score,
        })
    };
    Suspicious {
        examined: rows.targets.len(),
        found: found.len(),
        rows: found.iter().take(SUSPECTS).filter_map(listed).collect(),
    }
}

fn check(evidence: &Evidence<'_>) -> Result<(), EvaluateError> {
    let HeldOut { logits, targets, groups, zero_shot } = evidence.held_out;
    let (n, classes) = (targets.len(), evidence.classes.len());
    if n == 0 {
        return Err(EvaluateError::Empty);
    }
    let sizes = [
        ("logits", Some(logits.nrows()), n),
        ("a row of logits", Some(logits.ncols()), classes),
        ("counts of training items", Some(evidence.train_counts.len()), classes),
        ("groups", groups.map(<[_]>::len), n),
        ("zero-shot scores", zero_shot.map(|of| of.scores.nrows()), zero_shot.map_or(0, |of| of.rows.len())),
        ("a row of zero-shot scores", zero_shot.map(|of| of.scores.ncols()), classes),
        (
            "rows of zero-shot scores",
            zero_shot.and_then(|of| of.rows.iter().max()).map(|row| (*row).max(n - 1)),
            n - 1,
        ),
        ("thresholds", evidence.thresholds.map(<[_]>::len), classes),
        (
            "thresholds of the linear probe",
            evidence.tuning.as_ref().and_then(|(_, frozen)| frozen.thresholds).map(<[_]>::len),
            classes,
        ),
    ];
    check_sizes(&sizes)?;
    check_classes(targets, classes)?;
    check_finite("logits", Some(logits))?;
    check_finite("zero-shot scores", zero_shot.map(|of| of.scores))?;
    if let Some(rows) = evidence.out_of_sample {
        let n = rows.targets.len();
        check_sizes(&[
            ("out-of-sample probabilities", Some(rows.probabilities.nrows()), n),
            ("a row of out-of-sample probabilities", Some(rows.probabilities.ncols()), classes),
            ("rows of the upload", Some(rows.rows.len()), n),
        ])?;
        check_classes(rows.targets, classes)?;
        check_finite("out-of-sample probabilities", Some(rows.probabilities))?;
    }
    match evidence.temperature {
        Some(temperature) if !(temperature.is_finite() && temperature > 0.0) => {
            Err(EvaluateError::NotFinite("temperature"))
        }
        _ => Ok(()),
    }
}

fn check_sizes(sizes: &[(&'static str, Option<usize>, usize)]) -> Result<(), EvaluateError> {
    for &(part, given, expected) in sizes {
        if let Some(given) = given.filter(|given| *given != expected) {
            return Err(EvaluateError::Size { part, given, expected });
        }
    }
    Ok(())
}

fn check_classes(targets: &Targets, classes: usize) -> Result<(), EvaluateError> {
    let known = |class: &&u32| (**class as usize) < classes;
    for row in 0..targets.len() {
        if let Some(&class) = targets.of(row).iter().find(|class| !known(class)) {
            return Err(EvaluateError::UnknownClass { class, classes });
        }
    }
    Ok(())
}

fn check_finite(part: &'static str, numbers: Option<ArrayView2<'_, f32>>) -> Result<(), EvaluateError> {
    let fits = numbers.is_none_or(|numbers| numbers.iter().all(|number| number.is_finite()));
    if fits { Ok(()) } else { Err(EvaluateError::NotFinite(part)) }
}
