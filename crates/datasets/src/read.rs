//! The examples of a file that has been inspected.

use crate::draft::{Draft, Fault, Step};
use crate::example::Example;
use crate::format::{self, Rows};
use crate::{DatasetError, Inspection, Limits, Place, Severity, Source};

/// The examples of an inspected file, in the file's order: as many as the inspection counted, the same each time.
///
/// # Errors
/// [`DatasetError::Unusable`] when the inspection found rows that are not right, [`DatasetError::Io`] when the handle
/// fails.
pub fn read(source: &Source, inspection: &Inspection, limits: &Limits) -> Result<Examples, DatasetError> {
    if !inspection.is_readable() {
        return Err(DatasetError::Unusable(inspection.problem_total()));
    }
    let rows = format::open(source, limits)?.rows;
    Ok(Examples { rows, row: 0, limits: limits.clone(), ended: false })
}

/// Examples, one after the other. After an error there are none.
pub struct Examples {
    rows: Box<dyn Rows>,
    row: u64,
    limits: Limits,
    ended: bool,
}

impl std::fmt::Debug for Examples {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Examples").field("row", &self.row).finish_non_exhaustive()
    }
}

impl Examples {
    fn step(&mut self) -> Result<Option<Example>, DatasetError> {
        loop {
            match self.rows.next()? {
                None => return Ok(None),
                Some(Step::Row { place, draft: Ok(draft) }) => return self.example(place, draft).map(Some),
                Some(Step::Row { place, draft: Err(faults) }) => {
                    return Err(changed(Some(&place), faults.first()));
                }
                Some(Step::Note { place, fault }) if fault.code.severity() == Severity::Problem => {
                    return Err(changed(place.as_ref(), Some(&fault)));
                }
                Some(Step::Note { .. }) => {}
            }
        }
    }

    fn example(&mut self, place: Place, draft: Draft) -> Result<Example, DatasetError> {
        let content = draft.material.content(&self.limits);
        let content = content.map_err(|error| DatasetError::Changed(format!("{place}: {error}")))?;
        let row = self.row;
        self.row += 1;
        let labels = draft.labels.into_vec();
        Ok(Example { row, place, content, labels, group: draft.group, split: draft.split })
    }
}

fn changed(place: Option<&Place>, fault: Option<&Fault>) -> DatasetError {
    let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
    let message = fault.map_or("a row is wrong", |fault| fault.message.as_str());
    DatasetError::Changed(format!("{place}{message}"))
}

impl Iterator for Examples {
    type Item = Result<Example, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}
