//! How sure a figure is: the percentile bootstrap, and McNemar's test for two classifiers on the same items.

use headstart_types::report::Estimate;

use crate::rng::Rng;

/// Bootstrap replicates: the ends of a 95 % interval rest on 25 of them each.
pub const REPLICATES: usize = 1000;

/// Both tails of an interval together.
const OUTSIDE: f64 = 0.05;

/// Several figures of the same `rows` items with their 95 % intervals, by the percentile bootstrap (Efron and
/// Tibshirani 1993, chapter 13): `figures` gets row indices, first every row once, then with replacement.
/// A replicate in which a figure is not finite does not count for that figure.
pub fn bootstrap<const N: usize>(
    rows: usize,
    seed: u64,
    mut figures: impl FnMut(&[usize]) -> [f64; N],
) -> [Estimate; N] {
    let mut chosen: Vec<usize> = (0..rows).collect();
    let values = figures(&chosen);
    let mut rng = Rng::new(seed);
    let replicates = (0..REPLICATES).map(|_| {
        chosen.fill_with(|| rng.below(rows));
        figures(&chosen)
    });
    estimates(values, replicates)
}

/// Puts figures and their replicates together.
pub(crate) fn estimates<const N: usize>(
    values: [f64; N],
    replicates: impl Iterator<Item = [f64; N]>,
) -> [Estimate; N] {
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
pub fn mean_quality(qualities: &[f64], seed: u64) -> Estimate {
    let n = qualities.len();
    let mean = |rows: &[usize]| {
        [rows.iter().filter_map(|&row| qualities.get(row)).sum::<f64>() / rows.len().max(1) as f64]
    };
    let [estimate] = bootstrap(n, seed, mean);
    beyond_doubt(estimate, n)
}

/// Widens the interval of a share that is exactly 0 or 1 in all `items`; others stay.
pub(crate) fn beyond_doubt(estimate: Estimate, items: usize) -> Estimate {
    let bound = (OUTSIDE / 2.0).powf(1.0 / items.max(1) as f64);
    match estimate.value {
        1.0 => Estimate { low: bound, ..estimate },
        0.0 => Estimate { high: 1.0 - bound, ..estimate },
        _ => estimate,
    }
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

    /// Two-sided p of McNemar's exact test: both equally good, how likely is a split at least this uneven?
    pub fn exact_p(self) -> f64 {
        let (tail, _) = self.tail();
        (2.0 * tail).min(1.0)
    }

    /// Two-sided mid-p: the exact test is conservative, this one has close to its nominal error.
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
            let estimate = mean_quality(&right, trial);
            held += usize::from(estimate.low <= 0.8 && 0.8 <= estimate.high);
        }
        assert!((180..=199).contains(&held), "{held} of 200 intervals held 0.8");
    }

    #[test]
    fn ten_of_ten_right_is_not_certainty() {
        let estimate = mean_quality(&[1.0; 10], 0);
        assert_eq!((estimate.value, estimate.high), (1.0, 1.0));
        assert!((estimate.low - 0.6915).abs() < 1e-4, "{estimate:?}");
    }

    #[test]
    fn equal_classifiers_are_not_told_apart() {
        let none = Discordance::of([true, false], [true, false]);
        assert_eq!(none, Discordance { first: 0, second: 0 });
        assert!((none.exact_p() - 1.0).abs() < 1e-12 && (none.second_worse_p() - 0.5).abs() < 1e-12);
        assert!(Discordance { first: 3, second: 40 }.second_worse_p() > 0.999);
        assert!(Discordance { first: 40, second: 3 }.second_worse_p() < 1e-6);
        assert!(Discordance { first: 900_000, second: 901_000 }.mid_p() > 0.05);
    }
}
