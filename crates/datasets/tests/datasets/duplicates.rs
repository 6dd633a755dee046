//! What is there twice is reported and does not stand in the way.

use std::collections::HashMap;
use std::ops::ControlFlow;

use headstart_datasets::{Code, Part, Place, Split, inspect, inspect_together, read};

use crate::files::{data, limits, source, told, warnings, zipped};

#[test]
fn equal_rows_are_told_within_and_across_splits() {
    let file = "text,label,split\n\
        Where is it?,a,train\n\
        something else,b,train\n\
        where IS it,a,train\n\
        WHERE IS IT!,a,test\n\
        where is it,a,val\n\
        quite another,b,test\n";
    let inspection = told("a.csv", file);
    assert!(inspection.is_usable());
    let want =
        [("4", Code::DuplicateRow), ("5", Code::DuplicateAcrossSplits), ("6", Code::DuplicateAcrossSplits)]
            .map(|(line, code)| (line.to_owned(), code));
    assert_eq!(warnings(&inspection), want);
    assert!(inspection.warnings[1].message.contains("train row at line 2"), "{:?}", inspection.warnings[1]);
    let found = inspection.summary.duplicates;
    assert_eq!(
        (found.within_splits, found.across_splits, found.near_across_splits, found.label_conflicts),
        (1, 2, 0, 0)
    );
}

#[test]
fn one_text_under_two_labels_names_both_places() {
    let inspection = told("a.csv", "text,label\nIs it on?,a\nother,b\nis it on,b\nis it ON,b\n");
    assert!(inspection.is_usable());
    let conflict = inspection.warnings.iter().find(|finding| finding.code == Code::LabelConflict).unwrap();
    assert_eq!(conflict.line, Some(4));
    assert_eq!(conflict.message, "the text has the label `b` here and `a` at line 2");
    assert_eq!(inspection.summary.duplicates.label_conflicts, 1);
}

#[test]
fn ids_that_stand_for_two_rows_are_told() {
    let inspection = told("a.csv", "id,text,label\n1,one,a\n2,two,b\n1,three,a\n2,two,b\n");
    let want =
        [("4", Code::ConflictingIds), ("5", Code::DuplicateRow)].map(|(line, code)| (line.to_owned(), code));
    assert_eq!(warnings(&inspection), want);
}

#[test]
fn nearly_equal_texts_across_splits_are_told_and_others_are_not() {
    let long = "the quick brown fox jumps over the lazy dog while the band plays on and the people in the square \
        listen to every note of it until the evening falls";
    let near = long.replace("evening", "morning");
    let far = "a very different sentence about parcels that never arrive and money that never comes back to anyone \
        at all in this town";
    let file = format!(
        "text,label,split\n{long},a,train\n{far},b,train\n{near},a,test\nshort one,b,test\nshort two,b,train\n"
    );
    let inspection = told("a.csv", file);
    assert_eq!(warnings(&inspection), [("4".to_owned(), Code::NearDuplicateAcrossSplits)]);
    assert_eq!(inspection.summary.duplicates.near_across_splits, 1);
}

#[test]
fn pictures_saved_anew_are_near_and_copies_are_equal() {
    let picture = data("0.png");
    let image = image::load_from_memory(&picture).unwrap();
    let save = |image: &image::DynamicImage, format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let smaller =
        save(&image.resize_exact(37, 31, image::imageops::FilterType::Triangle), image::ImageFormat::Jpeg);
    let copied = save(&image, image::ImageFormat::Bmp);
    let flipped = save(&image.fliph(), image::ImageFormat::Png);
    let files = [
        ("train/a/1.png", picture.as_slice()),
        ("train/b/2.jpg", &data("1.jpg")),
        ("test/a/3.jpg", &smaller),
        ("test/a/4.bmp", &copied),
        ("test/b/5.png", &flipped),
    ];
    let inspection = told("a.zip", zipped(&files));
    let want =
        [("test/a/3.jpg", Code::NearDuplicateAcrossSplits), ("test/a/4.bmp", Code::DuplicateAcrossSplits)]
            .map(|(path, code)| (path.to_owned(), code));
    assert_eq!(warnings(&inspection), want);
}

#[test]
fn files_that_are_trained_on_together_are_compared() {
    let train = source("train.csv", "text,label\nwhere is it,a\nwhat else,b\n");
    let val = source(
        "val.jsonl",
        "{\"text\": \"Where is it?\", \"label\": \"b\"}\n{\"text\": \"new\", \"label\": \"c\"}\n",
    );
    let parts = [Part::new(&train), Part { split: Some(Split::Val), ..Part::new(&val) }];
    let inspection = inspect_together(&parts, &limits(), &mut |_| ControlFlow::Continue(())).unwrap();
    let told: Vec<_> = inspection
        .problems
        .iter()
        .chain(&inspection.warnings)
        .map(|finding| {
            (finding.file.as_deref().unwrap_or_default(), finding.line.unwrap_or_default(), finding.code)
        })
        .collect();
    let want = [
        ("val.jsonl", 2, Code::ClassNotInTrain),
        ("val.jsonl", 1, Code::DuplicateAcrossSplits),
        ("val.jsonl", 1, Code::LabelConflict),
    ];
    assert_eq!(told, want);
    assert_eq!((inspection.summary.splits.none, inspection.summary.splits.val), (2, 2));
    let other = inspection.warnings[0].other.as_ref().unwrap();
    assert_eq!((other.file.as_deref(), other.line), (Some("train.csv"), Some(2)));
}

#[test]
fn single_rows_can_be_told_what_they_are_for() {
    let file = source("all.csv", "text,label\nwhere is it,a\nwhat else,b\nWhere is it?,a\nnever mind,b\n");
    let rows = HashMap::from([(Place::Line(4), Split::Test), (Place::Line(5), Split::Test)]);
    let parts = [Part { split: Some(Split::Train), rows: Some(&rows), ..Part::new(&file) }];
    let inspection = inspect_together(&parts, &limits(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((inspection.summary.splits.train, inspection.summary.splits.test), (2, 2));
    let [leak] = inspection.warnings.as_slice() else { panic!("{:?}", inspection.warnings) };
    let other = leak.other.as_ref().unwrap();
    assert_eq!((leak.code, leak.line, other.line), (Code::DuplicateAcrossSplits, Some(4), Some(2)));
    assert_eq!(other.file, None, "there is one file");
}

#[test]
fn a_file_too_small_to_learn_from_can_still_be_read() {
    let few = source("val.csv", "text,label\nwhere is it,a\n");
    let inspection = inspect(&few, &limits(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(!inspection.is_usable() && inspection.is_readable());
    assert_eq!(read(&few, &inspection, &limits()).unwrap().count(), 1);

    let wrong = source("val.csv", "text,label\nwhere is it,a\n,a\n");
    let inspection = inspect(&wrong, &limits(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(!inspection.is_readable());
    assert!(read(&wrong, &inspection, &limits()).is_err());
    assert!(!inspect(&source("a", ""), &limits(), &mut |_| ControlFlow::Continue(())).unwrap().is_readable());
}
