//! Versions that are made up row by row.

use super::*;

const VERSIONS: Versions = Versions { candidate: 2, production: 1 };
const NAMES: [&str; 2] = ["delivery", "refund"];

fn content(row: usize) -> Content {
    let mut content = [0; 32];
    content[..8].copy_from_slice(&row.to_le_bytes());
    content
}

/// A version that is right on a row where `right` says so. All rows are refunds.
fn version(rows: std::ops::Range<usize>, right: impl Fn(usize) -> bool) -> Evidence {
    let row = |row| Answered { content: content(row), labels: vec![1], said: vec![u32::from(right(row))] };
    Evidence {
        labels: NAMES.map(str::to_owned).to_vec(),
        multi_label: false,
        held_out: rows.map(row).collect(),
        learned: [content(10_000)].into(),
        rival: None,
    }
}

fn counts(table: &Comparison) -> [u64; 4] {
    [table.both_right, table.only_production_right, table.only_candidate_right, table.both_wrong]
}

#[test]
fn evidence_comes_back_from_its_bytes_as_it_was_and_bytes_that_are_cut_are_refused() {
    let mut evidence = version(0..3, |row| row != 1);
    evidence.rival = Some(Rival { version: 7, said: vec![Some(vec![0]), None, Some(vec![0, 1])] });
    let bytes = evidence.to_bytes().unwrap();
    assert_eq!(Evidence::from_bytes(&bytes).unwrap(), evidence);
    assert_eq!(evidence.to_bytes().unwrap(), bytes);
    for length in 0..bytes.len() {
        assert!(Evidence::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    evidence.rival = Some(Rival { version: 7, said: vec![Some(vec![0])] });
    assert!(Evidence::from_bytes(&evidence.to_bytes().unwrap()).is_err());
}

#[test]
fn evidence_without_rows_keeps_the_answers_about_the_others() {
    let mut evidence = version(0..4, |row| row != 1);
    evidence.rival =
        Some(Rival { version: 7, said: vec![Some(vec![0]), None, Some(vec![1]), Some(vec![0, 1])] });
    let without = evidence.without(&[content(1), content(2), content(10_000)].into()).unwrap();
    let mut left = version(0..1, |_| true);
    left.held_out.push(version(3..4, |_| true).held_out.remove(0));
    left.learned.clear();
    left.rival = Some(Rival { version: 7, said: vec![Some(vec![0]), Some(vec![0, 1])] });
    assert_eq!(without, left);
    assert_eq!(without.without(&[content(1)].into()), None);
}

#[test]
fn a_version_is_worse_only_beyond_chance() {
    let production = version(0..100, |row| row >= 10);
    let verdict = |right: &dyn Fn(usize) -> bool| {
        let table = compare(VERSIONS, Some(&version(0..100, right)), Some(&production), 0.05);
        (table.verdict, counts(&table), (table.p * 1e4).round() / 1e4)
    };
    // Of rows 0 to 9 it wins some, of the others it loses some.
    assert_eq!(verdict(&|row| row >= 10), (GateVerdict::NotWorse, [90, 0, 0, 10], 1.0));
    assert_eq!(verdict(&|row| row >= 13), (GateVerdict::NotWorse, [87, 3, 0, 10], 0.0625));
    assert_eq!(verdict(&|row| row >= 14), (GateVerdict::Worse, [86, 4, 0, 10], 0.0313));
    assert_eq!(verdict(&|row| !(5..15).contains(&row)), (GateVerdict::NotWorse, [85, 5, 5, 5], 0.5));
    assert_eq!(verdict(&|_| true), (GateVerdict::NotWorse, [90, 0, 10, 0], 0.9995));
}

#[test]
fn too_few_rows_prove_nothing_and_a_loss_that_is_plain_needs_no_more() {
    let judged = |rows: usize, lost: usize, alpha: f64| {
        let right = version(0..rows, |_| true);
        let table = compare(VERSIONS, Some(&version(0..rows, |row| row >= lost)), Some(&right), alpha);
        (table.verdict, table.rows_needed)
    };
    assert_eq!(judged(39, 0, 0.05), (GateVerdict::NotEnoughEvidence, 40));
    assert_eq!(judged(40, 0, 0.05), (GateVerdict::NotWorse, 40));
    assert_eq!(judged(40, 4, 0.05).0, GateVerdict::Worse, "one row in ten");
    assert_eq!(judged(6, 6, 0.05).0, GateVerdict::Worse);
    assert_eq!(judged(60, 5, 0.01), (GateVerdict::NotWorse, 60));
    assert_eq!(judged(60, 6, 0.01).0, GateVerdict::Worse);
    assert_eq!(judged(10, 1, 0.5), (GateVerdict::Worse, 10));
}

#[test]
fn a_row_counts_only_where_neither_version_learned_from_it() {
    let mut production = version(50..200, |_| true);
    production.learned.extend((0..30).map(content));
    let mut candidate = version(0..120, |_| true);
    candidate.learned.insert(content(60));
    candidate.held_out.push(candidate.held_out[119].clone());
    let table = compare(VERSIONS, Some(&candidate), Some(&production), 0.05);
    let expected = NotCompared {
        learned_by_production: 30,
        learned_by_candidate: 1,
        not_known: 20,
        new_labels: 0,
        repeated: 1,
    };
    assert_eq!((table.not_compared, table.rows, table.basis), (expected, 69, GateBasis::BothHeldOut));
    // Asked as the job ended, production has an answer to every row, of which those it learned from still do not count.
    candidate.rival = Some(Rival { version: 1, said: vec![Some(vec![1]); 121] });
    let table = compare(VERSIONS, Some(&candidate), Some(&production), 0.05);
    assert_eq!((table.not_compared.not_known, table.rows, table.basis), (0, 89, GateBasis::Asked));
    let other = Versions { production: 3, ..VERSIONS };
    assert_eq!(compare(other, Some(&candidate), Some(&production), 0.05).basis, GateBasis::BothHeldOut);
}

#[test]
fn labels_are_compared_by_name_and_new_ones_are_counted_apart() {
    // Production knows `refund` as 0 and a label that is gone; the candidate knows it as 1 and a new one.
    let mut production = version(0..60, |_| false);
    production.labels = ["refund", "greeting"].map(str::to_owned).to_vec();
    let mut candidate = version(0..60, |_| true);
    for row in &mut candidate.held_out[50..] {
        (row.labels, row.said) = (vec![0], vec![0]);
    }
    let table = compare(VERSIONS, Some(&candidate), Some(&production), 0.05);
    assert_eq!(
        (counts(&table), table.not_compared.new_labels, table.new_labels_right),
        ([50, 0, 0, 0], 10, 10)
    );
    assert_eq!(
        (table.labels_added, table.labels_removed),
        (vec!["delivery".into()], vec!["greeting".into()])
    );
}

#[test]
fn several_labels_are_right_when_all_are() {
    let several = |said: &[u32]| {
        let mut evidence = version(0..40, |_| true);
        evidence.multi_label = true;
        for row in &mut evidence.held_out {
            (row.labels, row.said) = (vec![0, 1], said.to_vec());
        }
        evidence
    };
    let table = compare(VERSIONS, Some(&several(&[1])), Some(&several(&[0, 1])), 0.05);
    assert_eq!((counts(&table), table.verdict), ([0, 40, 0, 0], GateVerdict::Worse));
    let table = compare(VERSIONS, Some(&several(&[0, 1])), Some(&version(0..40, |_| true)), 0.05);
    assert_eq!((table.verdict, table.rows), (GateVerdict::NotEnoughEvidence, 0));
    assert!(table.message.contains("several"), "{}", table.message);
}

#[test]
fn a_version_without_evidence_is_not_outdone() {
    for (candidate, production, named) in [
        (Some(version(0..99, |_| true)), None, "version 1"),
        (None, Some(version(0..99, |_| true)), "version 2"),
    ] {
        let table = compare(VERSIONS, candidate.as_ref(), production.as_ref(), 0.05);
        assert_eq!(table.verdict, GateVerdict::NotEnoughEvidence);
        assert!(table.message.contains(&format!("what {named} learned from")), "{}", table.message);
    }
}
