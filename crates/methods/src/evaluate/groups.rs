//! Quality by group, and the largest gap between two groups.

use std::collections::BTreeMap;

use headstart_types::report::{Gap, GroupMetrics, Groups};

use super::intervals::{REPLICATES, Units, bootstrap, mean_quality};
use super::metrics::mean;
use super::transfer::{interval, points};
use crate::rng::Rng;

/// Fewest held-out items of a group for it to stand in the gap: below, chance alone makes one.
const ENOUGH: usize = 10;

/// Most groups a report lists.
const LISTED: usize = 50;

/// Quality by group. `qualities` and `groups` are one entry a held-out row; rows without a group count nowhere.
/// `None` where no row has one.
pub fn by_group(qualities: &[f64], groups: &[Option<String>], measure: &str, seed: u64) -> Option<Groups> {
    let mut by_name: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (quality, group) in qualities.iter().zip(groups) {
        if let Some(group) = group {
            by_name.entry(group).or_default().push(*quality);
        }
    }
    let mut sorted: Vec<(&str, Vec<f64>)> = by_name.into_iter().collect();
    sorted.sort_by_key(|(_, rows)| std::cmp::Reverse(rows.len()));
    if sorted.is_empty() {
        return None;
    }
    let metrics = |(part, (group, rows)): (usize, &(&str, Vec<f64>))| GroupMetrics {
        group: (*group).to_owned(),
        items: rows.len(),
        quality: mean_quality(rows, &Units::rows(rows.len()), Rng::stream(seed, part as u64).next_u64()),
    };
    Some(Groups {
        measure: measure.to_owned(),
        groups: sorted.iter().enumerate().take(LISTED).map(metrics).collect(),
        unlisted: sorted.len().saturating_sub(LISTED),
        gap: largest_gap(&sorted, measure, seed),
    })
}

/// The gap between the best and the worst of the groups with enough items. Its interval is that of these two groups; as
/// they were picked for being extreme, a permutation test tells how often chance alone makes such a gap.
fn largest_gap(groups: &[(&str, Vec<f64>)], measure: &str, seed: u64) -> Option<Gap> {
    let enough: Vec<(&str, &[f64])> = groups
        .iter()
        .filter(|(_, rows)| rows.len() >= ENOUGH)
        .map(|(name, rows)| (*name, &rows[..]))
        .collect();
    let by_mean = |a: &&(&str, &[f64]), b: &&(&str, &[f64])| average(a.1).total_cmp(&average(b.1));
    let (&(worst, low), &(best, high)) = (enough.iter().min_by(by_mean)?, enough.iter().max_by(by_mean)?);
    if best == worst {
        return None;
    }
    let all: Vec<(bool, f64)> =
        high.iter().map(|q| (true, *q)).chain(low.iter().map(|q| (false, *q))).collect();
    let [difference] = bootstrap(&Units::rows(all.len()), Rng::stream(seed, 0).next_u64(), |rows| {
        let of = |kind: bool| {
            let of_kind = rows.iter().filter_map(|row| all.get(*row)).filter(|(is, _)| *is == kind);
            let (sum, n) = of_kind.fold((0.0, 0.0), |(sum, n), (_, quality)| (sum + quality, n + 1.0));
            sum / n
        };
        [of(true) - of(false)]
    });
    let parts: Vec<&[f64]> = enough.iter().map(|(_, rows)| *rows).collect();
    let chance = by_chance(&parts, difference.value, Rng::stream(seed, 1));
    let sentence = format!(
        "The largest gap in {measure} is {} between {best:?} ({:.1} % of {} items) and {worst:?} ({:.1} % of {} items), \
         {}; chance alone makes one as large in {:.1} % of cases.",
        points(difference.value),
        average(high) * 100.0,
        high.len(),
        average(low) * 100.0,
        low.len(),
        interval(difference),
        chance * 100.0,
    );
    Some(Gap { best: best.to_owned(), worst: worst.to_owned(), difference, chance, sentence })
}

/// Share of random deals of all rows into groups of these sizes whose largest gap is at least `gap`; the deal at hand
/// counts as one (Phipson and Smyth 2010, "Permutation p-values should never be zero").
fn by_chance(groups: &[&[f64]], gap: f64, mut rng: Rng) -> f64 {
    // Rounding must not tell equal gaps apart.
    const ROUNDING: f64 = 1e-9;
    let mut rows: Vec<f64> = groups.concat();
    let as_large = (0..REPLICATES).filter(|_| {
        rng.shuffle(&mut rows);
        let mut rest = &rows[..];
        let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
        for group in groups {
            let (dealt, left) = rest.split_at(group.len().min(rest.len()));
            rest = left;
            (lowest, highest) = (lowest.min(average(dealt)), highest.max(average(dealt)));
        }
        highest - lowest >= gap - ROUNDING
    });
    (as_large.count() + 1) as f64 / (REPLICATES + 1) as f64
}

fn average(rows: &[f64]) -> f64 {
    mean(rows.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_gap_is_named_and_tiny_groups_make_none() {
        let mut qualities = vec![1.0; 40];
        let mut groups: Vec<Option<String>> = vec![Some("north".to_owned()); 40];
        for row in 0..30 {
            qualities.push(f64::from(u8::from(row % 2 == 0)));
            groups.push(Some("south".to_owned()));
        }
        qualities.push(0.0);
        groups.push(Some("nowhere".to_owned()));
        qualities.push(0.0);
        groups.push(None);
        let found = by_group(&qualities, &groups, "accuracy", 1).unwrap();
        let names: Vec<_> = found.groups.iter().map(|g| (g.group.as_str(), g.items)).collect();
        assert_eq!(names, [("north", 40), ("south", 30), ("nowhere", 1)]);
        let gap = found.gap.unwrap();
        assert_eq!((gap.best.as_str(), gap.worst.as_str()), ("north", "south"));
        assert!((gap.difference.value - 0.5).abs() < 1e-12 && gap.difference.low > 0.2, "{gap:?}");
        assert!(gap.chance < 0.01, "{gap:?}");
        assert!(by_group(&[1.0], &[None], "accuracy", 1).is_none());
    }

    #[test]
    fn a_gap_between_groups_dealt_at_random_is_put_down_to_chance() {
        let mut rng = Rng::new(8);
        let qualities: Vec<f64> = (0..700).map(|_| f64::from(u8::from(rng.unit() < 0.8))).collect();
        let groups: Vec<Option<String>> = (0..700).map(|row| Some(format!("g{}", row % 20))).collect();
        let gap = by_group(&qualities, &groups, "accuracy", 1).unwrap().gap.unwrap();
        assert!(gap.difference.value > 0.15, "{gap:?}");
        assert!(gap.chance > 0.1, "{gap:?}");
    }
}
