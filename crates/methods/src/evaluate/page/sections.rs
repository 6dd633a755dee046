//! The page from top to bottom.

use headstart_types::report::{
    Calibration, Duplicates, Groups, Metrics, MultiLabelMetrics, Reliability, Report, Run,
    SingleLabelMetrics, Suspicious, Transfer, Tuning, Twin,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts;
use super::words::{bytes, class, estimate, percent, point_name, row, significant};

/// The page's style sheet.
const STYLE: &str = include_str!("style.css");

/// The report as a whole HTML page. Whatever came with the data is escaped.
pub fn render(report: &Report) -> String {
    let what = format!("{} on {}", report.run.method, report.run.backbone.id);
    let title = match report.run.fine_tuned_model.as_ref().or(report.run.classifier.as_ref()) {
        Some(of) => format!("Report: {of}, {what}"),
        None => format!("Report: {what}"),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    p.verdict { (report.verdict) }
                    @if let Some(job) = &report.run.job { p.dim { "Job " (job) } }
                    @if let Some(gate) = &report.gate { p { (gate.message) "." } }
                    (notes(report))
                    (quality(report))
                    @if let Some(tuning) = &report.tuning { (tuned(tuning)) }
                    (transfer(report))
                    (confusion(report))
                    (scores(report))
                    @if let Some(groups) = &report.groups { (by_group(groups)) }
                    @if let Some(suspicious) = &report.suspicious { (labels(suspicious)) }
                    @if let Some(duplicates) = &report.duplicates { (twice(duplicates)) }
                    (run(&report.run))
                    (stages(report))
                }
            }
        }
    };
    page.into_string()
}

fn notes(report: &Report) -> Markup {
    html! {
        @if !report.warnings.is_empty() {
            section id="warnings" {
                h2 { "Before trusting the figures" }
                ul { @for note in &report.warnings { li { (note.message) } } }
            }
        }
        @if !report.left_out.is_empty() {
            section id="left-out" {
                h2 { "Left out" }
                ul { @for left in &report.left_out { li { (left.part) ": " (left.reason) } } }
            }
        }
    }
}

fn quality(report: &Report) -> Markup {
    html! {
        section id="quality" {
            h2 { "Quality on the held-out items" }
            p.dim { "In brackets: 95 % intervals." }
            @match &report.metrics {
                Metrics::SingleLabel(metrics) => { (single_label(metrics)) }
                Metrics::MultiLabel(metrics) => { (multi_label(metrics)) }
            }
            @if let Some(share) = report.majority_accuracy {
                p { "Always naming the commonest class is right for " (percent(share)) "." }
            }
            @if let Some(zero_shot) = report.zero_shot {
                p { "Zero-shot labels of the backbone: " (estimate(zero_shot)) "." }
            }
        }
    }
}

fn single_label(metrics: &SingleLabelMetrics) -> Markup {
    let classes = metrics.classes.iter().map(|class| {
        let shares = [class.precision, class.recall, class.f1].map(percent);
        (vec![class.label.clone()], shares.into_iter().chain([class.support.to_string()]).collect())
    });
    html! {
        ul {
            li { "accuracy " (estimate(metrics.accuracy)) " of " (metrics.items) " items" }
            li { "balanced accuracy " (estimate(metrics.balanced_accuracy)) }
            li { "macro F1 " (estimate(metrics.macro_f1)) }
            li { "log loss " (format!("{:.3}", metrics.log_loss)) }
        }
        (table(&["class"], &["precision", "recall", "F1", "items"], classes))
    }
}

fn multi_label(metrics: &MultiLabelMetrics) -> Markup {
    let labels = metrics.labels.iter().map(|label| {
        let precision = label.average_precision.map_or_else(|| "–".to_owned(), percent);
        let shares = [label.precision, label.recall, label.f1].map(percent);
        let numbers = shares.into_iter().chain([
            precision,
            format!("{:.3}", label.threshold),
            label.support.to_string(),
        ]);
        (vec![label.label.clone()], numbers.collect())
    });
    html! {
        ul {
            li { "micro F1 " (estimate(metrics.micro_f1)) " on " (metrics.items) " items" }
            li { "macro F1 " (estimate(metrics.macro_f1)) }
            li { "exactly right " (estimate(metrics.exact_match)) }
            @if let Some(precision) = metrics.mean_average_precision { li { "mean average precision " (percent(precision)) } }
        }
        (table(&["label"], &["precision", "recall", "F1", "average precision", "threshold", "items"], labels))
    }
}

fn tuned(tuning: &Tuning) -> Markup {
    let passes = tuning.epochs.iter().zip(1..).map(|(pass, number)| {
        let kept = if number == tuning.kept_epoch { ", kept" } else { "" };
        let none = || "–".to_owned();
        let right = pass.held_out_accuracy.map_or_else(none, percent);
        let loss = pass.held_out_loss.map_or_else(none, |loss| format!("{loss:.3}"));
        (vec![format!("{number}{kept}")], vec![format!("{:.3}", pass.loss), right, loss])
    });
    let mixtures = tuning.mixtures.iter().map(|mixture| {
        let served = if mixture.share == tuning.share { ", served" } else { "" };
        let numbers = [percent(mixture.held_out_accuracy), format!("{:.3}", mixture.held_out_loss)];
        (vec![format!("{}{served}", percent(mixture.share))], numbers.to_vec())
    });
    html! {
        section id="tuning" {
            h2 { "Did training the backbone help?" }
            @if let Some(gain) = &tuning.gain { p class=(class(gain.verdict)) { (gain.sentence) } }
            @if let Some(random) = &tuning.from_random { p { (random.sentence) } }
            p.dim {
                (tuning.weights) " weights trained on " (tuning.learned_from) " items, "
                @if tuning.stopped_by > 0 { "stopped by " (tuning.stopped_by) " others" } @else { "none held out to stop it" }
                "; what was changed is stored in " (bytes(tuning.stored_bytes)) "."
            }
            (table(&["pass"], &["loss", "right, rows that stop the run", "log loss"], passes))
            @if !tuning.mixtures.is_empty() {
                h3 { "Between the weights it began with and those it kept" }
                (table(&["share of the kept"], &["right, rows that stop the run", "log loss"], mixtures))
            }
        }
    }
}

fn transfer(report: &Report) -> Markup {
    let Some(transfer) = &report.transfer else { return html! {} };
    let zero_shot = report.zero_shot.map(|zero_shot| zero_shot.value);
    html! {
        section id="transfer" {
            h2 { "Did transfer help?" }
            ul {
                @for (name, part) in [("Start", &transfer.start), ("Slope", &transfer.slope), ("Asymptote", &transfer.asymptote)] {
                    @if let Some(part) = part { li class=(class(part.verdict)) { strong { (name) } ": " (part.sentence) } }
                }
            }
            figure {
                (charts::learning_curve(transfer, zero_shot))
                figcaption {
                    "Solid: " (transfer.learner) ". Dashed: " (transfer.baseline) ". Bars: standard deviation between draws."
                    @if zero_shot.is_some() { " The single dot is zero-shot." }
                }
            }
            (curve(transfer, zero_shot))
        }
    }
}

fn curve(transfer: &Transfer, zero_shot: Option<f64>) -> Markup {
    let rows = transfer.points.iter().map(|point| {
        let name = point_name(point);
        let quality = |q: headstart_types::report::Quality| match q.spread {
            Some(spread) => format!("{} ± {:.1}", percent(q.mean), spread * 100.0),
            None => percent(q.mean),
        };
        let draws = point.transfer.draws.to_string();
        (
            vec![name],
            vec![point.items.to_string(), draws, quality(point.transfer), quality(point.no_transfer)],
        )
    });
    let none = || "–".to_owned();
    let zeroth = zero_shot.map(|quality| {
        (vec!["0, zero-shot".to_owned()], vec!["0".to_owned(), none(), percent(quality), none()])
    });
    let rows = zeroth.into_iter().chain(rows);
    table(&["examples a class"], &["items", "draws", "transfer", "no transfer"], rows)
}

fn confusion(report: &Report) -> Markup {
    let (Some(confusion), Metrics::SingleLabel(metrics)) = (&report.confusion, &report.metrics) else {
        return html! {};
    };
    let labels: Vec<&str> = metrics.classes.iter().map(|class| class.label.as_str()).collect();
    let top = confusion.top.iter().map(|confused| {
        let words = vec![confused.label.clone(), confused.predicted.clone()];
        (words, vec![confused.items.to_string(), percent(confused.share)])
    });
    html! {
        section id="confusion" {
            h2 { "What is taken for what" }
            @if let Some(drawing) = charts::confusion(confusion, &labels) {
                figure { (drawing) figcaption { "Rows are the true classes, columns the named ones." } }
            }
            @if confusion.kinds > 0 { (table(&["class", "named"], &["items", "of the class"], top)) }
            @else { p { "No held-out item was named wrong." } }
            @if confusion.kinds > confusion.top.len() {
                p.dim { "The " (confusion.top.len()) " commonest of " (confusion.kinds) " kinds." }
            }
        }
    }
}

fn scores(report: &Report) -> Markup {
    html! {
        @if let Some(calibration) = &report.calibration { (calibrated(calibration)) }
        @if let Some(coverage) = &report.coverage {
            section id="coverage" {
                h2 { "Abstaining" }
                figure { (charts::coverage(coverage)) figcaption { "Items with a low score are left unanswered." } }
                @if !report.thresholds.is_empty() { p { "The answer is an item's best label." } }
                (table(&[], &["accuracy wanted", "threshold", "items answered", "accuracy"], coverage.targets.iter().map(|target| {
                    let reached = target.reached.map(|point| [format!("{:.3}", point.threshold), percent(point.coverage), percent(point.accuracy)]);
                    let numbers = reached.unwrap_or_else(|| ["–".to_owned(), "not reached".to_owned(), "–".to_owned()]);
                    (vec![], [percent(target.wanted)].into_iter().chain(numbers).collect())
                })))
            }
        }
        @if !report.thresholds.is_empty() {
            section id="thresholds" {
                h2 { "One threshold for all labels" }
                (table(&[], &["threshold", "precision", "recall", "F1", "items with a label"], report.thresholds.iter().map(|point| {
                    let shares = [point.precision, point.recall, point.f1, point.coverage].map(percent);
                    (vec![], [format!("{:.2}", point.threshold)].into_iter().chain(shares).collect())
                })))
            }
        }
        @if let Some(curves) = &report.curves {
            @let [roc, precision] = charts::two_classes(curves);
            section id="curves" {
                h2 { "Two classes" }
                p { "For " strong { (curves.positive) } ": area under ROC " (estimate(curves.roc_auc)) ", average precision " (estimate(curves.average_precision)) "." }
                div.charts { figure { (roc) } figure { (precision) } }
            }
        }
    }
}

fn calibrated(calibration: &Calibration) -> Markup {
    let error = |found: &Reliability| {
        let off = format!("off by {:.1} points on average", found.expected_calibration_error * 100.0);
        match found.chance {
            Some(chance) => format!("{off}, where chance alone makes up to {:.1}", chance * 100.0),
            None => off,
        }
    };
    html! {
        section id="calibration" {
            h2 { "Do scores mean what they say?" }
            div.charts {
                figure {
                    (charts::reliability("Reliability before temperature", &calibration.before))
                    figcaption { "As fitted: " (error(&calibration.before)) "." }
                }
                @if let (Some(after), Some(temperature)) = (&calibration.after, calibration.temperature) {
                    figure {
                        (charts::reliability("Reliability after temperature", after))
                        figcaption { "At temperature " (significant(temperature)) ", as served: " (error(after)) "." }
                    }
                }
            }
        }
    }
}

fn by_group(groups: &Groups) -> Markup {
    let rows = groups
        .groups
        .iter()
        .map(|group| (vec![group.group.clone()], vec![estimate(group.quality), group.items.to_string()]));
    html! {
        section id="groups" {
            h2 { "By group" }
            @if let Some(gap) = &groups.gap { p { (gap.sentence) } }
            (table(&["group"], &[&groups.measure, "items"], rows))
            @if groups.unlisted > 0 { p.dim { (groups.unlisted) " smaller groups are not listed." } }
        }
    }
}

fn labels(suspicious: &Suspicious) -> Markup {
    let name = |label: &Option<String>| label.clone().unwrap_or_else(|| "–".to_owned());
    let rows = suspicious.rows.iter().map(|found| {
        let scores = [found.label_score, found.suggested_score].map(|score| format!("{score:.3}"));
        (vec![row(&found.row), name(&found.label), name(&found.suggested)], scores.to_vec())
    });
    html! {
        section id="suspicious" {
            h2 { "Labels that look wrong" }
            p { (suspicious.found) " of " (suspicious.examined) " training items, judged by models that did not see them." }
            @if suspicious.found > 0 { (table(&["item", "label", "rather"], &["score", "score of the other"], rows)) }
        }
    }
}

fn twice(duplicates: &Duplicates) -> Markup {
    let rows = duplicates.pairs.iter().map(|pair| {
        let alike = match pair.twin {
            Twin::Exact => "equal",
            Twin::Near => "almost equal",
        };
        (vec![row(&pair.first), row(&pair.second), alike.to_owned()], vec![])
    });
    html! {
        section id="duplicates" {
            h2 { "Duplicates" }
            p {
                (duplicates.exact) " items equal an earlier one, " (duplicates.near) " almost; "
                (duplicates.across_splits) " validation or held-out items also occur in an earlier split, and "
                (duplicates.conflicting) " contents have different labels."
            }
            @if !duplicates.pairs.is_empty() { (table(&["item", "again as", "alike"], &[], rows)) }
        }
    }
}

fn run(run: &Run) -> Markup {
    let plain = [
        ("backbone", run.backbone.id.clone()),
        ("backbone's SHA-256", run.backbone.sha256.clone()),
        ("method", run.method.clone()),
        ("seed", run.seed.to_string()),
        ("software", run.software.clone()),
        ("data's SHA-256", run.dataset.sha256.clone()),
        ("held out", run.dataset.held_out.clone()),
    ];
    let optional = [
        ("classifier", run.classifier.clone()),
        ("version", run.fine_tuned_model.clone()),
        ("job", run.job.clone()),
        ("ONNX Runtime", run.onnxruntime.clone()),
        ("validation data's SHA-256", run.dataset.validation_sha256.clone()),
        ("backbone at lower precision, made from", run.backbone.original.clone()),
        ("source task", run.backbone.source_task.clone()),
        ("why this method", run.method_reason.clone()),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let hyperparameters = run.hyperparameters.iter().map(|(name, value)| (name.clone(), value.to_string()));
    let chosen = run.chosen.iter().map(|(name, value)| (format!("{name}, chosen"), value.to_string()));
    let splits =
        run.dataset.splits.iter().map(|(name, items)| (format!("items in {name}"), items.to_string()));
    let facts = plain.into_iter().map(|(name, value)| (name.to_owned(), value));
    let facts = facts.chain(optional).chain(hyperparameters).chain(chosen).chain(splits);
    html! {
        section id="run" {
            h2 { "What was run" }
            div.wide { table { @for (name, value) in facts { tr { th scope="row" { (name) } td.code { (value) } } } } }
        }
    }
}

fn stages(report: &Report) -> Markup {
    let rows = report.stages.iter().map(|stage| {
        let peak = stage.peak_bytes.map_or_else(|| "–".to_owned(), bytes);
        (vec![stage.name.clone()], vec![format!("{:.2}", stage.seconds), stage.items.to_string(), peak])
    });
    html! {
        @if !report.stages.is_empty() {
            section id="stages" {
                h2 { "Where the time went" }
                (table(&["stage"], &["seconds", "items", "peak memory"], rows))
            }
        }
    }
}

/// A table of words on the left and numbers on the right.
fn table(words: &[&str], numbers: &[&str], rows: impl Iterator<Item = (Vec<String>, Vec<String>)>) -> Markup {
    html! {
        div.wide {
            table {
                thead { tr {
                    @for word in words { th scope="col" { (word) } }
                    @for number in numbers { th.n scope="col" { (number) } }
                } }
                tbody { @for (words, numbers) in rows { tr {
                    @for word in words { td { (word) } }
                    @for number in numbers { td.n { (number) } }
                } } }
            }
        }
    }
}
