//! How sure a figure is: the percentile bootstrap, and McNemar's test for two classifiers on the same items.

use std::collections::BTreeMap;

use headstart_types::report::Estimate;

use crate::rng::Rng;

/// Bootstrap replicates: the ends of a 95 % interval rest on 25 of them each.
pub const REPLICATES: usize = 1000;

/// Both tails of an interval together.
const OUTSIDE: f64 = 0.05;

/// What is drawn with replacement: rows, and groups of rows where these may be alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    rows: usize,
    /// Rows by group; none where each row stands for itself.
    groups: Vec<Vec<usize>>,
}

impl Units {
    /// Rows that have nothing to do with each other.
    pub fn rows(rows: usize) -> Self {
        Self { rows, groups: Vec::new() }
    }

    /// Rows of which those of a group come along together; one without a group is one of its own. One group of all rows tells
    /// nothing about others, and is none.
    pub fn of(rows: usize, groups: Option<&[Option<String>]>) -> Self {
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut units = Vec::new();
        for (row, group) in groups.unwrap_or_default().iter().take(rows).enumerate() {
            match group {
                Some(group) => by_name.entry(group).or_default().push(row),
                None => units.push(vec![row]),
            }
        }
        units.extend(by_name.into_values());
        let told = units.len() > 1 && units.len() < rows;
        Self { rows, groups: if told { units } else { Vec::new() } }
    }

    /// How many of them there are.
    pub fn count(&self) -> usize {
        if self.groups.is_empty() { self.rows } else { self.groups.len() }
    }

    /// The sum of each one's numbers.
    fn sums(&self, of: &[f64]) -> Vec<f64> {
        if self.groups.is_empty() {
            return of.to_vec();
        }
        let sum = |rows: &Vec<usize>| rows.iter().filter_map(|row| of.get(*row)).sum();
        self.groups.iter().map(sum).collect()
    }
}

/// Several figures of the same rows with their 95 % intervals, by the percentile bootstrap (Efron and Tibshirani 1993,
/// chapter 13): `figures` gets row indices, first every row once, then with replacement. A replicate in which a figure is not
/// finite does not count for that figure.
pub fn bootstrap<const N: usize>(
    units: &Units,
    seed: u64,
    mut figures: impl FnMut(&[usize]) -> [f64; N],
) -> [Estimate; N] {
    let rows: Vec<usize> = (0..units.rows).collect();
    let values = figures(&rows);
    resampled(units, seed, values, |rows, _| figures(rows))
}

/// The same for figures known already, of replicates that have chance of their own. Rows of a group may have less to say than
/// as many others (Field and Welsh 2007, "Bootstrapping clustered data"): whole groups are drawn too, and the wider interval
/// counts, as a few groups may be alike by chance.
pub(crate) fn resampled<const N: usize>(
    units: &Units,
    seed: u64,
    values: [f64; N],
    mut figures: impl FnMut(&[usize], &mut Rng) -> [f64; N],
) -> [Estimate; N] {
    let mut chosen = vec![0; units.rows];
    let mut rng = Rng::new(seed);
    let replicates = (0..REPLICATES).map(|_| {
        chosen.fill_with(|| rng.below(units.rows));
        figures(&chosen, &mut rng)
    });
    let mut found = estimates(values, replicates);
    if units.groups.is_empty() {
        return found;
    }
    let mut rng = Rng::stream(seed, 1);
    let replicates = (0..REPLICATES).map(|_| {
        chosen.clear();
        for _ in 0..units.groups.len() {
            chosen.extend(units.groups.get(rng.below(units.groups.len())).into_iter().flatten());
        }
        figures(&chosen, &mut rng)
    });
    for (found, grouped) in found.iter_mut().zip(estimates(values, replicates)) {
        (found.low, found.high) = (found.low.min(grouped.low), found.high.max(grouped.high));
    }
    found
}

/// Puts figures and their replicates together.
fn estimates<const N: usize>(values: [f64; N], replicates: impl Iterator<Item = [f64; N]>) -> [Estimate; N] {
    let mut columns: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(REPLICATES));
    for replicate in replicates {
        for (column, value) in columns.iter_mut().zip(replicate) {
            if value.is_finite() {
                column.push(value);
            }
        }
    }
    let mut columns = columns.into_iter();
    values.map(|value| {
        let mut column = columns.next().unwrap_or_default();
        column.sort_unstable_by(f64::total_cmp);
        let low = quantile(&column, OUTSIDE / 2.0).unwrap_or(value);
        let high = quantile(&column, 1.0 - OUTSIDE / 2.0).unwrap_or(value);
        Estimate { value, low, high }
    })
}

/// The mean of qualities from 0 to 1 with its bootstrap interval. Where every item is wholly right (or wrong) the
/// bootstrap knows no doubt; the exact binomial bound (Clopper and Pearson 1934) takes its place.
pub fn mean_quality(qualities: &[f64], units: &Units, seed: u64) -> Estimate {
    let mean = |rows: &[usize]| {
        [rows.iter().filter_map(|&row| qualities.get(row)).sum::<f64>() / rows.len().max(1) as f64]
    };
    let [estimate] = bootstrap(units, seed, mean);
    beyond_doubt(estimate, units.count())
}

/// Widens the interval of a share that is exactly 0 or 1 in all `items`; others stay.
pub(crate) fn beyond_doubt(estimate: Estimate, items: usize) -> Estimate {
    widened(estimate, all_alike(items))
}

/// The same of a mean over classes of which each has so many of the items, `units` of which say something of their own.
pub(crate) fn of_classes(estimate: Estimate, supports: &[usize], units: usize) -> Estimate {
    let held: usize = supports.iter().sum();
    // Items that have several labels, or that are alike, do not say more than there are of them.
    let each = if held > units { units as f64 / held as f64 } else { 1.0 };
    let counts: Vec<f64> = supports.iter().filter(|n| **n > 0).map(|n| *n as f64 * each).collect();
    widened(estimate, if counts.is_empty() { all_alike(1) } else { least_mean(&counts) })
}

/// Widens what is exactly 0 or 1 to what `lowest`, the least share that may well give all items alike, leaves in doubt.
fn widened(estimate: Estimate, lowest: f64) -> Estimate {
    match estimate.value {
        1.0 => Estimate { low: estimate.low.min(lowest), ..estimate },
        0.0 => Estimate { high: estimate.high.max(1.0 - lowest), ..estimate },
        _ => estimate,
    }
}

/// The least mean of shares `p` of classes with `counts` items under which all of these are alike by a chance of half of
/// [`OUTSIDE`]: `Σ p` is least with `Σ n·ln p` given where `p = min(1, λ·n)`, as the gradients are then parallel in every
/// class that is not held at 1, and the shares that are allowed are a convex set.
fn least_mean(counts: &[f64]) -> f64 {
    const HALVINGS: usize = 100;
    let chance = (OUTSIDE / 2.0).ln();
    let all: f64 = counts.iter().sum();
    let fewest = counts.iter().copied().fold(f64::INFINITY, f64::min);
    // Logarithms of λ: where no class were held at 1 there is too little of it, where all are, too much.
    let mut low = (chance - counts.iter().map(|n| n * n.ln()).sum::<f64>()) / all;
    let mut high = -fewest.ln();
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        let found: f64 = counts.iter().map(|n| n * (middle + n.ln()).min(0.0)).sum();
        if found < chance { low = middle } else { high = middle }
    }
    counts.iter().map(|n| (low + n.ln()).min(0.0).exp()).sum::<f64>() / counts.len() as f64
}

/// The lowest share that may well give nothing else in so many items.
fn all_alike(items: usize) -> f64 {
    (OUTSIDE / 2.0).powf(1.0 / items.max(1) as f64)
}

/// The mean of `differences` between two classifiers on the same rows, with doubt that the bootstrap does not know: from a few
/// rows that all speak for the same one it never draws others. The interval holds 0 unless McNemar's mid-p is small.
pub(crate) fn doubted(estimate: Estimate, differences: &[f64], units: &Units) -> Estimate {
    let counts = Discordance::of_differences(&units.sums(differences));
    let Estimate { value, low, high } = estimate;
    let doubt = 1.0 - all_alike(units.count());
    if counts.first + counts.second == 0 {
        return Estimate { value, low: low.min(value - doubt), high: high.max(value + doubt) };
    }
    let estimate = match value {
        1.0 => Estimate { low: low.min(1.0 - doubt), ..estimate },
        -1.0 => Estimate { high: high.max(doubt - 1.0), ..estimate },
        _ => estimate,
    };
    if counts.mid_p() < OUTSIDE {
        return estimate;
    }
    Estimate { value, low: estimate.low.min(0.0), high: estimate.high.max(0.0) }
}

/// The value below which a share of the sorted values lies, between neighbours in proportion.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// Items on which two classifiers differ in being right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discordance {
    /// Only the first is right.
    pub first: u64,
    /// Only the second is right.
    pub second: u64,
}

impl Discordance {
    /// Compares two classifiers item by item.
    pub fn of(first: impl IntoIterator<Item = bool>, second: impl IntoIterator<Item = bool>) -> Self {
        let mut counts = Self { first: 0, second: 0 };
        for pair in first.into_iter().zip(second) {
            match pair {
                (true, false) => counts.first += 1,
                (false, true) => counts.second += 1,
                (true, true) | (false, false) => {}
            }
        }
        counts
    }

    /// Of differences, the second's quality minus the first's: parts of the largest count as parts of an item, in doubt for
    /// the side that has less.
    fn of_differences(differences: &[f64]) -> Self {
        // Rounding must not take an item away.
        const ROUNDING: f64 = 1e-9;
        let most = differences.iter().map(|difference| difference.abs()).fold(0.0, f64::max);
        if most <= ROUNDING {
            return Self { first: 0, second: 0 };
        }
        let side = |sign: f64| differences.iter().map(|each| (sign * each / most).max(0.0)).sum::<f64>();
        let (first, second) = (side(-1.0), side(1.0));
        let less = |of: f64| (of + ROUNDING).floor() as u64;
        let more = |of: f64| (of - ROUNDING).ceil().max(0.0) as u64;
        let (least, other) = (more(first.min(second)), less(first.max(second)));
        let other = other.max(least);
        if first < second {
            Self { first: least, second: other }
        } else {
            Self { first: other, second: least }
        }
    }

    /// Two-sided mid-p of McNemar's test: both equally good, how likely is a split at least this uneven? The exact test is
    /// conservative, this one has close to its nominal error.
    /// Source: Fagerland, Lydersen and Laake 2013, "The McNemar test for binary matched-pairs data".
    pub fn mid_p(self) -> f64 {
        let (tail, last) = self.tail();
        (2.0 * tail - last).min(1.0)
    }

    /// One-sided mid-p that the second is worse: both equally good, how likely does it win so few of the items? Half of
    /// the chance of exactly as many counts, so that the p of this side and of the other sum to 1.
    pub fn second_worse_p(self) -> f64 {
        let (tail, last) = self.tail();
        let fewer = tail - last / 2.0;
        if self.second <= self.first { fewer } else { 1.0 - fewer }
    }

    /// P(X ≤ the smaller count) and P(X = it) for X binomial with one half.
    fn tail(self) -> (f64, f64) {
        let n = self.first + self.second;
        let smaller = self.first.min(self.second);
        // Logarithms: 2⁻ⁿ leaves the range of f64 above 1,074 items.
        let mut log_mass = -(n as f64) * std::f64::consts::LN_2;
        let mut tail = log_mass.exp();
        for k in 1..=smaller {
            log_mass += ((n - k + 1) as f64 / k as f64).ln();
            tail += log_mass.exp();
        }
        (tail, log_mass.exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_the_truth_about_as_often_as_they_say() {
        let mut rng = Rng::new(5);
        let mut held = 0;
        for trial in 0..200 {
            let right: Vec<f64> = (0..150).map(|_| f64::from(u8::from(rng.unit() < 0.8))).collect();
            let estimate = mean_quality(&right, &Units::rows(150), trial);
            held += usize::from(estimate.low <= 0.8 && 0.8 <= estimate.high);
        }
        assert!((180..=199).contains(&held), "{held} of 200 intervals held 0.8");
    }

    #[test]
    fn ten_of_ten_right_is_not_certainty() {
        let estimate = mean_quality(&[1.0; 10], &Units::rows(10), 0);
        assert_eq!((estimate.value, estimate.high), (1.0, 1.0));
        assert!((estimate.low - 0.6915).abs() < 1e-4, "{estimate:?}");
    }

    #[test]
    fn a_mean_over_equal_classes_is_as_doubtful_as_that_over_their_items() {
        let sure = |value| Estimate { value, low: value, high: value };
        for (classes, each) in [(2, 1), (2, 2), (2, 5), (7, 40), (100, 3)] {
            let joint = beyond_doubt(sure(1.0), classes * each);
            let mean = of_classes(sure(1.0), &vec![each; classes], classes * each);
            assert!((joint.low - mean.low).abs() < 1e-9 && mean.high == 1.0, "{joint:?} {mean:?}");
            let wrong = of_classes(sure(0.0), &vec![each; classes], classes * each);
            assert!((wrong.high - (1.0 - joint.low)).abs() < 1e-9 && wrong.low == 0.0, "{wrong:?}");
            // Rows of five groups say what five rows do, and labels that share their rows what one does.
            let grouped = of_classes(sure(1.0), &vec![each; classes], 5.min(classes * each));
            assert!((grouped.low - all_alike(5.min(classes * each))).abs() < 1e-9, "{grouped:?}");
        }
        let between = Estimate { value: 0.5, low: 0.4, high: 0.6 };
        assert_eq!(of_classes(between, &[2, 2], 4), between);
    }

    #[test]
    fn a_mean_over_uneven_classes_has_the_least_that_a_search_of_all_shares_finds() {
        const STEPS: usize = 2000;
        let chance = (OUTSIDE / 2.0).ln();
        for counts in [[2.0, 2.0, 2.0], [1.0, 3.0, 9.0], [5.0, 40.0, 200.0], [1.0, 1.0, 500.0]] {
            let share = |step: usize| step as f64 / STEPS as f64;
            let mut least = f64::INFINITY;
            for first in (1..=STEPS).map(share) {
                for second in (1..=STEPS).map(share) {
                    // The third is what the chance leaves for it, where it leaves anything.
                    let log = (chance - counts[0] * first.ln() - counts[1] * second.ln()) / counts[2];
                    if log <= 0.0 {
                        least = least.min((first + second + log.exp()) / 3.0);
                    }
                }
            }
            let found = least_mean(&counts);
            assert!(found <= least + 1e-9, "{counts:?}: {found} is above {least}, which may be");
            assert!(found > least - 1e-3, "{counts:?}: {found} is below {least}");
        }
    }

    #[test]
    fn equal_classifiers_are_not_told_apart() {
        let none = Discordance::of([true, false], [true, false]);
        assert_eq!(none, Discordance { first: 0, second: 0 });
        assert!((none.mid_p() - 1.0).abs() < 1e-12 && (none.second_worse_p() - 0.5).abs() < 1e-12);
        assert!(Discordance { first: 3, second: 40 }.second_worse_p() > 0.999);
        assert!(Discordance { first: 40, second: 3 }.second_worse_p() < 1e-6);
        assert!(Discordance { first: 900_000, second: 901_000 }.mid_p() > 0.05);
    }

    #[test]
    fn rows_of_ten_groups_say_as_much_as_ten_rows() {
        let right: Vec<f64> = (0..1000).map(|row| f64::from(u8::from(row / 100 < 5))).collect();
        let groups: Vec<Option<String>> = (0..1000).map(|row| Some(format!("g{}", row / 100))).collect();
        let width = |estimate: Estimate| estimate.high - estimate.low;
        let ten: Vec<f64> = (0..10).map(|row| f64::from(u8::from(row < 5))).collect();
        let ten = width(mean_quality(&ten, &Units::rows(10), 3));
        let grouped = width(mean_quality(&right, &Units::of(1000, Some(&groups)), 3));
        assert!((grouped - ten).abs() < 0.11, "{grouped} of ten groups, {ten} of ten rows");
        assert!(width(mean_quality(&right, &Units::rows(1000), 3)) < 0.2 * ten);
        assert_eq!(Units::of(3, Some(&vec![Some("all".to_owned()); 3])), Units::rows(3));
        assert_eq!(Units::of(3, Some(&vec![None; 3])), Units::rows(3));
    }

    #[test]
    fn parts_of_an_item_count_as_parts_and_a_few_against_none_are_no_proof() {
        let counts = Discordance::of_differences(&[0.4, 0.4, 0.4, -0.2, 0.0]);
        assert_eq!(counts, Discordance { first: 1, second: 3 });
        assert_eq!(Discordance::of_differences(&[0.0; 5]), Discordance { first: 0, second: 0 });
        let bounds = |differences: &[f64]| {
            let units = Units::rows(differences.len());
            let [mean] = bootstrap(&units, 1, |rows| {
                [rows.iter().map(|row| differences[*row]).sum::<f64>() / rows.len() as f64]
            });
            let found = doubted(mean, differences, &units);
            (found.low, found.high)
        };
        let wins = |n: usize| (0..100).map(|row| f64::from(u8::from(row < n))).collect::<Vec<f64>>();
        assert!(bounds(&wins(4)).0 <= 0.0 && bounds(&wins(8)).0 > 0.0);
        let (low, high) = bounds(&wins(0));
        assert!(
            low < -0.03 && high > 0.03,
            "a hundred answers alike are no proof that all are: {low} {high}"
        );
        let (low, high) = bounds(&[-1.0; 10]);
        assert!((high + 0.6915).abs() < 1e-4 && low == -1.0, "{low} {high}");
    }
}
