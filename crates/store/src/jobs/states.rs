//! Which state follows which: the whole table, in one place.

use headstart_types::job::JobState;

use crate::error::StoreError;

/// What may happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Its files were found good.
    Validate,
    /// A worker takes it, also from a worker that was lost.
    Claim,
    /// Its worker gives it back.
    Release,
    /// Its owner stops it for a while.
    Pause,
    /// Its owner lets it go on.
    Resume,
    /// Its owner ends it.
    Cancel,
    /// Its classifier exists.
    Finish,
    /// It cannot succeed.
    Fail,
}

impl Trigger {
    /// Everything that may happen.
    pub const ALL: [Self; 8] = [
        Self::Validate,
        Self::Claim,
        Self::Release,
        Self::Pause,
        Self::Resume,
        Self::Cancel,
        Self::Finish,
        Self::Fail,
    ];

    /// What has been done, in an error's words.
    fn participle(self) -> &'static str {
        match self {
            Self::Validate => "validated",
            Self::Claim => "claimed",
            Self::Release => "released",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Cancel => "cancelled",
            Self::Finish => "finished",
            Self::Fail => "failed",
        }
    }
}

/// The state after `trigger`.
///
/// # Errors
/// [`StoreError::Conflict`] where the table has no entry.
pub fn next(state: JobState, trigger: Trigger) -> Result<JobState, StoreError> {
    use JobState::{Cancelled, Failed, Paused, Queued, Running, Succeeded, ValidatingFiles};
    match (state, trigger) {
        (ValidatingFiles, Trigger::Validate) | (Running, Trigger::Release) | (Paused, Trigger::Resume) => {
            Ok(Queued)
        }
        (Queued | Running, Trigger::Claim) => Ok(Running),
        (Queued | Running, Trigger::Pause) => Ok(Paused),
        (ValidatingFiles | Queued | Running | Paused, Trigger::Cancel) => Ok(Cancelled),
        (Running, Trigger::Finish) => Ok(Succeeded),
        (ValidatingFiles | Queued | Running, Trigger::Fail) => Ok(Failed),
        (ValidatingFiles | Queued | Running | Paused | Succeeded | Failed | Cancelled, _) => {
            Err(StoreError::Conflict(format!(
                "a job that is `{}` cannot be {}",
                state.as_str(),
                trigger.participle()
            )))
        }
    }
}

/// The final states, as an SQL list.
pub(crate) const FINAL: &str = "'succeeded', 'failed', 'cancelled'";

#[cfg(test)]
mod tests {
    use super::*;

    /// One row a state, one column a trigger; `.` is a conflict, else the first letters of the state that follows.
    const TABLE: &str = "
                         Validate Claim Release Pause Resume Cancel Finish Fail
        validating_files qu       .     .       .     .      ca     .      fa
        queued           .        ru    .       pa    .      ca     .      fa
        running          .        ru    qu      pa    .      ca     su     fa
        paused           .        .     .       .     qu     ca     .      .
        succeeded        .        .     .       .     .      .      .      .
        failed           .        .     .       .     .      .      .      .
        cancelled        .        .     .       .     .      .      .      .
    ";

    #[test]
    fn every_state_and_trigger_leads_where_the_table_says() {
        let mut lines = TABLE.lines().filter(|line| !line.trim().is_empty());
        let triggers: Vec<String> = Trigger::ALL.iter().map(|trigger| format!("{trigger:?}")).collect();
        assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), triggers);
        let mut seen = 0;
        for (line, state) in lines.zip(JobState::ALL) {
            let mut cells = line.split_whitespace();
            assert_eq!(cells.next(), Some(state.as_str()));
            for (cell, trigger) in cells.zip(Trigger::ALL) {
                let found = next(state, trigger);
                match cell {
                    "." => assert!(matches!(found, Err(StoreError::Conflict(_))), "{state:?} {trigger:?}"),
                    letters => assert!(found.unwrap().as_str().starts_with(letters), "{state:?} {trigger:?}"),
                }
                seen += 1;
            }
        }
        assert_eq!(seen, JobState::ALL.len() * Trigger::ALL.len());
    }

    #[test]
    fn a_conflict_says_what_cannot_be_done() {
        let message = next(JobState::Succeeded, Trigger::Cancel).unwrap_err().to_string();
        assert_eq!(message, "a job that is `succeeded` cannot be cancelled");
    }

    #[test]
    fn the_final_states_of_statements_are_those_of_the_type() {
        let names: Vec<String> = JobState::ALL
            .into_iter()
            .filter(|state| state.is_final())
            .map(|state| format!("'{}'", state.as_str()))
            .collect();
        assert_eq!(names.join(", "), FINAL);
    }
}
