//! Which rows a training learns from, and which stop it.

use std::collections::HashSet;

use headstart_methods::MethodError;
use headstart_methods::split::{self, SplitError};
use headstart_methods::tune::Plan;

use crate::worker::fine_tune::Parts;
use crate::worker::table::Table;

/// Of the rows to learn from, the share that stops the run where the file names none.
pub(super) const HELD_OUT: f64 = 0.1;

/// Fewer rows stop no run: which of many passes they like is chance, and the rows are better learnt from.
const FEWEST: usize = 50;

/// The rows of a training, by their numbers in the table: `learn` is trained on; `stop` is never trained on but scored
/// after every epoch, or, where the features alone are trained, once after the last.
pub(super) struct TrainingRows {
    pub(super) learn: Vec<usize>,
    pub(super) stop: Vec<usize>,
}

impl TrainingRows {
    /// The rows of a plan. `stop` is:
    /// - the file's own rows for tuning, where it has some;
    /// - empty where features alone are trained, since nothing is chosen by it, and where there are too few rows for it to tell anything;
    /// - empty where none can be held out, as where every group is a class;
    /// - else a tenth, drawn. A comparison with random weights (`from_random`) always needs some, however few rows there are.
    ///
    /// # Errors
    /// [`MethodError`] when two runs are to be compared and no rows can be held out.
    pub(super) fn planned(plan: &Plan, table: &Table, parts: &Parts, seed: u64) -> Result<Self, MethodError> {
        let few = parts.learn.len() as f64 * HELD_OUT < FEWEST as f64;
        let all = || Self { learn: parts.learn.clone(), stop: parts.tune.clone() };
        if plan.contrast || (parts.tune.is_empty() && few && !plan.recipe.from_random) {
            return Ok(all());
        }
        match Self::of(table, parts, HELD_OUT, seed) {
            // Whole groups or classes would have to go: all rows are learnt from, as if they were few.
            Err(MethodError::Split(SplitError::TooFew { .. } | SplitError::WholeClasses))
                if !plan.recipe.from_random =>
            {
                Ok(all())
            }
            training_rows => training_rows,
        }
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

#[cfg(test)]
mod tests {
    use headstart_datasets::{Place, SplitCounts, SplitPlan};
    use headstart_methods::method;
    use serde_json::{Map, json};

    use super::*;
    use crate::worker::table::{Row, TableBuilder};

    /// Six hundred rows to learn from, of these groups and a class each, beside one of another group that is not.
    fn grouped(group: impl Fn(u64) -> String) -> (Table, Parts) {
        let mut builder = TableBuilder::new(vec!["a".into(), "b".into()], false, true, 1);
        for line in 0..600 {
            let label = if line % 2 == 0 { "a" } else { "b" };
            let (labels, place) = (vec![label.to_owned()], Place::Line(line));
            builder.add(
                Row { labels, group: Some(group(line)), split: None, place, of_validation: false },
                &[0.0],
            );
        }
        let (labels, place) = (vec!["a".to_owned()], Place::Line(600));
        let other = Row { labels, group: Some("other".into()), split: None, place, of_validation: false };
        builder.add(other, &[0.0]);
        let parts = Parts {
            plan: SplitPlan::new(&SplitCounts::default(), 2),
            learn: (0..600).collect(),
            tune: Vec::new(),
            score: Vec::new(),
        };
        (builder.finish().unwrap(), parts)
    }

    fn plan(name: &str, from_random: bool) -> Plan {
        let method = method(name).unwrap();
        let asked =
            if from_random { Map::from_iter([("from_random".into(), json!(true))]) } else { Map::new() };
        method.plan(&method.check(&asked).unwrap(), 7).unwrap().unwrap()
    }

    #[test]
    fn where_no_group_can_be_held_out_all_rows_are_learnt_from() {
        // Each class is a group; one group has all rows.
        for (table, parts) in [grouped(|line| format!("{}", line % 2)), grouped(|_| "all".into())] {
            for name in ["full", "partial", "lora"] {
                let training_rows = TrainingRows::planned(&plan(name, false), &table, &parts, 7).unwrap();
                assert_eq!((training_rows.learn.len(), training_rows.stop.len()), (600, 0), "{name}");
            }
            let compared = TrainingRows::planned(&plan("full", true), &table, &parts, 7);
            assert!(matches!(compared, Err(MethodError::Split(_))), "two runs are compared by rows held out");
        }
        let (table, parts) = grouped(|line| format!("{}", line / 20));
        let training_rows = TrainingRows::planned(&plan("full", false), &table, &parts, 7).unwrap();
        assert_eq!((training_rows.learn.len(), training_rows.stop.len()), (540, 60));
    }
}
