//! Which rows are learned from, tuned on and held out, by the splits that are there. Nothing is drawn here.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Split, SplitCounts, Summary};

/// What the final score is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldOut {
    /// The test rows.
    Test,
    /// The validation rows, as there are no test rows.
    Val,
    /// A fifth of the rows to learn from, drawn by the caller: stratified by class, seeded, whole groups where there
    /// are any.
    Drawn,
}

/// What parameters are chosen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PlannedTuning)]
pub enum Tuning {
    /// The validation rows.
    Val,
    /// Folds of the rows to learn from, without those held out.
    Folds,
}

/// The use that is made of the splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SplitPlan {
    /// What the final score is taken on.
    pub held_out: HeldOut,
    /// What parameters are chosen on.
    pub tuning: Tuning,
    /// Whether rows of one group must stay together in what is drawn.
    pub by_group: bool,
}

/// What one row is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Learned from; of these a fifth is drawn where [`HeldOut::Drawn`] is planned.
    Learn,
    /// Tuned on and stopped by.
    Tune,
    /// Scored once, at the end.
    Score,
}

impl SplitPlan {
    /// The plan for rows of these splits: test rows are scored, validation rows tuned on; without test rows the
    /// validation rows are scored and folds tuned on; without either a fifth is drawn.
    #[must_use]
    pub fn new(splits: &SplitCounts, groups: u64) -> Self {
        let (held_out, tuning) = match (splits.test > 0, splits.val > 0) {
            (true, true) => (HeldOut::Test, Tuning::Val),
            (true, false) => (HeldOut::Test, Tuning::Folds),
            (false, true) => (HeldOut::Val, Tuning::Folds),
            (false, false) => (HeldOut::Drawn, Tuning::Folds),
        };
        Self { held_out, tuning, by_group: groups > 1 }
    }

    /// What a row of this split is used for. No row of a test split is ever learned from or tuned on.
    #[must_use]
    pub fn use_of(&self, split: Option<Split>) -> Use {
        match (split, self.held_out) {
            (Some(Split::Test), _) | (Some(Split::Val), HeldOut::Val) => Use::Score,
            (Some(Split::Val), HeldOut::Test | HeldOut::Drawn) => Use::Tune,
            (Some(Split::Train) | None, _) => Use::Learn,
        }
    }
}

impl Summary {
    /// The plan for the rows of this file.
    #[must_use]
    pub fn plan(&self) -> SplitPlan {
        SplitPlan::new(&self.splits, self.groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(train: u64, val: u64, test: u64, none: u64) -> SplitPlan {
        SplitPlan::new(&SplitCounts { train, val, test, none }, 0)
    }

    #[test]
    fn every_combination_of_splits_has_its_plan() {
        let of = |plan: SplitPlan| (plan.held_out, plan.tuning);
        assert_eq!(of(plan(9, 3, 3, 0)), (HeldOut::Test, Tuning::Val));
        assert_eq!(of(plan(9, 0, 3, 0)), (HeldOut::Test, Tuning::Folds));
        assert_eq!(of(plan(9, 3, 0, 0)), (HeldOut::Val, Tuning::Folds));
        assert_eq!(of(plan(9, 0, 0, 0)), (HeldOut::Drawn, Tuning::Folds));
        assert_eq!(of(plan(0, 0, 0, 9)), (HeldOut::Drawn, Tuning::Folds));
    }

    #[test]
    fn a_test_row_is_never_learned_from_nor_tuned_on() {
        for val in [0, 3] {
            for test in [0, 3] {
                let plan = plan(9, val, test, 0);
                assert_eq!(plan.use_of(Some(Split::Test)), Use::Score);
                assert_eq!(plan.use_of(Some(Split::Train)), Use::Learn);
                assert_eq!(plan.use_of(None), Use::Learn);
            }
        }
        assert_eq!(plan(9, 3, 3, 0).use_of(Some(Split::Val)), Use::Tune);
        assert_eq!(plan(9, 3, 0, 0).use_of(Some(Split::Val)), Use::Score);
    }

    #[test]
    fn groups_stay_together_where_there_are_several() {
        let splits = SplitCounts { none: 10, ..SplitCounts::default() };
        assert!(SplitPlan::new(&splits, 2).by_group);
        assert!(!SplitPlan::new(&splits, 1).by_group);
    }
}
