//! Medians, quantiles and spreads, and how they are written.

use crate::sample::Chance;

/// Of the draws of a bootstrap.
const SEED: u64 = 13;

/// Draws of a bootstrap.
pub(crate) const DRAWS: usize = 1000;

/// Median of the rounds with the smallest and the largest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    /// Of no values: all NaN.
    pub(crate) fn of(values: &[f64]) -> Self {
        let sorted = sorted(values.to_vec());
        Self { median: quantile(&sorted, 0.5), low: quantile(&sorted, 0.0), high: quantile(&sorted, 1.0) }
    }

    /// `median (low–high)`, or the value alone where there was one round.
    pub(crate) fn show(self, decimals: usize) -> String {
        if self.low == self.high {
            return format!("{:.decimals$}", self.median);
        }
        format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", self.median, self.low, self.high)
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    Spread::of(values).median
}

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// The median of the values; its interval by bootstrap.
    pub(crate) fn of_median(values: &[f64]) -> Self {
        let mut chance = Chance::new(SEED);
        let draw = |_| {
            let drawn: Vec<f64> = values.iter().map(|_| values[chance.below(values.len())]).collect();
            median(&drawn)
        };
        Self::of(median(values), (0..DRAWS).map(draw).collect())
    }

    /// A figure and what the draws gave in its place.
    pub(crate) fn of(value: f64, draws: Vec<f64>) -> Self {
        let draws = sorted(draws);
        Self { value, low: quantile(&draws, 0.025), high: quantile(&draws, 0.975) }
    }

    /// `value (low–high)`.
    pub(crate) fn show(self, decimals: usize) -> String {
        let Self { value, low, high } = self;
        format!("{value:.decimals$} ({low:.decimals$}–{high:.decimals$})")
    }
}

pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// Linear interpolation between the two nearest of the sorted values; NaN of none.
pub(crate) fn quantile(sorted: &[f64], at: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = at * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        let values = sorted(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((quantile(&values, 0.0), quantile(&values, 0.5), quantile(&values, 1.0)), (1.0, 2.5, 4.0));
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn an_interval_narrows_with_more_values() {
        let values = |count: usize| (0..count).map(|index| (index * 7919 % 101) as f64).collect::<Vec<_>>();
        let (few, many) = (Interval::of_median(&values(10)), Interval::of_median(&values(1000)));
        assert!((many.value - 50.0).abs() < 2.0 && many.low < 50.0 && many.high > 50.0, "{many:?}");
        assert!(many.high - many.low < (few.high - few.low) / 2.0, "{few:?} {many:?}");
    }

    #[test]
    fn a_spread_names_its_ends_only_where_there_are_any() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]).show(1), "2.0 (1.0–3.0)");
        assert_eq!(Spread::of(&[2.0]).show(0), "2");
    }
}
