//! Finding what is there twice: the same, nearly the same, and the same under two labels.

use headstart_types::Modality;

use super::record::{Record, Records};
use super::text::Signature;
use crate::draft::Fault;
use crate::{Code, Limits, Split};

/// In a crowd of rows that share a part of their signatures, each is compared with this many at most: boilerplate
/// must not cost the square of its rows.
const MOST_COMPARED: usize = 64;

/// What was found, as the number of a row and what to say of it.
pub(crate) type Overlaps = Vec<(usize, Fault)>;

/// Rows of equal content.
pub(crate) fn equal(records: &Records) -> Overlaps {
    let rows = &records.rows;
    let described = records.described();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_unstable_by_key(|&row| (rows.get(row).map(|record| record.look.key), row));
    let mut found = Vec::new();
    for crowd in order.chunk_by(|&a, &b| key(rows, a) == key(rows, b)) {
        if crowd.len() > 1 {
            crowd_of_equals(rows, crowd, &described, &mut found);
        }
    }
    found.extend(ids(records));
    // Findings are listed in the order of rows.
    found.sort_by_key(|(row, _)| *row);
    found
}

fn key(rows: &[Record], row: usize) -> Option<u128> {
    rows.get(row).map(|record| record.look.key)
}

fn crowd_of_equals(rows: &[Record], crowd: &[usize], described: &[String], found: &mut Overlaps) {
    // The first row of each split, by which the others are judged.
    let mut firsts: [Option<&Record>; 3] = [None; 3];
    for &row in crowd {
        if let Some(record) = rows.get(row)
            && let Some(first) = firsts.get_mut(record.side() as usize)
        {
            first.get_or_insert(record);
        }
    }
    let mut seen: [bool; 3] = [false; 3];
    for &row in crowd {
        let Some(record) = rows.get(row) else { continue };
        let side = record.side() as usize;
        if let Some(other) = firsts.iter().take(side).flatten().next() {
            let message = format!(
                "this {} row has the same {} as the {} row at {}",
                record.side().as_str(),
                what(record),
                other.side().as_str(),
                place(other, record)
            );
            let fault = Fault::new(Code::DuplicateAcrossSplits, message).beside(other.part, &other.place);
            found.push((row, fault));
        }
        if let (Some(true), Some(Some(first))) = (seen.get(side), firsts.get(side)) {
            let message = format!("has the same {} as {}", what(record), place(first, record));
            let fault = Fault::new(Code::DuplicateRow, message).beside(first.part, &first.place);
            found.push((row, fault));
        }
        if let Some(seen) = seen.get_mut(side) {
            *seen = true;
        }
    }
    let first = crowd.first().and_then(|&row| rows.get(row));
    let conflict = crowd.iter().filter_map(|&row| Some((row, rows.get(row)?, first?)));
    if let Some((row, record, first)) =
        conflict.into_iter().find(|(_, record, first)| record.labels != first.labels)
    {
        let labels = |record: &Record| described.get(record.labels as usize).cloned().unwrap_or_default();
        let message = format!(
            "the {} has the label {} here and {} at {}",
            what(record),
            labels(record),
            labels(first),
            place(first, record)
        );
        let fault = Fault::new(Code::LabelConflict, message).beside(first.part, &first.place);
        found.push((row, fault));
    }
}

fn what(record: &Record) -> &'static str {
    match record.look.modality {
        Modality::Text => "text",
        Modality::Image | Modality::Tensor => "picture",
        Modality::Audio => "sound",
    }
}

/// Where a row stands, seen from another.
fn place(record: &Record, from: &Record) -> String {
    let other =
        if record.part == from.part { String::new() } else { format!(" of file {}", record.part + 1) };
    format!("{}{other}", record.place)
}

/// Ids that stand for different things.
fn ids(records: &Records) -> Overlaps {
    let mut ids = records.ids.clone();
    ids.sort_unstable();
    let mut found = Vec::new();
    for crowd in ids.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((first, rest)) = crowd.split_first() else { continue };
        let Some(first) = records.rows.get(first.1) else { continue };
        for &(_, row) in rest {
            let Some(record) = records.rows.get(row) else { continue };
            if (record.look.key, record.labels) != (first.look.key, first.labels) {
                let message = format!("the id stands for another row at {}", place(first, record));
                found.push((row, Fault::new(Code::ConflictingIds, message)));
            }
        }
    }
    found
}

/// Validation and test rows that nearly equal a row of an earlier split, and equal none.
pub(crate) fn near(records: &Records, equal: &Overlaps, limits: &Limits) -> Overlaps {
    let rows = &records.rows;
    if rows.iter().all(|row| row.side() == rows.first().map_or(Split::Train, Record::side)) {
        return Vec::new();
    }
    let known: std::collections::BTreeSet<usize> = equal
        .iter()
        .filter(|(_, fault)| fault.code == Code::DuplicateAcrossSplits)
        .map(|(row, _)| *row)
        .collect();
    let mut partner: Vec<Option<usize>> = vec![None; rows.len()];
    for part in 0..Signature::default().len() {
        let mut order: Vec<(u32, usize)> = rows
            .iter()
            .enumerate()
            .filter_map(|(row, record)| Some((*record.look.signature?.get(part)?, row)))
            .collect();
        order.sort_unstable();
        for crowd in order.chunk_by(|(a, _), (b, _)| a == b) {
            in_crowd(rows, crowd, &mut partner, limits);
        }
    }
    let mut found = Vec::new();
    for (row, (record, partner)) in rows.iter().zip(partner).enumerate() {
        let Some(other) = partner.and_then(|other| rows.get(other)) else { continue };
        if known.contains(&row) {
            continue;
        }
        let message = format!(
            "this {} row has nearly the same {} as the {} row at {}",
            record.side().as_str(),
            what(record),
            other.side().as_str(),
            place(other, record)
        );
        let fault = Fault::new(Code::NearDuplicateAcrossSplits, message).beside(other.part, &other.place);
        found.push((row, fault));
    }
    found
}

/// Compares the rows that share one part of their signatures.
fn in_crowd(rows: &[Record], crowd: &[(u32, usize)], partner: &mut [Option<usize>], limits: &Limits) {
    let of_side = |side: Split| {
        let rows = crowd.iter().filter_map(|&(_, row)| Some((row, rows.get(row)?)));
        rows.filter(|(_, record)| record.side() == side).take(MOST_COMPARED).collect::<Vec<_>>()
    };
    let (train, val) = (of_side(Split::Train), of_side(Split::Val));
    for &(_, row) in crowd {
        let Some(record) = rows.get(row) else { continue };
        let later = if record.side() == Split::Test { val.as_slice() } else { &[] };
        if record.side() == Split::Train || partner.get(row).is_none_or(Option::is_some) {
            continue;
        }
        let mut earlier = train.iter().chain(later);
        let close = earlier.find(|(_, other)| is_near(record, other, limits)).map(|&(other, _)| other);
        if let Some(slot) = partner.get_mut(row) {
            *slot = close;
        }
    }
}

fn is_near(one: &Record, other: &Record, limits: &Limits) -> bool {
    let (Some(a), Some(b)) = (one.look.signature, other.look.signature) else { return false };
    let pairs = a.iter().zip(&b);
    match (one.look.modality, other.look.modality) {
        (Modality::Text, Modality::Text) => {
            pairs.filter(|(a, b)| a == b).count() >= limits.near_text_parts as usize
        }
        (Modality::Image, Modality::Image) => {
            pairs.map(|(a, b)| (a ^ b).count_ones()).sum::<u32>() <= limits.near_image_bits
        }
        // Of sounds there is no signature.
        (Modality::Text | Modality::Image | Modality::Audio | Modality::Tensor, _) => false,
    }
}
