//! Two learners on the same growing parts of the training rows: one with transfer, one without.

use ndarray::Array2;

use super::metrics::{best_classes, item_f1};
use crate::data::Targets;
use crate::rng::Rng;

/// Draws of the examples while they are few; chance matters less the more there are.
const DRAWS: usize = 5;

/// Examples a class up to which all draws are made; beyond, draws times examples stays the same.
const FEW: usize = 16;

/// From this score on a label of several counts as said.
const SAID_FROM: f32 = 0.5;

/// What a learner is asked for: from the training rows named and a seed to the scores of all held-out rows
/// `[held-out, classes]`. The highest is the answer; of several labels a row, those from ½ on.
pub type Learner<'a, E> = dyn FnMut(&[usize], u64) -> Result<Array2<f32>, E> + 'a;

/// Both learners. They get the same rows and seeds.
pub struct Learners<'a, E> {
    /// With transfer.
    pub transfer: &'a mut Learner<'a, E>,
    /// Without.
    pub no_transfer: &'a mut Learner<'a, E>,
}

/// What the curve is measured on.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// Targets of the training rows.
    pub train: &'a Targets,
    /// Targets of the held-out rows.
    pub held_out: &'a Targets,
    /// How many classes.
    pub classes: usize,
    /// Seed of the draws and the learners.
    pub seed: u64,
}

/// A measured curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Fewest examples first.
    pub points: Vec<Point>,
    /// Counts of examples a class that the time did not suffice for; `None` for all rows.
    pub left_out: Vec<Option<usize>>,
    /// Whether quality is that of several labels a row.
    pub multi_label: bool,
}

/// One number of examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Examples a class; `None` for all rows.
    pub examples: Option<usize>,
    /// Examples a class on average (of the first draw).
    pub examples_a_class: f64,
    /// Training rows (of the first draw).
    pub items: usize,
    /// One entry a draw.
    pub draws: Vec<Draw>,
}

/// Quality of each held-out row after learning one draw: 1 or 0 for right or wrong; of several labels a row, their F1.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// With transfer.
    pub transfer: Vec<f64>,
    /// Without.
    pub no_transfer: Vec<f64>,
}

/// Measures both learners at 1, 2, 4, … examples a class and with all rows.
///
/// The smallest count comes first, then all rows, then the rest upwards, so that start and asymptote exist whenever
/// `time_is_up` (asked before each draw) leaves time for two points. A point with at least one whole draw stays.
/// The examples of a draw at one count contain those at the count below.
///
/// # Errors
///
/// What a learner failed with.
pub fn measure<E>(
    ground: &Ground<'_>,
    learners: &mut Learners<'_, E>,
    time_is_up: &dyn Fn() -> bool,
) -> Result<Curve, E> {
    let mut points = Vec::new();
    let mut left_out = Vec::new();
    let mut before = Vec::new();
    for examples in counts(ground) {
        if let Some(count) = examples {
            let rows = pick(ground, count, 0);
            // With several labels a row, more examples a label are at some point no more rows.
            if rows == before || rows.len() == ground.train.len() {
                continue;
            }
            before = rows;
        }
        let mut draws = Vec::new();
        let mut items = ground.train.len();
        let mut examples_a_class = mean_count(ground.train, ground.classes);
        for draw in 0..examples.map_or(1, draws_at) {
            if time_is_up() {
                break;
            }
            let rows = examples.map_or_else(|| (0..ground.train.len()).collect(), |k| pick(ground, k, draw));
            if draw == 0 {
                items = rows.len();
                examples_a_class = mean_count(&ground.train.select(&rows), ground.classes);
            }
            let seed = Rng::stream(ground.seed, draw).next_u64();
            let transfer = qualities(&(learners.transfer)(&rows, seed)?, ground.held_out);
            let no_transfer = qualities(&(learners.no_transfer)(&rows, seed)?, ground.held_out);
            draws.push(Draw { transfer, no_transfer });
        }
        if draws.is_empty() {
            left_out.push(examples);
            continue;
        }
        points.push(Point { examples, examples_a_class, items, draws });
    }
    let size = |examples: &Option<usize>| examples.unwrap_or(usize::MAX);
    points.sort_by_key(|point| size(&point.examples));
    left_out.sort_by_key(size);
    Ok(Curve { points, left_out, multi_label: ground.held_out.is_multi() })
}

/// How many rows a learner is given over all draws, at most: a class may have fewer than a draw wants.
pub fn rows_given(ground: &Ground<'_>) -> usize {
    let all = ground.train.len();
    let drawn = |examples: usize| draws_at(examples) as usize * all.min(examples * ground.classes);
    counts(ground).into_iter().map(|examples| examples.map_or(all, drawn)).sum()
}

/// Counts in the order they are measured in; `None` for all rows.
fn counts(ground: &Ground<'_>) -> Vec<Option<usize>> {
    let most = ground.train.counts(ground.classes).into_iter().max().unwrap_or(0);
    let mut doublings = (0..usize::BITS).map(|power| 1usize << power).take_while(|k| *k < most).map(Some);
    let first = doublings.next();
    first.into_iter().chain([None]).chain(doublings).collect()
}

fn draws_at(examples: usize) -> u64 {
    (DRAWS * FEW / examples.max(FEW)).max(1) as u64
}

/// Examples a class, of those that have any: a small class gives fewer than a draw wants, and a row of several labels counts
/// for each.
fn mean_count(rows: &Targets, classes: usize) -> f64 {
    let counts = rows.counts(classes);
    counts.iter().sum::<usize>() as f64 / counts.iter().filter(|count| **count > 0).count().max(1) as f64
}

/// `examples` rows of each class, ascending; a class with fewer gives all it has. Of several labels a row, a row counts
/// for each label it has.
fn pick(ground: &Ground<'_>, examples: usize, draw: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ground.train.len()).collect();
    Rng::stream(ground.seed, draw).shuffle(&mut order);
    let mut picked = vec![0usize; ground.classes];
    let mut rows: Vec<usize> = order
        .into_iter()
        .filter(|&row| {
            let of = ground.train.of(row);
            let wanted = |class: &u32| picked.get(*class as usize).is_some_and(|count| *count < examples);
            let take = of.iter().any(wanted);
            for &class in of.iter().filter(|_| take) {
                if let Some(count) = picked.get_mut(class as usize) {
                    *count += 1;
                }
            }
            take
        })
        .collect();
    rows.sort_unstable();
    rows
}

/// The quality of each held-out row.
pub(crate) fn qualities(scores: &Array2<f32>, targets: &Targets) -> Vec<f64> {
    match targets {
        Targets::Single(labels) => best_classes(scores.view())
            .iter()
            .zip(labels)
            .map(|(said, label)| f64::from(u8::from(said == label)))
            .collect(),
        Targets::Multi(rows) => scores
            .outer_iter()
            .zip(rows)
            .map(|(row, has)| {
                let said: Vec<u32> = (0u32..)
                    .zip(row.iter())
                    .filter(|(_, s)| **s >= SAID_FROM)
                    .map(|(label, _)| label)
                    .collect();
                item_f1(has, &said)
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;

    fn ground<'a>(train: &'a Targets, held_out: &'a Targets) -> Ground<'a> {
        Ground { train, held_out, classes: 2, seed: 3 }
    }

    fn run(train: &Targets, held_out: &Targets, looks: usize) -> (Curve, Vec<Vec<usize>>) {
        let mut asked = Vec::new();
        let left = Cell::new(looks);
        let n = held_out.len();
        let time_is_up = || left.replace(left.get().saturating_sub(1)) == 0;
        let mut transfer = |rows: &[usize], _: u64| {
            asked.push(rows.to_vec());
            Ok::<_, Infallible>(Array2::from_elem((n, 2), 0.5))
        };
        let mut no_transfer = |_: &[usize], _: u64| Ok(Array2::from_elem((n, 2), 0.5));
        let mut learners = Learners { transfer: &mut transfer, no_transfer: &mut no_transfer };
        let curve = measure(&ground(train, held_out), &mut learners, &time_is_up).unwrap();
        (curve, asked)
    }

    #[test]
    fn draws_double_from_one_example_a_class_to_all_rows_and_each_holds_the_one_before() {
        let train = Targets::Single((0..30).map(|row| u32::from(row >= 10)).collect());
        let (curve, asked) = run(&train, &Targets::Single(vec![0, 1]), 1000);
        let sizes: Vec<_> = curve.points.iter().map(|p| (p.examples, p.items, p.draws.len())).collect();
        let expected = [
            (Some(1), 2, 5),
            (Some(2), 4, 5),
            (Some(4), 8, 5),
            (Some(8), 16, 5),
            (Some(16), 26, 5),
            (None, 30, 1),
        ];
        assert_eq!(sizes, expected);
        let means: Vec<f64> = curve.points.iter().map(|point| point.examples_a_class).collect();
        // Ten examples are all that the first class has.
        assert_eq!(means, [1.0, 2.0, 4.0, 8.0, 13.0, 15.0]);
        assert!((0..=rows_given(&ground(&train, &train))).contains(&asked.iter().map(Vec::len).sum()));
        assert!(asked[0].iter().all(|row| asked[6].contains(row)), "{:?} in {:?}", asked[0], asked[6]);
        assert_ne!(asked[0], asked[1]);
    }

    #[test]
    fn when_time_is_up_the_ends_stand_and_the_middle_is_named() {
        let train = Targets::Single((0..40).map(|row| row % 2).collect());
        let (curve, _) = run(&train, &Targets::Single(vec![0, 1]), 7);
        let measured: Vec<_> = curve.points.iter().map(|p| (p.examples, p.draws.len())).collect();
        assert_eq!(measured, [(Some(1), 5), (Some(2), 1), (None, 1)]);
        assert_eq!(curve.left_out, [Some(4), Some(8), Some(16)]);
        let (curve, asked) = run(&train, &Targets::Single(vec![0, 1]), 0);
        assert!(curve.points.is_empty() && asked.is_empty());
    }

    #[test]
    fn a_number_of_examples_that_adds_no_row_is_no_point() {
        // Label 0 is on every row that has one, so that rows for it hold all of label 1 from 16 on.
        let rows = (0..60u32).map(|row| match row % 6 {
            0 => vec![0, 1],
            1 => vec![],
            _ => vec![0],
        });
        let train = Targets::Multi(rows.collect());
        let (curve, asked) = run(&train, &Targets::Multi(vec![vec![0]]), 1000);
        let sizes: Vec<_> = curve.points.iter().map(|point| (point.examples, point.items)).collect();
        assert!(sizes.windows(2).all(|pair| pair[0].1 < pair[1].1), "{sizes:?}");
        let every = Targets::Multi(vec![vec![0, 1]; 3].into_iter().chain(vec![vec![0]; 2]).collect());
        let (curve, _) = run(&every, &Targets::Multi(vec![vec![0]]), 1000);
        let counts: Vec<_> = curve.points.iter().map(|point| point.items).collect();
        assert!(counts.windows(2).all(|pair| pair[0] < pair[1]), "{counts:?}");
        assert!(curve.left_out.is_empty() && !asked.is_empty());
    }

    #[test]
    fn a_row_of_several_labels_counts_for_each() {
        let train = Targets::Multi(vec![vec![0, 1]; 8]);
        let (curve, asked) = run(&train, &Targets::Multi(vec![vec![0], vec![]]), 1000);
        assert_eq!(asked[0].len(), 1);
        assert_eq!(curve.points[0].draws[0].transfer, [2.0 / 3.0, 0.0]);
    }
}
