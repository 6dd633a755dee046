//! What the rows of a job have in common across the uses that are made of them, told before anything is fitted.

use std::collections::HashMap;
use std::fs::File;
use std::ops::ControlFlow;

use headstart_datasets::{
    Code, DatasetError, Finding, Inspection, Limits, Part, Place, Source, Split, inspect_together,
};
use headstart_types::report::{DuplicatePair, Duplicates, Row, Twin};

use crate::worker::control::{Halt, Stop};
use crate::worker::fine_tune::Parts;
use crate::worker::reading::Upload;
use crate::worker::table::Table;

/// Pairs that a report lists.
const PAIRS: usize = 50;

/// Findings that are looked through for pairs: other kinds take their share of the list.
const LISTED: usize = 4 * PAIRS;

/// The kinds that pairs are of, the gravest first.
const KINDS: [Code; 4] =
    [Code::DuplicateAcrossSplits, Code::NearDuplicateAcrossSplits, Code::LabelConflict, Code::DuplicateRow];

/// Reads the files once more, each row as what it is used for; rows that are drawn to be scored count as held out.
/// Blocking.
///
/// # Errors
/// The job's stop, or when a file cannot be read.
pub(super) fn find(
    files: &[Upload],
    limits: &Limits,
    table: &Table,
    parts: &Parts,
    halt: &Halt,
) -> Result<Duplicates, Stop> {
    let broken = |error: &dyn std::error::Error| Stop::Broken(error.to_string());
    let limits = Limits { max_listed: LISTED, ..limits.clone() };
    let mut uses: Vec<HashMap<Place, Split>> = Vec::new();
    let mut sources = Vec::new();
    for (number, upload) in files.iter().enumerate() {
        uses.push(uses_of(table, parts, number));
        let file = File::open(&upload.path).map_err(|error| broken(&error))?;
        sources.push(Source::new(file, &named(number, &upload.name)).map_err(|error| broken(&error))?);
    }
    let told: Vec<Part<'_>> = sources
        .iter()
        .zip(&uses)
        .map(|(source, rows)| Part { rows: Some(rows), ..Part::new(source) })
        .collect();
    let found = inspect_together(&told, &limits, &mut |_| match halt.check() {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    let found = match found {
        Ok(found) => found,
        Err(DatasetError::Cancelled) => {
            halt.check()?;
            return Err(Stop::Broken("an inspection stopped by itself".into()));
        }
        Err(error) => return Err(broken(&error)),
    };
    let row = |file: Option<&str>, line: Option<u64>, path: Option<&String>| {
        let number = usize::from(file.is_some_and(|file| file.starts_with("1/")));
        let place = line.map(Place::Line).or_else(|| path.map(|path| Place::Path(path.as_str().into())));
        let split = place.and_then(|place| uses.get(number)?.get(&place).copied());
        Row { split: split.map(|split| parts.name_of(split).to_owned()), line, path: path.cloned() }
    };
    Ok(counted(&found, row))
}

/// The file's name, told apart from another of the same; its end stays, as formats are told by it.
fn named(number: usize, name: &str) -> String {
    format!("{number}/{name}")
}

fn uses_of(table: &Table, parts: &Parts, file: usize) -> HashMap<Place, Split> {
    let of = table.of_file(file);
    let named = [(Split::Train, &parts.learn), (Split::Val, &parts.tune), (Split::Test, &parts.score)];
    let rows = named.into_iter().flat_map(|(split, rows)| rows.iter().map(move |row| (*row, split)));
    rows.filter(|(row, _)| of.contains(row))
        .filter_map(|(row, split)| Some((table.head.places.get(row)?.clone(), split)))
        .collect()
}

fn counted(
    found: &Inspection,
    row: impl Fn(Option<&str>, Option<u64>, Option<&String>) -> Row,
) -> Duplicates {
    let counts = found.summary.duplicates;
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let mut pairs: Vec<DuplicatePair> = Vec::new();
    for kind in KINDS {
        for Finding { file, line, path, other, .. } in found.warnings.iter().filter(|one| one.code == kind) {
            let Some(other) = other else { continue };
            let first = row(other.file.as_deref(), other.line, other.path.as_ref());
            let second = row(file.as_deref(), *line, path.as_ref());
            let known = pairs.iter().any(|pair| pair.first == first && pair.second == second);
            if pairs.len() < PAIRS && !known {
                let near = kind == Code::NearDuplicateAcrossSplits;
                pairs.push(DuplicatePair {
                    first,
                    second,
                    twin: if near { Twin::Near } else { Twin::Exact },
                });
            }
        }
    }
    Duplicates {
        exact: count(counts.within_splits + counts.across_splits),
        near: count(counts.near_across_splits),
        across_splits: count(counts.across_splits + counts.near_across_splits),
        conflicting: count(counts.label_conflicts),
        pairs,
    }
}

/// The warning that a job gives when its figures will flatter.
pub(super) fn warning(found: &Duplicates) -> Option<String> {
    let (all, near) = (found.across_splits, found.near);
    let near = if near > 0 { format!(" ({near} of them nearly)") } else { String::new() };
    (all > 0).then(|| {
        format!("{all} rows to tune on or to score are{near} also rows to learn from: the figures flatter")
    })
}
