//! What is asked of the rows together.

use headstart_types::Modality;

use super::record::{Class, Groups, Record, Records};
use crate::draft::Fault;
use crate::{Code, Limits, Split};

/// A finding about a row, by its number, or about the whole.
pub(crate) type Judgement = (Option<usize>, Fault);

/// The modality and the form of labels that most rows have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Majority {
    pub(crate) modality: Modality,
    pub(crate) has_lists: bool,
}

/// What most rows are, `None` without rows; texts and single labels where it is even.
pub(crate) fn majority(records: &Records) -> Option<Majority> {
    let lists = records.rows.iter().filter(|row| row.has_list).count();
    let most = |count: usize| count * 2 > records.rows.len();
    let media = [Modality::Image, Modality::Audio];
    let modality =
        media.into_iter().find(|modality| most(records.count(*modality))).unwrap_or(Modality::Text);
    (!records.rows.is_empty()).then_some(Majority { modality, has_lists: most(lists) })
}

/// Judges the rows; `split_given` says for each file whether the caller said what its rows are for.
pub(crate) fn judge(records: &Records, split_given: &[bool], limits: &Limits) -> Vec<Judgement> {
    let mut judgements = Vec::new();
    let Some(most) = majority(records) else { return judgements };
    minorities(records, most, &mut judgements);
    partial_splits(records, split_given, &mut judgements);
    classes(records, most, limits, &mut judgements);
    let across = |sides: u8| sides & 1 != 0 && sides & 0b110 != 0;
    for (_, row) in records.groups.values().filter(|(sides, _)| across(*sides)) {
        let message =
            "the group of this row is in train and in val or test: what is learned may be the group";
        judgements.push((Some(*row), Fault::new(Code::GroupAcrossSplits, message)));
    }
    for (name, &number) in &records.names {
        let Some(class) = records.classes.get(number as usize) else { continue };
        if matches!(class.groups, Groups::One(_)) && records.groups.len() > 1 {
            let message = format!(
                "all rows of `{name}` to learn from are of one group: it is never held out, and what is learned may be the \
                 group"
            );
            judgements.push((Some(class.first), Fault::new(Code::ClassInOneGroup, message)));
        }
    }
    judgements.sort_by_key(|(row, _)| *row);
    judgements
}

fn minorities(records: &Records, most: Majority, judgements: &mut Vec<Judgement>) {
    for (row, record) in records.rows.iter().enumerate() {
        if record.look.modality != most.modality {
            let message = format!(
                "the row is of {}, most are of {}; a classifier reads one kind",
                record.look.modality.as_str(),
                most.modality.as_str()
            );
            judgements.push((Some(row), Fault::new(Code::MixedModalities, message)));
        }
        if record.has_list != most.has_lists {
            let message = if record.has_list {
                "the row has `labels`, most have `label`"
            } else {
                "the row has `label`, most have `labels`"
            };
            judgements.push((Some(row), Fault::new(Code::MixedLabels, message)));
        }
    }
}

fn partial_splits(records: &Records, split_given: &[bool], judgements: &mut Vec<Judgement>) {
    for (part, given) in split_given.iter().enumerate() {
        let of_part = |record: &&Record| usize::from(record.part) == part;
        if *given || !records.rows.iter().filter(of_part).any(|record| record.split.is_some()) {
            continue;
        }
        for (row, record) in records.rows.iter().enumerate() {
            if usize::from(record.part) == part && record.split.is_none() {
                let message = "the row names no split, others do";
                judgements.push((Some(row), Fault::new(Code::PartialSplit, message)));
            }
        }
    }
}

fn classes(records: &Records, most: Majority, limits: &Limits, judgements: &mut Vec<Judgement>) {
    if records.too_many_classes {
        let message = format!("there are more than {} classes", limits.max_classes);
        judgements.push((None, Fault::new(Code::TooManyClasses, message)));
    }
    if !records.rows.iter().any(|row| row.side() == Split::Train) {
        let message = "all rows are for validation or test";
        judgements.push((None, Fault::new(Code::NoTrainingRows, message)));
        return;
    }
    if records.classes.is_empty() {
        judgements.push((None, Fault::new(Code::OneClass, "no row has any label")));
    }
    if let (false, [_], Some(name)) =
        (most.has_lists, records.classes.as_slice(), records.names.keys().next())
    {
        let message = format!("all rows have the label `{name}`; at least two are needed");
        judgements.push((None, Fault::new(Code::OneClass, message)));
    }
    for (name, &number) in &records.names {
        let Some(Class { counts, first, .. }) = records.classes.get(number as usize) else { continue };
        let to_learn = counts.to_learn();
        if to_learn == 0 {
            let total = counts.total();
            let rows = if total == 1 { "one row".to_owned() } else { format!("{total} rows") };
            let message = format!(
                "the label `{name}` is on no row to learn from, only on {rows} for validation or test"
            );
            judgements.push((Some(*first), Fault::new(Code::ClassNotInTrain, message)));
        } else if to_learn < limits.min_class_examples {
            let message = format!(
                "the class `{name}` has {to_learn} rows to learn from; at least {} are needed",
                limits.min_class_examples
            );
            judgements.push((Some(*first), Fault::new(Code::FewExamples, message)));
        }
    }
}
