//! Public data sets, where HEADSTART_TEST_DATA names their folder: the counts that their makers state.
#![expect(clippy::disallowed_methods, reason = "tests are told by the environment where shared data lies")]

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use headstart_datasets::{
    Code, HeldOut, Inspection, Limits, Part, Source, Split, Tuning, inspect_together, read,
};
use headstart_types::Modality;

fn folder() -> Option<PathBuf> {
    let folder = std::env::var("HEADSTART_TEST_DATA").ok().filter(|folder| !folder.is_empty());
    if folder.is_none() {
        println!("skipped: HEADSTART_TEST_DATA is not set");
    }
    folder.map(|folder| PathBuf::from(folder).join("datasets"))
}

fn opened(name: &str) -> Option<Source> {
    let path = folder()?.join(name);
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(Source::new(file, name).unwrap())
}

fn inspected(parts: &[(&Source, Option<Split>)]) -> Inspection {
    let parts: Vec<Part<'_>> =
        parts.iter().map(|&(source, split)| Part { split, ..Part::new(source) }).collect();
    let start = Instant::now();
    let inspection =
        inspect_together(&parts, &Limits::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    let names: Vec<&str> = parts.iter().map(|part| part.source.name()).collect();
    println!(
        "{}: {} examples, {} classes, {:?}, warnings {:?}, {} ms",
        names.join(" + "),
        inspection.summary.examples,
        inspection.summary.classes.len(),
        inspection.summary.duplicates,
        inspection.warning_counts,
        start.elapsed().as_millis()
    );
    assert!(inspection.is_usable(), "{:?}", inspection.problems);
    inspection
}

/// Training and test files of one set, inspected together.
fn together(train: &str, test: &str) -> Option<Inspection> {
    let (train, test) = (opened(train)?, opened(test)?);
    Some(inspected(&[(&train, Some(Split::Train)), (&test, Some(Split::Test))]))
}

fn counts(inspection: &Inspection) -> BTreeMap<&str, (u64, u64, u64)> {
    let classes = inspection.summary.classes.iter();
    classes
        .map(|class| (class.label.as_str(), (class.splits.to_learn(), class.splits.val, class.splits.test)))
        .collect()
}

#[test]
fn ants_and_bees_have_their_244_and_153_pictures() {
    let Some(source) = opened("images/hymenoptera.zip") else { return };
    let inspection = inspected(&[(&source, None)]);
    assert_eq!(inspection.modality, Some(Modality::Image));
    assert_eq!(counts(&inspection), BTreeMap::from([("ants", (123, 70, 0)), ("bees", (121, 83, 0))]));
    assert!(inspection.warning_counts.is_empty(), "{:?}", inspection.warnings);
    let plan = inspection.summary.plan();
    assert_eq!((plan.held_out, plan.tuning), (HeldOut::Val, Tuning::Folds));
    assert_eq!(read(&source, &inspection, &Limits::default()).unwrap().map(Result::unwrap).count(), 397);
}

#[test]
fn the_four_domains_of_pacs_are_groups() {
    let Some(source) = opened("images/pacs_sample.zip") else { return };
    let inspection = inspected(&[(&source, None)]);
    assert_eq!((inspection.summary.examples, inspection.summary.groups), (672, 4));
    assert_eq!(inspection.summary.classes.len(), 7);
    assert!(inspection.summary.classes.iter().all(|class| class.examples == 96));
    let codes: Vec<Code> =
        inspection.warning_counts.keys().copied().filter(|code| *code != Code::DuplicateRow).collect();
    assert_eq!(codes, [Code::IgnoredFile, Code::FoldersAsGroups]);
    assert!(inspection.summary.plan().by_group);
}

#[test]
fn official_text_sets_are_usable_and_their_leaks_are_counted() {
    let sets = [
        ("trec6", 5452, 500, 6, 11, 1),
        ("banking77", 10003, 3080, 77, 25, 2),
        ("sst2", 6920, 1821, 2, 2, 0),
    ];
    for (name, train, test, classes, across, conflicts) in sets {
        let Some(inspection) = together(&format!("text/{name}_train.csv"), &format!("text/{name}_test.csv"))
        else {
            return;
        };
        let summary = &inspection.summary;
        assert_eq!((summary.splits.train, summary.splits.test), (train, test), "{name}");
        assert_eq!(summary.classes.len(), classes, "{name}");
        assert_eq!(summary.duplicates.across_splits, across, "{name}");
        assert_eq!(summary.duplicates.label_conflicts, conflicts, "{name}");
    }
}

#[test]
fn classes_of_trec_have_their_counts() {
    let Some(inspection) = together("text/trec6_train.csv", "text/trec6_test.csv") else { return };
    let want = BTreeMap::from([
        ("ABBR", (86, 0, 9)),
        ("DESC", (1162, 0, 138)),
        ("ENTY", (1250, 0, 94)),
        ("HUM", (1223, 0, 65)),
        ("LOC", (835, 0, 81)),
        ("NUM", (896, 0, 113)),
    ]);
    assert_eq!(counts(&inspection), want);
}

#[test]
fn packed_reviews_have_their_splits() {
    let Some(source) = opened("text/amazon_reviews_4_domains.csv.gz") else { return };
    let inspection = inspected(&[(&source, None)]);
    assert_eq!(
        counts(&inspection),
        BTreeMap::from([("negative", (1600, 0, 400)), ("positive", (1600, 0, 400))])
    );
    assert_eq!(inspection.warning_counts.get(&Code::IgnoredColumn), Some(&1));
    assert_eq!(inspection.summary.duplicates.across_splits, 0);
}
