//! Whether a version is worse than the one in production: both on the same rows, which neither learned from.

mod evidence;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use headstart_types::gate::{Comparison, GateBasis, GateKind, GateVerdict, NotCompared};

pub use evidence::{Answered, Evidence, Rival};

use crate::evaluate::intervals::Discordance;
use crate::few_shot::Content;

/// A loss that must be seen where there is one: one row in so many, with none won.
const LOSS_OF_ONE_IN: u64 = 10;

/// Labels that are listed at most.
const LISTED: usize = 20;

/// The numbers of the versions compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The one that would be production.
    pub candidate: u32,
    /// The one that is.
    pub production: u32,
}

/// Compares a version with production. Nothing is known of a version without evidence, so that it is never outdone.
pub fn compare(
    versions: Versions,
    candidate: Option<&Evidence>,
    production: Option<&Evidence>,
    alpha: f64,
) -> Comparison {
    let mut table = Comparison {
        kind: GateKind::Mcnemar,
        verdict: GateVerdict::NotEnoughEvidence,
        message: String::new(),
        candidate: versions.candidate,
        production: versions.production,
        alpha,
        p: 1.0,
        rows: 0,
        rows_needed: rows_needed(alpha),
        basis: GateBasis::BothHeldOut,
        both_right: 0,
        only_production_right: 0,
        only_candidate_right: 0,
        both_wrong: 0,
        not_compared: NotCompared::default(),
        new_labels_right: 0,
        labels_added: Vec::new(),
        labels_removed: Vec::new(),
    };
    let why = match (candidate, production) {
        (None, _) => Some(unknown(versions.candidate)),
        (_, None) => Some(unknown(versions.production)),
        (Some(candidate), Some(production)) if candidate.multi_label != production.multi_label => {
            Some("one gives a row one label, the other several".to_owned())
        }
        (Some(candidate), Some(production)) => {
            count(&mut table, candidate, production);
            None
        }
    };
    judge(&mut table, why);
    table
}

fn unknown(version: u32) -> String {
    format!("what version {version} learned from is not known, as of versions of earlier releases")
}

/// So many rows that a version which loses one in ten and wins none is refused: with `k` rows lost the p is `2^-(k + 1)`.
fn rows_needed(alpha: f64) -> u64 {
    let lost = (0.5 / alpha).log2().floor() + 1.0;
    LOSS_OF_ONE_IN.saturating_mul(lost as u64)
}

/// Puts each of the candidate's held-out rows where it belongs.
fn count(table: &mut Comparison, candidate: &Evidence, production: &Evidence) {
    let missing = |of: &[String], from: &[String]| -> Vec<String> {
        let known: HashSet<&String> = from.iter().collect();
        of.iter().filter(|label| !known.contains(label)).take(LISTED).cloned().collect()
    };
    table.labels_added = missing(&candidate.labels, &production.labels);
    table.labels_removed = missing(&production.labels, &candidate.labels);
    let rival = candidate.rival.as_ref().filter(|rival| rival.version == table.production);
    if rival.is_some() {
        table.basis = GateBasis::Asked;
    }
    let noted: HashMap<&Content, &Vec<u32>> =
        production.held_out.iter().map(|row| (&row.content, &row.said)).collect();
    let number: HashMap<&str, u32> = production.labels.iter().map(String::as_str).zip(0..).collect();
    let theirs: Vec<Option<u32>> =
        candidate.labels.iter().map(|label| number.get(label.as_str()).copied()).collect();
    let mut seen = HashSet::new();
    let skipped = &mut table.not_compared;
    for (at, row) in candidate.held_out.iter().enumerate() {
        let answer = match rival {
            Some(rival) => rival.said.get(at).and_then(Option::as_ref),
            None => noted.get(&row.content).copied(),
        };
        let truth: Option<Vec<u32>> =
            row.labels.iter().map(|label| theirs.get(*label as usize).copied().flatten()).collect();
        let right = row.said == row.labels;
        match (answer, truth) {
            _ if !seen.insert(row.content) => skipped.repeated += 1,
            _ if candidate.learned.contains(&row.content) => skipped.learned_by_candidate += 1,
            _ if production.learned.contains(&row.content) => skipped.learned_by_production += 1,
            (_, None) => {
                skipped.new_labels += 1;
                table.new_labels_right += u64::from(right);
            }
            (None, Some(_)) => skipped.not_known += 1,
            (Some(answer), Some(mut truth)) => {
                truth.sort_unstable();
                match (*answer == truth, right) {
                    (true, true) => table.both_right += 1,
                    (true, false) => table.only_production_right += 1,
                    (false, true) => table.only_candidate_right += 1,
                    (false, false) => table.both_wrong += 1,
                }
            }
        }
    }
}

/// The verdict on the counts.
fn judge(table: &mut Comparison, why: Option<String>) {
    let counts = Discordance { first: table.only_production_right, second: table.only_candidate_right };
    table.rows = counts.first + counts.second + table.both_right + table.both_wrong;
    if counts.first + counts.second > 0 {
        table.p = counts.second_worse_p();
    }
    let (candidate, production) = (table.candidate, table.production);
    table.verdict = if table.p < table.alpha {
        GateVerdict::Worse
    } else if table.rows < table.rows_needed {
        GateVerdict::NotEnoughEvidence
    } else {
        GateVerdict::NotWorse
    };
    let p = if table.p < 0.001 { "below 0.001".to_owned() } else { format!("= {:.3}", table.p) };
    let split = format!(
        "of {} rows {} are right with version {production} alone and {} with version {candidate} alone (p {p})",
        table.rows, counts.first, counts.second
    );
    table.message = match table.verdict {
        GateVerdict::NotWorse => {
            format!("version {candidate} is not worse than version {production}: {split}")
        }
        GateVerdict::Worse => format!("version {candidate} is worse than version {production}: {split}"),
        GateVerdict::NotEnoughEvidence => format!(
            "it cannot be told whether version {candidate} is worse than version {production}: {}",
            why.unwrap_or_else(|| few(table))
        ),
    };
}

fn few(table: &Comparison) -> String {
    let skipped = &table.not_compared;
    let reasons = [
        (skipped.learned_by_production, "were learned from by the version in production"),
        (skipped.learned_by_candidate, "were learned from by the new version"),
        (skipped.not_known, "have no answer of the version in production"),
        (skipped.new_labels, "have labels that the version in production does not know"),
        (skipped.repeated, "occur again"),
    ];
    let reasons = reasons.iter().filter(|(rows, _)| *rows > 0);
    let reasons: Vec<String> = reasons.map(|(rows, why)| format!("{rows} {why}")).collect();
    let others =
        if reasons.is_empty() { String::new() } else { format!("; of others {}", reasons.join(", ")) };
    format!("{} rows can be compared, {} are needed{others}", table.rows, table.rows_needed)
}
