//! Seeded ways to part rows: hold-out, folds, and k examples a class; stratified, and never across a group.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{data::Targets, rng::Rng};

/// Rows to learn from and rows to judge on, both ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows to learn from.
    pub train: Vec<usize>,
    /// Rows to judge on.
    pub held_out: Vec<usize>,
}

/// Why rows cannot be parted as asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SplitError {
    /// Fewer rows (or groups) than parts.
    #[error("{units} rows or groups are too few for {parts} parts")]
    TooFew {
        /// What can be moved.
        units: usize,
        /// Parts asked for.
        parts: usize,
    },
    /// Every group, or every row where there are no groups, has all rows of some class.
    #[error(
        "nothing can be held out: every group has all rows of some class, which could not be learned without it"
    )]
    WholeClasses,
    /// A share outside (0, 1).
    #[error("the held-out share must lie between 0 and 1")]
    Share,
}

/// The share that is held out where nothing else is said.
pub const HELD_OUT: f64 = 0.2;

/// Holds out about `share` of the rows, of every class with at least two rows at least one row on either side.
///
/// With groups, whole groups go to one side and the share is met as nearly as they allow. Of no class all rows are held
/// out: it could not be learned.
///
/// # Errors
///
/// [`SplitError`] when there are fewer than two rows or groups, when no group can be held out, or when the share is not
/// inside (0, 1).
pub fn hold_out(
    targets: &Targets,
    classes: usize,
    groups: Option<&[u32]>,
    share: f64,
    seed: u64,
) -> Result<Split, SplitError> {
    if !(share > 0.0 && share < 1.0) {
        return Err(SplitError::Share);
    }
    let part = match (targets, groups) {
        (Targets::Single(rows), None) => hold_out_rows(rows, classes, share, seed)?,
        (Targets::Single(_) | Targets::Multi(_), _) => {
            let keeps = |bound: &Bound<'_>, to: usize| to != 0 && bound.is_only_in(1);
            deal(targets, classes, groups, (&[1.0 - share, share], &keeps), seed)?
        }
    };
    let split = split_at(&part, 1);
    if split.held_out.is_empty() { Err(SplitError::WholeClasses) } else { Ok(split) }
}

/// At most `k` folds: every row is held out once, and classes are spread evenly. A group that has all rows of a class is
/// held out nowhere: the class could not be learned. Without any other group there is no fold.
///
/// # Errors
///
/// [`SplitError::TooFew`] when `k` is below 2 or above the number of rows or groups.
pub fn folds(
    targets: &Targets,
    classes: usize,
    groups: Option<&[u32]>,
    k: usize,
    seed: u64,
) -> Result<Vec<Split>, SplitError> {
    if k < 2 || targets.len() < k {
        return Err(SplitError::TooFew { units: targets.len(), parts: k });
    }
    let part = match (targets, groups) {
        (Targets::Single(rows), None) => fold_rows(rows, classes, k, seed),
        (Targets::Single(_) | Targets::Multi(_), _) => {
            let keeps = |bound: &Bound<'_>, to: usize| groups.is_some() && bound.is_only_in(to);
            deal(targets, classes, groups, (&vec![1.0 / k as f64; k], &keeps), seed)?
        }
    };
    let folds = (0..k).map(|fold| split_at(&part, fold));
    Ok(folds.filter(|fold| !fold.held_out.is_empty()).collect())
}

/// At most `k` rows of every class, ascending; a row of several classes counts for each of them.
///
/// Draws of one seed are nested: the rows for `k` are among those for every greater `k` (single labels).
pub fn draw(targets: &Targets, classes: usize, k: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    Rng::new(seed).shuffle(&mut order);
    let mut have = vec![0usize; classes];
    let mut drawn: Vec<usize> = Vec::new();
    for row in order {
        let of = targets.of(row);
        if of.iter().any(|&class| have.get(class as usize).is_some_and(|&count| count < k)) {
            for &class in of {
                if let Some(count) = have.get_mut(class as usize) {
                    *count += 1;
                }
            }
            drawn.push(row);
        }
    }
    drawn.sort_unstable();
    drawn
}

fn split_at(part: &[usize], held: usize) -> Split {
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for (row, &of) in part.iter().enumerate() {
        if of == held { held_out.push(row) } else { train.push(row) }
    }
    Split { train, held_out }
}

/// Shuffled rows of each class.
fn by_class(rows: &[u32], classes: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut of = vec![Vec::new(); classes];
    for (row, &class) in rows.iter().enumerate() {
        if let Some(list) = of.get_mut(class as usize) {
            list.push(row);
        }
    }
    let mut rng = Rng::new(seed);
    for list in &mut of {
        rng.shuffle(list);
    }
    of
}

fn hold_out_rows(rows: &[u32], classes: usize, share: f64, seed: u64) -> Result<Vec<usize>, SplitError> {
    if rows.len() < 2 {
        return Err(SplitError::TooFew { units: rows.len(), parts: 2 });
    }
    let mut part = vec![0; rows.len()];
    for list in by_class(rows, classes, seed).into_iter().filter(|list| list.len() > 1) {
        let held = ((list.len() as f64 * share).round() as usize).clamp(1, list.len() - 1);
        for &row in list.iter().take(held) {
            part[row] = 1;
        }
    }
    Ok(part)
}

/// Deals each class round the folds, going on where the last class ended, so that folds also have equal sizes.
fn fold_rows(rows: &[u32], classes: usize, k: usize, seed: u64) -> Vec<usize> {
    let mut part = vec![0; rows.len()];
    for (turn, row) in by_class(rows, classes, seed).into_iter().flatten().enumerate() {
        part[row] = turn % k;
    }
    part
}

/// What moves as one: a group's rows, or a single row.
struct Unit {
    rows: Vec<usize>,
    classes: BTreeMap<u32, usize>,
}

fn units(targets: &Targets, groups: Option<&[u32]>) -> Vec<Unit> {
    let mut of: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for row in 0..targets.len() {
        let key = groups.and_then(|all| all.get(row).copied()).unwrap_or(row as u32);
        of.entry(key).or_default().push(row);
    }
    of.into_values()
        .map(|rows| {
            let mut classes = BTreeMap::new();
            for &row in &rows {
                for &class in targets.of(row) {
                    *classes.entry(class).or_default() += 1;
                }
            }
            Unit { rows, classes }
        })
        .collect()
}

/// What of a unit's classes is dealt, when it comes to the unit itself.
struct Bound<'a> {
    unit: &'a Unit,
    /// Units of each class that are yet to be dealt, this one included.
    left: &'a [usize],
    /// Rows of each class by part.
    have: &'a [Vec<usize>],
}

impl Bound<'_> {
    /// Whether some class would be in this part only, with the unit there as well.
    fn is_only_in(&self, part: usize) -> bool {
        let elsewhere = |class: usize| {
            let others = self.have.iter().enumerate().filter(|(to, _)| *to != part);
            others.map(|(_, have)| have.get(class).copied().unwrap_or(0)).sum::<usize>()
        };
        let last = |class: usize| self.left.get(class) == Some(&1);
        self.unit.classes.keys().any(|&class| last(class as usize) && elsewhere(class as usize) == 0)
    }
}

/// Whether a unit is kept out of a part.
type Keeps<'a> = &'a dyn Fn(&Bound<'_>, usize) -> bool;

/// Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML 2011), generalised to groups: units with the
/// rarest classes first, the largest first among them; each goes where its classes are most wanting. A unit that is kept
/// out of every part is in none: its number is that of the parts.
fn deal(
    targets: &Targets,
    classes: usize,
    groups: Option<&[u32]>,
    (shares, keeps): (&[f64], Keeps<'_>),
    seed: u64,
) -> Result<Vec<usize>, SplitError> {
    let mut units = units(targets, groups);
    if units.len() < shares.len() {
        return Err(SplitError::TooFew { units: units.len(), parts: shares.len() });
    }
    Rng::new(seed).shuffle(&mut units);
    let totals = targets.counts(classes);
    let total = |class: u32| totals.get(class as usize).copied().unwrap_or(0);
    units.sort_by_key(|unit| {
        let rarest = unit.classes.keys().map(|&class| total(class)).min().unwrap_or(usize::MAX);
        (rarest, std::cmp::Reverse(unit.rows.len()))
    });
    let mut have = vec![vec![0usize; classes]; shares.len()];
    let mut sizes = vec![0usize; shares.len()];
    let mut part = vec![shares.len(); targets.len()];
    let mut to_deal = vec![0usize; classes];
    for &class in units.iter().flat_map(|unit| unit.classes.keys()) {
        if let Some(count) = to_deal.get_mut(class as usize) {
            *count += 1;
        }
    }
    for (index, unit) in units.iter().enumerate() {
        let left = units.len() - index;
        let empty = sizes.iter().filter(|&&size| size == 0).count();
        // Relative need, so that a small part is not starved by a large one.
        let need = |to: usize| -> f64 {
            let (size, share) = (sizes[to], shares[to]);
            let room = 1.0 - size as f64 / (targets.len() as f64 * share);
            let wants = |(&class, &count): (&u32, &usize)| {
                let have = have[to].get(class as usize).copied().unwrap_or(0);
                count as f64 * (1.0 - (have as f64 + count as f64 / 2.0) / (total(class) as f64 * share))
            };
            let must = if left <= empty && size == 0 { 1e12 } else { 0.0 };
            must + unit.classes.iter().map(wants).sum::<f64>() + room * 1e-3
        };
        let bound = Bound { unit, left: &to_deal, have: &have };
        let open = (0..shares.len()).rev().filter(|to| !keeps(&bound, *to));
        let to = open.map(|to| (to, need(to))).reduce(|best, to| if to.1 > best.1 { to } else { best });
        for &class in unit.classes.keys() {
            if let Some(count) = to_deal.get_mut(class as usize) {
                *count -= 1;
            }
        }
        let Some((to, _)) = to else { continue };
        for &row in &unit.rows {
            part[row] = to;
        }
        sizes[to] += unit.rows.len();
        for (&class, &count) in &unit.classes {
            if let Some(sum) = have[to].get_mut(class as usize) {
                *sum += count;
            }
        }
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uneven(n: usize) -> Targets {
        Targets::Single((0..n).map(|i| if i % 10 == 0 { 2 } else { (i % 2) as u32 }).collect())
    }

    #[test]
    fn folds_hold_every_row_out_once_and_keep_the_classes_shares() {
        let targets = uneven(203);
        let all = folds(&targets, 3, None, 5, 1).unwrap();
        let mut seen: Vec<usize> = all.iter().flat_map(|fold| fold.held_out.clone()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..203).collect::<Vec<_>>());
        let whole = targets.counts(3);
        for fold in &all {
            assert_eq!(fold.train.len() + fold.held_out.len(), 203);
            for (class, count) in targets.select(&fold.held_out).counts(3).into_iter().enumerate() {
                assert!(count.abs_diff(whole[class] / 5) <= 1, "class {class}: {count} of {}", whole[class]);
            }
        }
        assert_eq!(all, folds(&targets, 3, None, 5, 1).unwrap());
        assert_ne!(all, folds(&targets, 3, None, 5, 2).unwrap());
    }

    #[test]
    fn a_fifth_is_held_out_of_every_class_and_rare_classes_stand_on_both_sides() {
        let mut rows: Vec<u32> = vec![0; 100];
        rows.extend([1, 1, 2]);
        let targets = Targets::Single(rows);
        let split = hold_out(&targets, 3, None, HELD_OUT, 9).unwrap();
        assert_eq!(targets.select(&split.held_out).counts(3), [20, 1, 0]);
        assert_eq!(targets.select(&split.train).counts(3), [80, 1, 1]);
    }

    #[test]
    fn a_group_never_crosses_and_shares_stay_near() {
        let targets = uneven(300);
        let groups: Vec<u32> = (0..300).map(|row| (row * 7 % 300 / 6) as u32).collect();
        for fold in folds(&targets, 3, Some(&groups), 5, 4).unwrap() {
            let held: Vec<u32> = fold.held_out.iter().map(|&row| groups[row]).collect();
            assert!(fold.train.iter().all(|&row| !held.contains(&groups[row])));
            assert!((40..=80).contains(&fold.held_out.len()), "{}", fold.held_out.len());
        }
        let split = hold_out(&targets, 3, Some(&groups), 0.2, 4).unwrap();
        let held: Vec<u32> = split.held_out.iter().map(|&row| groups[row]).collect();
        assert!(split.train.iter().all(|&row| !held.contains(&groups[row])));
        assert!((40..=80).contains(&split.held_out.len()), "{}", split.held_out.len());
    }

    #[test]
    fn of_no_class_all_groups_are_held_out() {
        // Class 0 has four groups, class 1 one, class 2 two.
        let rows: Vec<(u32, u32)> = (0..210)
            .map(|row| match row % 7 {
                0..=3 => (0, row % 7),
                4 => (1, 4),
                other => (2, other),
            })
            .collect();
        let targets = Targets::Single(rows.iter().map(|row| row.0).collect());
        let groups: Vec<u32> = rows.iter().map(|row| row.1).collect();
        for seed in 0..50 {
            let one = hold_out(&targets, 3, Some(&groups), HELD_OUT, seed).unwrap();
            let all = folds(&targets, 3, Some(&groups), 5, seed).unwrap();
            for split in all.iter().chain([&one]) {
                assert!(targets.select(&split.train).counts(3).iter().all(|count| *count > 0), "{seed}");
                assert!(!split.held_out.is_empty() && split.held_out.iter().all(|&row| groups[row] != 4));
            }
            let held: usize = all.iter().map(|fold| fold.held_out.len()).sum();
            assert_eq!(held, 180, "all but the only group of class 1");
        }
    }

    #[test]
    fn groups_that_are_the_classes_cannot_be_parted() {
        let targets = Targets::Single((0..60).map(|row| row % 3).collect());
        let groups: Vec<u32> = (0..60).map(|row| row % 3).collect();
        assert_eq!(hold_out(&targets, 3, Some(&groups), 0.2, 0), Err(SplitError::WholeClasses));
        assert_eq!(folds(&targets, 3, Some(&groups), 3, 0), Ok(vec![]));
    }

    #[test]
    fn several_labels_a_row_are_spread_evenly() {
        let rows =
            (0..200u32).map(|i| (0..4).filter(|class| (i * 37 + 11) % (class + 3) == 0).collect()).collect();
        let targets = Targets::Multi(rows);
        let whole = targets.counts(4);
        for fold in folds(&targets, 4, None, 5, 0).unwrap() {
            for (class, count) in targets.select(&fold.held_out).counts(4).into_iter().enumerate() {
                let fair = whole[class] as f64 / 5.0;
                assert!(
                    (count as f64 - fair).abs() <= fair * 0.25 + 1.0,
                    "class {class}: {count}, fair {fair}"
                );
            }
        }
    }

    #[test]
    fn draws_take_k_of_each_class_and_are_nested() {
        let targets = uneven(100);
        let four = draw(&targets, 3, 4, 5);
        assert_eq!(targets.select(&four).counts(3), [4, 4, 4]);
        let eight = draw(&targets, 3, 8, 5);
        assert!(four.iter().all(|row| eight.contains(row)));
        assert_eq!(targets.select(&draw(&targets, 3, 1000, 5)).counts(3), targets.counts(3));
    }

    #[test]
    fn too_few_rows_are_refused() {
        let one = Targets::Single(vec![0]);
        assert_eq!(hold_out(&one, 2, None, 0.2, 0), Err(SplitError::TooFew { units: 1, parts: 2 }));
        assert_eq!(folds(&one, 2, None, 5, 0), Err(SplitError::TooFew { units: 1, parts: 5 }));
        assert_eq!(hold_out(&one, 2, None, 1.0, 0), Err(SplitError::Share));
    }
}
