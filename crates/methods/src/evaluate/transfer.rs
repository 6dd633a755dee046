//! Whether transfer helped: start, slope and asymptote as differences with intervals, and what they say.
//!
//! The three come from Torrey and Shavlik 2010, "Transfer learning" (Handbook of Research on Machine Learning
//! Applications): a higher start, a higher slope, a higher asymptote. Here
//!
//! - **start** is the difference in quality at the fewest examples a class measured;
//! - **slope** is the difference of the two gains a doubling of the examples: the least-squares gradients of mean quality
//!   on log₂(examples a class), over the points up to eight examples a class. Over the whole curve the slope would say
//!   nothing new: two curves that begin apart and end together differ in it by just that much;
//! - **asymptote** is the difference in quality with all rows. A power law fitted to so few points, several of them noisy,
//!   has a limit of no use; what all rows give is measured and is what the classifier has.
//!
//! Intervals are those of a paired bootstrap: each replicate draws the held-out rows with replacement, the same for both
//! learners and all points, and the draws of examples likewise. They hold 0 unless McNemar's test on the rows speaks against it.

use headstart_types::report::{Difference, Estimate, LearningPoint, LeftOut, Quality, Transfer, Verdict};

use super::intervals::{Units, doubted, resampled};
use super::learning_curve::{Curve, Draw, Point};
use super::metrics::mean;

/// Examples a class up to which the slope is taken.
const EARLY: f64 = 8.0;

/// What the two learners are called.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// With transfer.
    pub learner: &'a str,
    /// Without.
    pub baseline: &'a str,
}

/// Judges a curve; `None` where it has no point. Its held-out rows are drawn as `units` says.
pub fn judge(curve: &Curve, names: Names<'_>, (units, seed): (&Units, u64)) -> Option<Transfer> {
    let first = curve.points.first()?;
    let last = curve.points.last()?;
    let early: Vec<&Point> = curve.points.iter().filter(|point| point.examples_a_class <= EARLY).collect();
    let figures = |rows: &[f64], luck: &[f64]| {
        [gap(first, rows, luck), slope(&early, rows, luck), gap(last, rows, luck)]
    };
    let [start, slope, end] = paired_bootstrap(curve, (units, seed), figures);
    let weighed = |estimate, differences: Vec<f64>| doubted(estimate, &differences, units);
    let (start, end) = (weighed(start, gaps(first)), weighed(end, gaps(last)));
    let slope = weighed(slope, slopes(&early));
    let start = curve.starts().then(|| at(start, first, false));
    let ahead = start.as_ref().is_some_and(|start| start.verdict == Verdict::Helped);
    let slope = (early.len() > 1).then(|| while_few(slope, &early, ahead)).flatten();
    let end = at(end, last, last.examples.is_none());
    let verdict = end.verdict;
    let sentence = sentence(start.as_ref(), slope.as_ref(), &end, last);
    let asymptote = last.examples.is_none().then_some(end);
    let measure = if curve.multi_label { "mean F1 of an item's labels" } else { "accuracy" };
    Some(Transfer {
        learner: names.learner.to_owned(),
        baseline: names.baseline.to_owned(),
        measure: measure.to_owned(),
        points: curve.points.iter().map(described).collect(),
        start,
        slope,
        asymptote,
        verdict,
        sentence,
    })
}

/// Points the time did not suffice for.
pub fn left_out(curve: &Curve) -> Vec<LeftOut> {
    let name = |examples: &Option<usize>| match examples {
        Some(examples) => format!("learning curve at {}", a_class(*examples as f64)),
        None => "learning curve with all training items".to_owned(),
    };
    let reason = "the time for the report was spent";
    curve.left_out.iter().map(|e| LeftOut { part: name(e), reason: reason.to_owned() }).collect()
}

impl Curve {
    /// Whether the first point is one of few examples.
    fn starts(&self) -> bool {
        self.points.first().is_some_and(|point| point.examples.is_some())
    }
}

/// Replicates of `figures`, which get the weight of each held-out row (summing to 1) and luck to choose draws with.
fn paired_bootstrap(
    curve: &Curve,
    (units, seed): (&Units, u64),
    figures: impl Fn(&[f64], &[f64]) -> [f64; 3],
) -> [Estimate; 3] {
    let draws = || curve.points.iter().flat_map(|point| &point.draws);
    let rows = draws().map(|draw| draw.transfer.len()).min().unwrap_or(0);
    let most_draws = curve.points.iter().map(|point| point.draws.len()).max().unwrap_or(0);
    let every: Vec<f64> = vec![1.0 / rows.max(1) as f64; rows];
    let values = figures(&every, &[]);
    let mut weights = vec![0.0; rows];
    resampled(units, seed, values, |chosen, rng| {
        weights.fill(0.0);
        for row in chosen {
            if let Some(weight) = weights.get_mut(*row) {
                *weight += 1.0 / chosen.len() as f64;
            }
        }
        let luck: Vec<f64> = (0..most_draws).map(|_| rng.unit()).collect();
        figures(&weights, &luck)
    })
}

/// Transfer minus no transfer at one point for each held-out row, over all draws.
fn gaps(point: &Point) -> Vec<f64> {
    let rows = point.draws.iter().map(|draw| draw.transfer.len()).min().unwrap_or(0);
    let of = |draw: &Draw, row: usize| Some(draw.transfer.get(row)? - draw.no_transfer.get(row)?);
    (0..rows).map(|row| mean(point.draws.iter().filter_map(|draw| of(draw, row)))).collect()
}

/// What each held-out row has of the slope.
fn slopes(points: &[&Point]) -> Vec<f64> {
    let rows: Vec<Vec<f64>> = points.iter().map(|point| gaps(point)).collect();
    let count = rows.iter().map(Vec::len).min().unwrap_or(0);
    let of = |row: usize| gradient(points, |at| rows.get(at).and_then(|gaps| gaps.get(row)).copied());
    (0..count).map(of).filter(|slope| slope.is_finite()).collect()
}

/// Transfer minus no transfer at one point, over the draws that `luck` chooses: the same ones at points with as many
/// draws, as these hold the same examples. Without luck, every draw once.
fn gap(point: &Point, weights: &[f64], luck: &[f64]) -> f64 {
    let of = |draw: &Draw| {
        let rows = draw.transfer.iter().zip(&draw.no_transfer).zip(weights);
        rows.map(|((with, without), weight)| weight * (with - without)).sum::<f64>()
    };
    let n = point.draws.len();
    if luck.is_empty() {
        return mean(point.draws.iter().map(of));
    }
    let chosen = luck.iter().take(n).filter_map(|luck| point.draws.get((luck * n as f64) as usize));
    mean(chosen.map(of))
}

/// Least-squares gradient of the gap on log₂ of the examples a class; not a number with one point.
fn slope(points: &[&Point], weights: &[f64], luck: &[f64]) -> f64 {
    gradient(points, |at| points.get(at).map(|point| gap(point, weights, luck)))
}

/// The same of whatever stands at each point.
fn gradient(points: &[&Point], value: impl Fn(usize) -> Option<f64>) -> f64 {
    let doublings = |point: &&Point| point.examples_a_class.log2();
    let middle = mean(points.iter().map(doublings));
    let (mut up, mut along) = (0.0, 0.0);
    for (at, point) in points.iter().enumerate() {
        let distance = doublings(point) - middle;
        up += distance * value(at).unwrap_or_default();
        along += distance * distance;
    }
    up / along
}

pub(crate) fn verdict(estimate: Estimate) -> Verdict {
    if estimate.low > 0.0 {
        Verdict::Helped
    } else if estimate.high < 0.0 {
        Verdict::Hurt
    } else {
        Verdict::NoDifference
    }
}

/// The difference at one point.
fn at(estimate: Estimate, point: &Point, all: bool) -> Difference {
    let with = if all {
        format!("With all {} training items", point.items)
    } else {
        format!("With {}", a_class(point.examples_a_class))
    };
    let verdict = verdict(estimate);
    let size = points(estimate.value.abs());
    let says = match verdict {
        Verdict::Helped => format!("transfer helps: {size} better"),
        Verdict::NoDifference => format!("transfer makes no difference: {} apart", signed(estimate.value)),
        Verdict::Hurt => format!("transfer hurts: {size} worse"),
    };
    Difference { estimate, verdict, sentence: format!("{with} {says} ({}).", interval(estimate)) }
}

/// The difference of the gains. A learner that starts `ahead` has less left to gain, which is no harm.
fn while_few(estimate: Estimate, early: &[&Point], ahead: bool) -> Option<Difference> {
    let (first, last) = (early.first()?, early.last()?);
    let verdict = verdict(estimate);
    let size = points(estimate.value.abs());
    let says = match verdict {
        Verdict::Helped => format!("transfer gains {size} more a doubling"),
        Verdict::NoDifference => {
            format!("both gain alike: {} a doubling apart", signed(estimate.value))
        }
        Verdict::Hurt if ahead => format!("transfer gains {size} less a doubling, from a higher start"),
        Verdict::Hurt => format!("transfer gains {size} less a doubling"),
    };
    let range = format!("From {} to {}", number(first.examples_a_class), a_class(last.examples_a_class));
    Some(Difference { estimate, verdict, sentence: format!("{range} {says} ({}).", interval(estimate)) })
}

fn sentence(
    start: Option<&Difference>,
    slope: Option<&Difference>,
    end: &Difference,
    last: &Point,
) -> String {
    let few = start.map(|start| start.verdict);
    let most = if last.examples.is_none() { "with all examples" } else { "with the most examples measured" };
    let head = match (end.verdict, few) {
        (Verdict::Helped, Some(Verdict::Helped) | None) => "Transfer helped.".to_owned(),
        (Verdict::Helped, Some(Verdict::NoDifference)) => {
            format!("Transfer helped {most}; it made no difference with the fewest.")
        }
        (Verdict::Helped, Some(Verdict::Hurt)) => {
            format!("Transfer helped {most}, though it hurt with the fewest.")
        }
        (Verdict::NoDifference, Some(Verdict::Helped)) => {
            format!("Transfer made no difference {most}; it helped with the fewest.")
        }
        (Verdict::NoDifference, Some(Verdict::NoDifference) | None) => {
            "Transfer made no difference.".to_owned()
        }
        (Verdict::NoDifference, Some(Verdict::Hurt)) => {
            format!("Transfer made no difference {most}; it hurt with the fewest.")
        }
        (Verdict::Hurt, Some(Verdict::Helped)) => {
            format!("Transfer hurt {most} (negative transfer), though it helped with the fewest.")
        }
        (Verdict::Hurt, Some(Verdict::NoDifference | Verdict::Hurt) | None) => {
            format!("Transfer hurt {most} (negative transfer).")
        }
    };
    let parts = start.into_iter().chain(slope).chain([end]).map(|part| part.sentence.as_str());
    std::iter::once(head.as_str()).chain(parts).collect::<Vec<_>>().join(" ")
}

fn described(point: &Point) -> LearningPoint {
    let quality = |of: fn(&Draw) -> &Vec<f64>| {
        let means: Vec<f64> = point.draws.iter().map(|draw| mean(of(draw).iter().copied())).collect();
        let centre = mean(means.iter().copied());
        let squares: f64 = means.iter().map(|mean| (mean - centre).powi(2)).sum();
        let spread = (means.len() > 1).then(|| (squares / (means.len() - 1) as f64).sqrt());
        Quality { draws: means.len(), mean: centre, spread }
    };
    LearningPoint {
        examples_a_class: point.examples_a_class,
        items: point.items,
        all: point.examples.is_none(),
        transfer: quality(|draw| &draw.transfer),
        no_transfer: quality(|draw| &draw.no_transfer),
    }
}

/// A share as percentage points.
pub(crate) fn points(share: f64) -> String {
    format!("{:.1} points", share * 100.0)
}

fn signed(share: f64) -> String {
    with_sign(share) + " points"
}

/// An interval in words.
pub(crate) fn interval(estimate: Estimate) -> String {
    format!("95 % interval {} to {}", with_sign(estimate.low), with_sign(estimate.high))
}

pub(crate) fn with_sign(share: f64) -> String {
    format!("{:+.1}", share * 100.0).replace('-', "−")
}

fn a_class(examples: f64) -> String {
    let noun = if examples == 1.0 { "example" } else { "examples" };
    format!("{} {noun} a class", number(examples))
}

fn number(examples: f64) -> String {
    if examples.fract() == 0.0 { format!("{examples:.0}") } else { format!("{examples:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// A point where `with` and `without` of 200 held-out rows are right, the rows chosen by the draw.
    fn point(examples: Option<usize>, with: usize, without: usize) -> Point {
        let right = |n: usize, seed: u64| {
            let mut rows: Vec<f64> = (0..200).map(|row| f64::from(u8::from(row < n))).collect();
            Rng::new(seed).shuffle(&mut rows);
            rows
        };
        let draws = if examples.is_some() { 5 } else { 1 };
        let draws = (0..draws)
            .map(|d| Draw { transfer: right(with, 2 * d), no_transfer: right(without, 2 * d + 1) })
            .collect();
        Point { examples, examples_a_class: examples.map_or(300.0, |k| k as f64), items: 600, draws }
    }

    fn judged(points: Vec<Point>) -> Transfer {
        let curve = Curve { points, left_out: vec![Some(64), None], multi_label: false };
        judge(&curve, Names { learner: "with", baseline: "without" }, (&Units::rows(200), 1)).unwrap()
    }

    #[test]
    fn a_head_start_that_is_caught_up_is_told_as_that() {
        let points = vec![point(Some(1), 130, 100), point(Some(2), 134, 102), point(None, 162, 163)];
        let transfer = judged(points);
        let verdicts =
            [&transfer.start, &transfer.slope, &transfer.asymptote].map(|d| d.as_ref().unwrap().verdict);
        assert_eq!(verdicts, [Verdict::Helped, Verdict::NoDifference, Verdict::NoDifference]);
        assert_eq!(transfer.verdict, Verdict::NoDifference);
        assert!((transfer.start.unwrap().estimate.value - 0.15).abs() < 1e-12);
        assert!((transfer.slope.unwrap().estimate.value - 0.01).abs() < 1e-12);
        let head = "Transfer made no difference with all examples; it helped with the fewest. With 1 example a class \
                    transfer helps: 15.0 points better (95 % interval +";
        assert!(transfer.sentence.starts_with(head), "{}", transfer.sentence);
        assert!(transfer.sentence.contains("With all 600 training items transfer makes no difference"));
    }

    #[test]
    fn worse_with_all_rows_is_negative_transfer() {
        let transfer =
            judged(vec![point(Some(1), 120, 100), point(Some(16), 130, 150), point(None, 130, 180)]);
        assert_eq!(transfer.verdict, Verdict::Hurt);
        assert!(transfer.sentence.contains("(negative transfer), though it helped with the fewest"));
        assert_eq!(transfer.slope, None, "one point up to eight examples has no slope");
    }

    #[test]
    fn without_all_rows_the_most_examples_are_judged_and_no_asymptote_is_claimed() {
        let transfer = judged(vec![point(Some(1), 150, 100), point(Some(2), 190, 100)]);
        assert_eq!((transfer.asymptote, transfer.verdict), (None, Verdict::Helped));
        assert_eq!(transfer.points[0].transfer.spread, Some(0.0));
    }

    #[test]
    fn four_rows_more_with_all_examples_are_no_proof_of_transfer() {
        let right = |n: usize| (0..200).map(|row| f64::from(u8::from(row < n))).collect::<Vec<f64>>();
        let with_all = |n: usize| {
            let draws = vec![Draw { transfer: right(n), no_transfer: right(100) }];
            judged(vec![Point { examples: None, examples_a_class: 300.0, items: 600, draws }])
        };
        assert_eq!(with_all(104).verdict, Verdict::NoDifference);
        assert_eq!(with_all(108).verdict, Verdict::Helped);
    }

    #[test]
    fn points_left_out_are_named() {
        let curve = Curve { points: vec![], left_out: vec![Some(1), None], multi_label: false };
        let parts: Vec<String> = left_out(&curve).into_iter().map(|left| left.part).collect();
        let expected = ["learning curve at 1 example a class", "learning curve with all training items"];
        assert_eq!(parts, expected);
        assert!(judge(&curve, Names { learner: "", baseline: "" }, (&Units::rows(0), 1)).is_none());
    }
}
