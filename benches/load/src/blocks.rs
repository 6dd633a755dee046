//! Latencies in blocks of a second, and how sure their quantiles are: neighbours share their luck, so whole blocks are
//! drawn again.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::figures::{DRAWS, Interval, quantile, sorted};
use crate::sample::Chance;

/// Of the draws.
const SEED: u64 = 11;

/// Latencies in milliseconds, by the second they were due in.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Vec<Vec<f64>>);

/// Of all blocks together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Blocks {
    /// Adds latencies with the moments they were due at.
    pub(crate) fn add(&mut self, latencies: &[(Instant, f64)]) {
        let Some(first) = latencies.iter().map(|(due, _)| *due).min() else { return };
        let mut seconds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (due, ms) in latencies {
            seconds.entry(due.duration_since(first).as_secs()).or_default().push(*ms);
        }
        self.0.extend(seconds.into_values());
    }

    /// How many latencies.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// How many blocks: seconds with at least one request.
    pub(crate) fn seconds(&self) -> f64 {
        self.0.len() as f64
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let all = sorted(self.0.concat());
        Quantiles { p50: quantile(&all, 0.5), p99: quantile(&all, 0.99) }
    }

    /// The 99th percentile as a multiple of that of `other`.
    pub(crate) fn p99_against(&self, other: &Self) -> Interval {
        let mut chance = Chance::new(SEED);
        let draws = (0..DRAWS).map(|_| self.drawn_p99(&mut chance) / other.drawn_p99(&mut chance));
        Interval::of(self.quantiles().p99 / other.quantiles().p99, draws.collect())
    }

    fn drawn_p99(&self, chance: &mut Chance) -> f64 {
        let drawn = (0..self.0.len()).flat_map(|_| &self.0[chance.below(self.0.len())]).copied();
        quantile(&sorted(drawn.collect()), 0.99)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn blocks(ms: impl Fn(usize) -> f64) -> Blocks {
        let start = Instant::now();
        let mut blocks = Blocks::default();
        let latencies: Vec<_> =
            (0..4000).map(|index| (start + Duration::from_millis(10 * index as u64), ms(index))).collect();
        blocks.add(&latencies);
        blocks
    }

    #[test]
    fn twice_as_slow_is_a_ratio_of_two_within_its_interval() {
        let fast = blocks(|index| (index * 7919 % 101) as f64);
        let slow = blocks(|index| 2.0 * (index * 7919 % 101) as f64);
        assert_eq!((fast.len(), fast.seconds()), (4000, 40.0));
        let Interval { value, low, high } = slow.p99_against(&fast);
        assert!(low <= value && value <= high && (value - 2.0).abs() < 0.05, "{low} {value} {high}");
    }

    #[test]
    fn a_bad_second_widens_the_interval() {
        let even = blocks(|_| 10.0);
        let uneven = blocks(|index| if index < 100 { 100.0 } else { 10.0 });
        let Interval { low, high, .. } = uneven.p99_against(&even);
        assert!(low < 1.5 && high > 5.0, "{low} {high}");
    }
}
