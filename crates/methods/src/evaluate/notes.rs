//! The report's words: the verdict, and warnings that follow from the figures.

use headstart_types::report::{Estimate, Metrics, Note, Report, Verdict};

use super::intervals::Units;
use super::transfer::points;

/// Training items of a class below which it is warned of.
const FEW: usize = 10;

/// Held-out items below which intervals are wide: at 100 an accuracy of 90 % is known to about six points.
const FEW_HELD_OUT: usize = 100;

/// Groups of held-out items, and items of none, below which intervals are those of few things.
const FEW_GROUPS: usize = 10;

/// Largest class over smallest from which on the classes are called uneven.
const UNEVEN: usize = 10;

/// Calibration error from which on scores are not to be read as probabilities, where chance alone would not make it.
const MISCALIBRATED: f64 = 0.1;

/// Below this a gap between groups is not put down to chance.
const CHANCE: f64 = 0.05;

/// Names listed in one warning.
const NAMED: usize = 5;

/// How good, against what, and whether transfer helped.
pub(crate) fn verdict(report: &Report) -> String {
    let mut sentences = vec![match &report.metrics {
        Metrics::SingleLabel(metrics) => {
            let against = report
                .majority_accuracy
                .map(|share| format!(", against {} by always naming the commonest class", percent(share)));
            format!(
                "{} of {} held-out items are named right ({}){}.",
                percent(metrics.accuracy.value),
                metrics.items,
                range(metrics.accuracy),
                against.unwrap_or_default(),
            )
        }
        Metrics::MultiLabel(metrics) => format!(
            "Micro F1 is {} on {} held-out items ({}).",
            percent(metrics.micro_f1.value),
            metrics.items,
            range(metrics.micro_f1),
        ),
    }];
    let tuning = report.tuning.as_ref();
    sentences.extend(tuning.and_then(|tuning| Some(tuning.gain.as_ref()?.sentence.clone())));
    sentences.extend(tuning.and_then(|tuning| Some(tuning.from_random.as_ref()?.sentence.clone())));
    sentences.extend(report.transfer.as_ref().map(|transfer| transfer.sentence.clone()));
    sentences.join(" ")
}

/// That nobody knows whether transfer helped.
pub(crate) fn transfer_not_measured() -> Note {
    let message =
        "whether transfer helped was not measured: there was no time for it (`report.budget_seconds`)";
    Note { code: "transfer_not_measured".to_owned(), message: message.to_owned() }
}

/// Warnings that follow from the figures, from the training items of each class and from what intervals were drawn of.
pub(crate) fn warnings(report: &Report, train_counts: &[usize], units: &Units) -> Vec<Note> {
    let names = labels(&report.metrics);
    let mut notes = Vec::new();
    let mut note = |code: &str, message: String| notes.push(Note { code: code.to_owned(), message });
    let few: Vec<&str> =
        names.iter().zip(train_counts).filter(|(_, n)| **n < FEW).map(|((name, _), _)| *name).collect();
    if !few.is_empty() {
        note("few_examples", format!("fewer than {FEW} training items of {}", listed(&few)));
    }
    if let (Some(&most), Some(&least)) = (train_counts.iter().max(), train_counts.iter().min())
        && most >= UNEVEN * least.max(1)
    {
        note(
            "imbalance",
            format!(
                "the largest class has {most} training items, the smallest {least}: look at macro F1, not accuracy alone"
            ),
        );
    }
    let items = items(&report.metrics);
    if items < FEW_HELD_OUT {
        note("few_held_out", format!("{items} held-out items leave wide intervals"));
    }
    if let Some(message) = few_groups(report, units, items) {
        note("few_groups", message);
    }
    let unseen: Vec<&str> =
        names.iter().filter(|(_, support)| *support == 0).map(|(name, _)| *name).collect();
    if !unseen.is_empty() {
        note(
            "class_not_held_out",
            format!("no held-out item of {}: nothing is known of it", listed(&unseen)),
        );
    }
    let leaked = report.duplicates.as_ref().map_or(0, |duplicates| duplicates.across_splits);
    if leaked > 0 {
        note(
            "leakage",
            format!(
                "{leaked} validation or held-out items also occur among the training items: the figures flatter"
            ),
        );
    }
    figures(report, &mut note);
    notes
}

/// That whole groups of rows leave few things to count, where rows of a group are held to be alike. A row without a group
/// counts for itself.
fn few_groups(report: &Report, units: &Units, items: usize) -> Option<String> {
    let count = units.count();
    if count >= items || count >= FEW_GROUPS {
        return None;
    }
    let groups = report.groups.as_ref().map_or(0, |groups| groups.groups.len() + groups.unlisted);
    let alone = match count.saturating_sub(groups) {
        0 => String::new(),
        alone => format!(", {alone} of them of no group"),
    };
    let parts = if alone.is_empty() { "groups" } else { "parts" };
    Some(format!(
        "the held-out items are of {count} {parts}{alone}: intervals are as wide as so few leave them, and of fewer than five no difference can be shown"
    ))
}

/// Warnings of figures that are bad.
fn figures(report: &Report, note: &mut impl FnMut(&str, String)) {
    if let (Metrics::SingleLabel(metrics), Some(majority)) = (&report.metrics, report.majority_accuracy)
        && metrics.accuracy.low <= majority
    {
        let message =
            format!("not surely better than always naming the commonest class ({})", percent(majority));
        note("no_better_than_majority", message);
    }
    let served = report.calibration.as_ref().map(|c| c.after.as_ref().unwrap_or(&c.before));
    let by_chance = served.and_then(|served| served.chance).unwrap_or(0.0);
    if let Some(error) = served
        .map(|served| served.expected_calibration_error)
        .filter(|error| *error >= MISCALIBRATED.max(by_chance))
    {
        let message = format!(
            "scores are off by {} on average, where chance alone makes {} at most: do not read them as probabilities",
            points(error),
            points(by_chance)
        );
        note("miscalibrated", message);
    }
    if let Some(transfer) = report.transfer.as_ref().filter(|transfer| transfer.verdict == Verdict::Hurt) {
        note("negative_transfer", format!("{} does better than the backbone", transfer.baseline));
    }
    if let Some(gap) =
        report.groups.as_ref().and_then(|groups| groups.gap.as_ref()).filter(|gap| gap.chance < CHANCE)
    {
        note("group_gap", gap.sentence.clone());
    }
}

fn labels(metrics: &Metrics) -> Vec<(&str, usize)> {
    match metrics {
        Metrics::SingleLabel(metrics) => {
            metrics.classes.iter().map(|class| (class.label.as_str(), class.support)).collect()
        }
        Metrics::MultiLabel(metrics) => {
            metrics.labels.iter().map(|label| (label.label.as_str(), label.support)).collect()
        }
    }
}

fn items(metrics: &Metrics) -> usize {
    match metrics {
        Metrics::SingleLabel(metrics) => metrics.items,
        Metrics::MultiLabel(metrics) => metrics.items,
    }
}

fn listed(names: &[&str]) -> String {
    let some: Vec<String> = names.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
    match names.len().saturating_sub(NAMED) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn range(estimate: Estimate) -> String {
    format!("95 % interval {:.1} to {:.1}", estimate.low * 100.0, estimate.high * 100.0)
}
