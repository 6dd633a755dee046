//! The charts: reliability, coverage, learning curve, two-class curves and the confusion matrix.

use headstart_types::report::{
    BinaryCurves, Confusion, Coverage, LearningPoint, Quality, Reliability, Transfer,
};
use maud::{Markup, html};

use super::frame::{Tick, chart, fifths, line, rounded, x, y};
use super::words::{percent, point_name, short};

/// Most classes whose matrix is drawn; above, cells would be smaller than their numbers.
const DRAWN: usize = 30;

/// Points of a learning curve up to which each has its name below; above, every second.
const NAMED: usize = 10;

/// Room that two names need between them, as a share of the axis.
const ROOM: f64 = 0.06;

/// Side of the drawn matrix and room for labels, in pixels of its own.
const SIDE: f64 = 420.0;
const LABELS: f64 = 110.0;

/// Bars of accuracy by confidence, against the diagonal where both are equal.
pub(super) fn reliability(title: &str, reliability: &Reliability) -> Markup {
    let content = html! {
        @for bin in &reliability.bins {
            @if let Some(accuracy) = bin.accuracy {
                rect class="bar" x=(x(bin.low) + 0.5) y=(y(accuracy)) width=(rounded(x(bin.high) - x(bin.low) - 1.0))
                    height=(rounded(y(0.0) - y(accuracy))) {
                    title { (bin.items) " items, " (percent(accuracy)) " right" }
                }
            }
        }
        (line("ideal", [(0.0, 0.0), (1.0, 1.0)]))
    };
    chart(title, ["score of the answer", "right"], [&fifths(), &fifths()], content)
}

/// Accuracy against the share of items answered. The vertical axis starts where the curve does.
pub(super) fn coverage(coverage: &Coverage) -> Markup {
    let (floor, ticks) = zoomed(coverage.points.iter().map(|point| point.accuracy));
    let points = coverage.points.iter().map(|point| (point.coverage, scaled(point.accuracy, floor)));
    let content = html! {
        (line("one", points))
        @for point in &coverage.points {
            circle class="dot-one" cx=(x(point.coverage)) cy=(y(scaled(point.accuracy, floor))) r="3" {
                title { "from score " (format!("{:.3}", point.threshold)) " on: " (percent(point.accuracy)) " of " (percent(point.coverage)) }
            }
        }
    };
    chart("Accuracy against coverage", ["items answered", "accuracy"], [&fifths(), &ticks], content)
}

/// Both learners by the number of examples, which doubles from tick to tick; all of them stand where their number does.
pub(super) fn learning_curve(transfer: &Transfer, zero_shot: Option<f64>) -> Markup {
    // The zeroth point stands one doubling before the first.
    let first = transfer.points.first().map_or(0.0, doublings) - f64::from(u8::from(zero_shot.is_some()));
    let last = transfer.points.last().map_or(1.0, doublings).max(first + 1.0);
    let across = |doublings: f64| (doublings - first) / (last - first);
    let all = transfer.points.iter().flat_map(|p| [p.transfer.mean, p.no_transfer.mean]).chain(zero_shot);
    let (floor, up_ticks) = zoomed(all);
    let name = |point: &LearningPoint| {
        let name = point_name(point);
        (across(doublings(point)), name)
    };
    let some = transfer.points.iter().filter(|point| !point.all);
    let zeroth = zero_shot.map(|_| (0.0, "0".to_owned()));
    let ends = zeroth.into_iter().chain(transfer.points.last().filter(|point| point.all).map(name));
    let mut ticks: Vec<Tick> = Vec::new();
    for tick in ends.chain(some.step_by(1 + transfer.points.len() / NAMED).map(name)) {
        if ticks.iter().all(|other| (other.0 - tick.0).abs() >= ROOM) {
            ticks.push(tick);
        }
    }
    let learner = |class: &str, of: fn(&LearningPoint) -> Quality| {
        let place = |point: &LearningPoint| (across(doublings(point)), of(point));
        html! {
            (line(class, transfer.points.iter().map(place).map(|(at, q)| (at, scaled(q.mean, floor)))))
            @for (at, quality) in transfer.points.iter().map(place) {
                @let spread = quality.spread.unwrap_or(0.0);
                line class=(format!("{class} whisker")) x1=(x(at)) x2=(x(at)) y1=(y(scaled(quality.mean - spread, floor)))
                    y2=(y(scaled(quality.mean + spread, floor))) {}
                circle class=(format!("dot-{class}")) cx=(x(at)) cy=(y(scaled(quality.mean, floor))) r="3" {
                    title { (percent(quality.mean)) }
                }
            }
        }
    };
    let content = html! {
        (learner("two", |point| point.no_transfer))
        (learner("one", |point| point.transfer))
        @if let Some(zero_shot) = zero_shot {
            circle class="dot-one" cx=(x(0.0)) cy=(y(scaled(zero_shot, floor))) r="4" { title { "zero-shot " (percent(zero_shot)) } }
        }
    };
    chart("Learning curve", ["examples a class", &transfer.measure], [&ticks, &up_ticks], content)
}

/// ROC and precision–recall, side by side.
pub(super) fn two_classes(curves: &BinaryCurves) -> [Markup; 2] {
    let roc = curves.roc.iter().map(|point| (point.false_positive_rate, point.true_positive_rate));
    let roc = html! { (line("ideal", [(0.0, 0.0), (1.0, 1.0)])) (line("one", roc)) };
    let precision = curves.precision_recall.iter().map(|point| (point.recall, point.precision));
    [
        chart("ROC curve", ["false positive rate", "true positive rate"], [&fifths(), &fifths()], roc),
        chart(
            "Precision–recall curve",
            ["recall", "precision"],
            [&fifths(), &fifths()],
            line("one", precision),
        ),
    ]
}

/// The matrix, darker where more of a true class's items lie; `None` where it is too large to draw.
pub(super) fn confusion(confusion: &Confusion, labels: &[&str]) -> Option<Markup> {
    let matrix = confusion.matrix.as_ref().filter(|matrix| matrix.len() <= DRAWN)?;
    let cell = SIDE / matrix.len().max(1) as f64;
    let at = |index: usize| rounded(LABELS + index as f64 * cell);
    let whole = SIDE + LABELS;
    Some(html! {
        svg viewBox=(format!("0 0 {whole} {whole}")) role="img" {
            title { "Confusion matrix" }
            @for (row, (counts, label)) in matrix.iter().zip(labels).enumerate() {
                @let support = counts.iter().sum::<usize>().max(1) as f64;
                @let middle = rounded(at(row) + cell / 2.0);
                text x=(LABELS - 6.0) y=(middle + 4.0) text-anchor="end" { (short(label)) }
                text x=(middle) y=(LABELS - 6.0) transform=(format!("rotate(-60 {middle} {})", LABELS - 6.0)) { (short(label)) }
                @for (column, count) in counts.iter().enumerate() {
                    rect class="cell" x=(at(column)) y=(at(row)) width=(rounded(cell)) height=(rounded(cell))
                        fill-opacity=(format!("{:.2}", *count as f64 / support * 0.7)) {
                        title { (label) " named " (labels.get(column).copied().unwrap_or("")) ": " (count) }
                    }
                    @if *count > 0 && cell >= 18.0 {
                        text x=(rounded(at(column) + cell / 2.0)) y=(middle + 4.0) text-anchor="middle" { (count) }
                    }
                }
            }
            rect class="edge" x=(LABELS) y=(LABELS) width=(SIDE) height=(SIDE) {}
        }
    })
}

fn doublings(point: &LearningPoint) -> f64 {
    (point.items.max(1) as f64).log2()
}

/// The lowest tenth below all values, and ticks from there to 100 %.
fn zoomed(values: impl Iterator<Item = f64>) -> (f64, Vec<Tick>) {
    let lowest = values.fold(0.9, f64::min).max(0.0);
    let floor = (lowest * 10.0 - 1e-9).floor().max(0.0) / 10.0;
    let steps = ((1.0 - floor) * 10.0).round() as usize;
    let every = if steps > 5 { 2 } else { 1 };
    let ticks = (0..=steps).rev().step_by(every).map(|step| {
        let value = floor + step as f64 / 10.0;
        (scaled(value, floor), format!("{:.0} %", value * 100.0))
    });
    (floor, ticks.collect())
}

fn scaled(value: f64, floor: f64) -> f64 {
    (value - floor) / (1.0 - floor)
}
