//! Medians, quantiles and spreads, and how they are written.

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
    fn a_spread_names_its_ends_only_where_there_are_any() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]).show(1), "2.0 (1.0–3.0)");
        assert_eq!(Spread::of(&[2.0]).show(0), "2");
    }
}
