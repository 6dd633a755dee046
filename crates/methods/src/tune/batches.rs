//! Which rows stand in which batch: every row once an epoch, like lengths together.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use headstart_types::tensor::Tensor;

use crate::data::Targets;
use crate::error::MethodError;
use crate::rng::Rng;

/// Batches whose rows are sorted by length together, before they are put in random order again.
const WINDOW: usize = 16;

/// The examples as what the graph reads: whoever makes this knows the modality.
pub trait Feed: Sync {
    /// How long a row is, in a unit of its own: padding is what batches of unlike lengths cost.
    fn length(&self, row: usize) -> usize;

    /// Some rows as the graph's inputs by name, padded to one size. With `chance`, as augmentation varies them.
    ///
    /// # Errors
    /// What the rows' own decoding or encoding says.
    fn batch(&self, rows: &[usize], chance: Option<&mut Rng>) -> Result<Vec<(String, Tensor)>, MethodError>;
}

/// The batches of one epoch; the same for the same seed and epoch.
pub(super) fn of_epoch(
    rows: &[usize],
    feed: &dyn Feed,
    size: usize,
    (seed, epoch): (u64, usize),
) -> Vec<Vec<usize>> {
    let mut chance = Rng::stream(seed, epoch as u64);
    let mut order = rows.to_vec();
    chance.shuffle(&mut order);
    for window in order.chunks_mut(size * WINDOW) {
        window.sort_by_key(|row| feed.length(*row));
    }
    let mut batches: Vec<Vec<usize>> = order.chunks(size).map(<[usize]>::to_vec).collect();
    chance.shuffle(&mut batches);
    batches
}

/// Rows of one class that stand together in a batch of pairs.
pub(super) const ALIKE: usize = 4;

/// The batches of one epoch whose rows are taken in pairs: some of one class in each, for pairs that are alike.
pub(super) fn of_pairs(
    rows: &[usize],
    targets: &Targets,
    size: usize,
    (seed, epoch): (u64, usize),
) -> Vec<Vec<usize>> {
    let mut chance = Rng::stream(seed, epoch as u64);
    let mut by_class: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
    for row in rows {
        by_class.entry(targets.of(*row).first().copied()).or_default().push(*row);
    }
    let mut left: Vec<Vec<Vec<usize>>> = Vec::new();
    for mut rows in by_class.into_values() {
        chance.shuffle(&mut rows);
        left.push(rows.chunks(ALIKE).map(<[usize]>::to_vec).collect());
    }
    let (groups, each) = (left.iter().map(Vec::len).sum(), (size / ALIKE).max(1));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    while !left.is_empty() {
        let (mut batch, mut taken) = (Vec::new(), 0);
        // Classes with most left go first and none twice before all have gone: no batch is of one class without need.
        while taken < each && !left.is_empty() {
            chance.shuffle(&mut left);
            left.sort_by_key(|groups| Reverse(groups.len()));
            for group in left.iter_mut().take(each - taken).filter_map(Vec::pop) {
                batch.extend(group);
                taken += 1;
            }
            left.retain(|groups| !groups.is_empty());
        }
        batches.push(batch);
    }
    if batches.len() > of_groups(groups, size)
        && let Some(left) = batches.pop()
        && let Some(last) = batches.last_mut()
    {
        last.extend(left);
    }
    chance.shuffle(&mut batches);
    batches
}

/// How many batches so many groups make: one that is left over joins the batch before, since alone it has no pairs of
/// two classes.
fn of_groups(groups: usize, size: usize) -> usize {
    let each = (size / ALIKE).max(1);
    let batches = groups.div_ceil(each);
    if each > 1 && batches > 1 && groups % each == 1 { batches - 1 } else { batches }
}

/// How many batches an epoch has, whose rows are taken in pairs or not.
pub(super) fn count(rows: &[usize], targets: &Targets, size: usize, pairs: bool) -> usize {
    if !pairs {
        return rows.len().div_ceil(size.max(1));
    }
    let mut by_class: BTreeMap<Option<u32>, usize> = BTreeMap::new();
    for row in rows {
        *by_class.entry(targets.of(*row).first().copied()).or_default() += 1;
    }
    let groups: usize = by_class.into_values().map(|rows| rows.div_ceil(ALIKE)).sum();
    of_groups(groups, size)
}

/// Rows in the order of their lengths, for passes whose order does not matter.
pub(super) fn by_length(rows: &[usize], feed: &dyn Feed, size: usize) -> Vec<Vec<usize>> {
    let mut order = rows.to_vec();
    order.sort_by_key(|row| feed.length(*row));
    order.chunks(size).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lengths(Vec<usize>);

    impl Feed for Lengths {
        fn length(&self, row: usize) -> usize {
            self.0[row]
        }

        fn batch(&self, _: &[usize], _: Option<&mut Rng>) -> Result<Vec<(String, Tensor)>, MethodError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn an_epoch_has_every_row_once_in_an_order_of_its_own() {
        let feed = Lengths((0..103).map(|row| row * 37 % 50).collect());
        let rows: Vec<usize> = (0..103).collect();
        let first = of_epoch(&rows, &feed, 8, (1, 0));
        let mut seen: Vec<usize> = first.concat();
        seen.sort_unstable();
        assert_eq!(seen, rows);
        assert_eq!(first, of_epoch(&rows, &feed, 8, (1, 0)));
        assert_ne!(first, of_epoch(&rows, &feed, 8, (1, 1)));
        assert_ne!(first, of_epoch(&rows, &feed, 8, (2, 0)));
    }

    #[test]
    fn a_batch_of_pairs_has_rows_of_one_class_and_of_others() {
        let rows: Vec<usize> = (0..48).collect();
        let targets = Targets::Single((0..48).map(|row| row % 6).collect());
        let batches = of_pairs(&rows, &targets, 24, (1, 0));
        let mut seen = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, rows);
        for batch in &batches {
            let classes: std::collections::BTreeSet<u32> =
                batch.iter().map(|row| targets.of(*row)[0]).collect();
            assert_eq!(batch.len(), 24);
            assert!((2..=6).contains(&classes.len()), "{batch:?}");
        }
    }

    #[test]
    fn even_the_smallest_batches_of_two_classes_have_both() {
        // Six groups of one class and seven of the other: the one left over joins another batch.
        let rows: Vec<usize> = (0..52).collect();
        let targets = Targets::Single((0..52).map(|row| u32::from(row >= 24)).collect());
        for epoch in 0..20 {
            let batches = of_pairs(&rows, &targets, 8, (1, epoch));
            let alone = batches
                .iter()
                .filter(|batch| batch.iter().all(|row| targets.of(*row) == targets.of(batch[0])));
            assert_eq!((batches.len(), alone.count()), (6, 0), "{batches:?}");
        }
    }

    #[test]
    fn as_many_batches_are_counted_as_are_made() {
        let feed = Lengths(vec![1; 103]);
        let rows: Vec<usize> = (0..103).collect();
        for (classes, size) in [(6, 24), (40, 24), (103, 8), (1, 3)] {
            let targets = Targets::Single((0..103).map(|row| row % classes).collect());
            let made = of_pairs(&rows, &targets, size, (1, 0)).len();
            assert_eq!(count(&rows, &targets, size, true), made, "{classes} classes, {size} rows a step");
            let made = of_epoch(&rows, &feed, size, (1, 0)).len();
            assert_eq!(count(&rows, &targets, size, false), made);
        }
    }

    #[test]
    fn rows_of_a_batch_are_of_like_length() {
        let feed = Lengths((0..128).map(|row| row * 37 % 128).collect());
        let rows: Vec<usize> = (0..128).collect();
        for batch in of_epoch(&rows, &feed, 8, (1, 0)) {
            let lengths: Vec<usize> = batch.iter().map(|row| feed.length(*row)).collect();
            let spread = lengths.iter().max().unwrap() - lengths.iter().min().unwrap();
            assert!(spread < 16, "{lengths:?}");
        }
    }
}
