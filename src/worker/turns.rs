//! Which rows a training learns from, and which stop it.

use std::collections::HashSet;

use headstart_methods::tune::Plan;
use headstart_methods::{MethodError, split};

use crate::worker::fine_tune::Parts;
use crate::worker::table::Table;

/// Of the rows to learn from, the share that stops the run where the file names none.
pub(super) const HELD_OUT: f64 = 0.1;

/// Fewer rows stop no run: which of many passes they like is chance, and the rows are better learnt from.
const FEWEST: usize = 50;

/// The rows of a run: learnt from, and never learnt from but asked after every epoch or, where features alone are trained,
/// behind the last.
pub(super) struct Turns {
    pub(super) learn: Vec<usize>,
    pub(super) stop: Vec<usize>,
}

impl Turns {
    /// The rows of a plan. Where features alone are trained nothing is chosen by held-out rows, and none are drawn; else a
    /// tenth is where that is worth asking. Two runs can only be compared by rows that neither learns from: where that is
    /// wanted there are some.
    ///
    /// # Errors
    /// [`MethodError`] when rows are too few to hold any out.
    pub(super) fn planned(plan: &Plan, table: &Table, parts: &Parts, seed: u64) -> Result<Self, MethodError> {
        let few = parts.learn.len() as f64 * HELD_OUT < FEWEST as f64;
        if plan.contrast || (parts.tune.is_empty() && few && !plan.recipe.from_random) {
            return Ok(Self { learn: parts.learn.clone(), stop: parts.tune.clone() });
        }
        Self::of(table, parts, HELD_OUT, seed)
    }

    /// The file's own rows for tuning where it has such, else a seeded stratified share of those to learn from.
    ///
    /// # Errors
    /// [`MethodError`] when rows are too few to hold any out.
    pub(super) fn of(table: &Table, parts: &Parts, share: f64, seed: u64) -> Result<Self, MethodError> {
        if !parts.tune.is_empty() {
            return Ok(Self { learn: parts.learn.clone(), stop: parts.tune.clone() });
        }
        let targets = table.targets().select(&parts.learn);
        let groups = table.head.groups.as_ref();
        let groups: Option<Vec<u32>> =
            groups.map(|groups| parts.learn.iter().filter_map(|row| groups.get(*row).copied()).collect());
        let drawn = split::hold_out(&targets, table.head.classes.len(), groups.as_deref(), share, seed)?;
        let rows = |of: &[usize]| of.iter().filter_map(|at| parts.learn.get(*at).copied()).collect();
        Ok(Self { learn: rows(&drawn.train), stop: rows(&drawn.held_out) })
    }

    /// The numbers that a fit gives the rows that stop the run: places among the rows learnt from, or behind the last.
    pub(super) fn numbered(&self, parts: &Parts) -> Vec<usize> {
        if !parts.tune.is_empty() {
            return (0..self.stop.len()).map(|at| parts.learn.len() + at).collect();
        }
        self.stop.iter().filter_map(|row| parts.learn.binary_search(row).ok()).collect()
    }

    pub(super) fn all(&self) -> HashSet<usize> {
        self.learn.iter().chain(&self.stop).copied().collect()
    }
}
