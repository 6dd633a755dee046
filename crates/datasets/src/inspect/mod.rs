//! The inspection: every row once, then all rows together.

mod look;
mod overlap;
mod picture;
mod record;
mod rules;
mod text;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::draft::{Draft, Fault, Material, Step};
use crate::findings::Findings;
use crate::format::{self, Format, Opened};
use crate::inspection::{ClassCount, Duplicates, Inspection, SplitCounts, Summary};
use crate::{Code, DatasetError, Limits, Place, Severity, Source, Split};
use record::Records;

/// Rows that are looked at together, so that pictures can be decoded side by side.
const BATCH_ROWS: usize = 256;
/// Bytes that such rows hold, above which no further is waited for.
const BATCH_BYTES: usize = 16 << 20;

/// How far an inspection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows seen, right or wrong.
    pub rows: u64,
    /// About how many bytes lie behind, of packed text what it unpacks to.
    pub position: u64,
    /// Bytes in all, as stored.
    pub bytes: u64,
}

/// One of several files that are trained on together.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The file.
    pub source: &'a Source,
    /// What all its rows are for, whatever they say; `None` leaves it to them.
    pub split: Option<Split>,
    /// What single rows are for, whatever is said elsewhere.
    pub rows: Option<&'a HashMap<Place, Split>>,
}

impl<'a> Part<'a> {
    /// A file whose rows say themselves what they are for.
    #[must_use]
    pub fn new(source: &'a Source) -> Self {
        Self { source, split: None, rows: None }
    }

    fn is_told(&self) -> bool {
        self.split.is_some() || self.rows.is_some()
    }

    /// What a row is for that says `own` itself.
    fn split_of(&self, place: &Place, own: Option<Split>) -> Option<Split> {
        self.rows.and_then(|rows| rows.get(place)).copied().or(self.split).or(own)
    }
}

/// Reads a file whole and tells all that is in it and all that is wrong with it. `progress` hears of every few hundred
/// rows, and may stop.
///
/// # Errors
/// [`DatasetError::Io`] when the handle fails, [`DatasetError::Cancelled`] when `progress` breaks. What is wrong with
/// the file is no error.
pub fn inspect(
    source: &Source,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Inspection, DatasetError> {
    inspect_together(&[Part::new(source)], limits, progress)
}

/// The same for files that are trained on together, such as a training and a validation file: classes are counted over
/// all, and what two files have in common is found.
///
/// # Errors
/// Those of [`inspect()`].
pub fn inspect_together(
    parts: &[Part<'_>],
    limits: &Limits,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Inspection, DatasetError> {
    let mut inspector = Inspector {
        limits,
        findings: Findings::new(
            limits.max_listed,
            parts.iter().map(|part| Arc::from(part.source.name())).collect(),
        ),
        records: Records::default(),
        done: Progress { rows: 0, position: 0, bytes: parts.iter().map(|part| part.source.bytes()).sum() },
    };
    let mut format = None;
    let mut before = 0;
    for (number, part) in parts.iter().enumerate() {
        let opened = format::open(part.source, limits)?;
        format = format.or(opened.format);
        inspector.part(number, *part, opened, before, progress)?;
        before += part.source.bytes();
    }
    let given: Vec<bool> = parts.iter().map(Part::is_told).collect();
    Ok(inspector.finish(format, &given))
}

struct Inspector<'a> {
    limits: &'a Limits,
    findings: Findings,
    records: Records,
    done: Progress,
}

impl Inspector<'_> {
    fn part(
        &mut self,
        number: usize,
        part: Part<'_>,
        mut opened: Opened,
        before: u64,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), DatasetError> {
        let mut batch: Vec<(Place, Draft)> = Vec::new();
        let mut held = 0;
        let mut unheard = 0;
        loop {
            let step = opened.rows.next()?;
            let ended = step.is_none();
            match step {
                Some(Step::Row { place, draft }) => {
                    self.done.rows += 1;
                    unheard += 1;
                    match draft {
                        Ok(mut draft) => {
                            draft.split = part.split_of(&place, draft.split);
                            held += draft.material.bytes();
                            batch.push((place, draft));
                        }
                        Err(faults) => {
                            faults.into_iter().for_each(|fault| self.add(number, Some(&place), fault))
                        }
                    }
                }
                Some(Step::Note { place, fault }) => self.add(number, place.as_ref(), fault),
                None => {}
            }
            if ended || batch.len() >= BATCH_ROWS || held >= BATCH_BYTES {
                self.look(number, std::mem::take(&mut batch));
                held = 0;
            }
            if ended || unheard >= BATCH_ROWS {
                unheard = 0;
                self.done.position = before + opened.rows.position().unwrap_or(0);
                if progress(self.done).is_break() {
                    return Err(DatasetError::Cancelled);
                }
            }
            if ended {
                return Ok(());
            }
            if self.done.rows > self.limits.max_examples {
                let message = format!("there are more than {} rows", self.limits.max_examples);
                self.add(number, None, Fault::new(Code::TooManyExamples, message));
                return Ok(());
            }
        }
    }

    fn look(&mut self, number: usize, batch: Vec<(Place, Draft)>) {
        let materials: Vec<&Material> = batch.iter().map(|(_, draft)| &draft.material).collect();
        let looks = look::all(&materials, self.limits);
        let part = u16::try_from(number).unwrap_or(u16::MAX);
        for ((place, draft), look) in batch.into_iter().zip(looks) {
            match look {
                Ok(look) => self.records.add(&draft, look, place, part, self.limits),
                Err(fault) => self.add(number, Some(&place), fault),
            }
        }
    }

    fn add(&mut self, number: usize, place: Option<&Place>, fault: Fault) {
        self.findings.add(Some(number), place, fault);
    }

    fn add_about(&mut self, row: Option<usize>, fault: Fault) {
        let Some(record) = row.and_then(|row| self.records.rows.get(row)) else {
            return self.findings.add(None, None, fault);
        };
        self.findings.add(Some(usize::from(record.part)), Some(&record.place), fault);
    }

    fn finish(mut self, format: Option<Format>, split_given: &[bool]) -> Inspection {
        if self.records.rows.is_empty() && !self.findings.has_problems() {
            self.findings.add(None, None, Fault::new(Code::EmptyFile, "the file has no examples"));
        }
        let most = rules::majority(&self.records);
        for (row, fault) in rules::judge(&self.records, split_given, self.limits) {
            self.add_about(row, fault);
        }
        let equal = overlap::equal(&self.records);
        for (row, fault) in overlap::near(&self.records, &equal, self.limits).into_iter().chain(equal) {
            self.add_about(Some(row), fault);
        }
        let (problems, problem_counts) = self.findings.of(Severity::Problem);
        let (warnings, warning_counts) = self.findings.of(Severity::Warning);
        Inspection {
            format,
            modality: most.map(|most| most.modality),
            multi_label: most.is_some_and(|most| most.has_lists),
            summary: self.summary(),
            problems,
            problem_counts,
            warnings,
            warning_counts,
        }
    }

    fn summary(&self) -> Summary {
        let records = &self.records;
        let mut splits = SplitCounts::default();
        records.rows.iter().for_each(|row| splits.add(row.split));
        let class = |(label, &number): (&String, &u32)| {
            let splits = records.classes.get(number as usize)?.counts;
            Some(ClassCount { label: label.clone(), examples: splits.total(), splits })
        };
        Summary {
            examples: records.rows.len() as u64,
            classes: records.names.iter().filter_map(class).collect(),
            splits,
            groups: records.groups.len() as u64,
            bytes: self.done.bytes,
            duplicates: Duplicates {
                within_splits: self.findings.count(Code::DuplicateRow),
                across_splits: self.findings.count(Code::DuplicateAcrossSplits),
                near_across_splits: self.findings.count(Code::NearDuplicateAcrossSplits),
                label_conflicts: self.findings.count(Code::LabelConflict),
            },
        }
    }
}
