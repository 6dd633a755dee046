//! The same data set in every format is the same data set.

use headstart_datasets::{Code, Content, Format, Split};
use headstart_types::Modality;

use crate::files::{data, examples, gzipped, inspected, limits, problems, source, text, told, warnings};

const TEXT_FILES: [(&str, Format); 10] = [
    ("texts.csv", Format::Csv),
    ("windows.csv", Format::Csv),
    ("texts.tsv", Format::Tsv),
    ("texts.jsonl", Format::JsonLines),
    ("texts.csv.gz", Format::Csv),
    ("texts.jsonl.gz", Format::JsonLines),
    ("texts.none.parquet", Format::Parquet),
    ("texts.snappy.parquet", Format::Parquet),
    ("texts.gzip.parquet", Format::Parquet),
    ("texts.zstd.parquet", Format::Parquet),
];

#[test]
fn texts_read_the_same_from_every_format() {
    let want = examples("texts.jsonl", data("texts.jsonl"));
    assert_eq!(want.len(), 10);
    assert_eq!(text(&want[1]), "My card, \"the new one\", has not come");
    assert_eq!(text(&want[5]), "返金してください");
    assert_eq!((want[4].group.as_deref(), want[7].split), (Some("carl"), Some(Split::Val)));
    for (name, format) in TEXT_FILES {
        let inspection = told(name, data(name));
        assert_eq!(inspection.format, Some(format), "{name}");
        assert_eq!((inspection.modality, inspection.multi_label), (Some(Modality::Text), false), "{name}");
        assert_eq!(inspection.summary.groups, 5, "{name}");
        let found = examples(name, data(name));
        assert_eq!(found.len(), want.len(), "{name}");
        for (found, want) in found.iter().zip(&want) {
            assert_eq!(found.row, want.row, "{name}");
            assert_eq!(text(found).replace("\r\n", "\n"), text(want), "{name}");
            assert_eq!(
                (&found.labels, &found.group, found.split),
                (&want.labels, &want.group, want.split),
                "{name}"
            );
        }
    }
}

#[test]
fn the_format_is_told_by_content_whatever_the_name() {
    for (name, format) in TEXT_FILES {
        assert_eq!(told("upload", data(name)).format, Some(format), "{name}");
        assert_eq!(told("upload.zip", data(name)).format, Some(format), "{name}");
    }
}

#[test]
fn classes_are_counted_by_split() {
    let summary = told("texts.csv", data("texts.csv")).summary;
    assert_eq!(
        (summary.splits.train, summary.splits.val, summary.splits.test, summary.splits.none),
        (6, 2, 2, 0)
    );
    let classes: Vec<_> = summary
        .classes
        .iter()
        .map(|class| (class.label.as_str(), class.examples, class.splits.train))
        .collect();
    assert_eq!(classes, [("delivery", 5, 3), ("refund", 5, 3)]);
    assert_eq!(summary.bytes, data("texts.csv").len() as u64);
}

#[test]
fn lines_are_counted_as_an_editor_counts_them() {
    for name in ["texts.csv", "windows.csv", "texts.tsv"] {
        let lines: Vec<String> =
            examples(name, data(name)).iter().map(|example| example.place.to_string()).collect();
        // The third text has a line break.
        let want = [2, 3, 4, 6, 7, 8, 9, 10, 11, 12].map(|line| format!("line {line}"));
        assert_eq!(lines, want, "{name}");
    }
}

#[test]
fn lists_of_labels_read_the_same_from_every_format() {
    let want: [&[&str]; 10] = [
        &["delivery"],
        &["delivery", "card"],
        &["delivery", "complaint"],
        &["refund"],
        &["refund"],
        &["refund"],
        &["delivery"],
        &["refund"],
        &[],
        &["refund", "complaint"],
    ];
    for name in ["lists.jsonl", "lists.csv", "lists.parquet"] {
        assert!(told(name, data(name)).multi_label, "{name}");
        let found: Vec<_> = examples(name, data(name)).into_iter().map(|example| example.labels).collect();
        assert_eq!(found, want, "{name}");
    }
}

#[test]
fn class_numbers_of_hugging_face_files_get_their_names() {
    let labels: Vec<String> = examples("names.parquet", data("names.parquet"))
        .into_iter()
        .flat_map(|example| example.labels)
        .collect();
    let count = |name: &str| labels.iter().filter(|label| *label == name).count();
    assert_eq!((labels.len(), count("delivery"), count("refund")), (10, 5, 5));
}

#[test]
fn pictures_read_the_same_from_every_format() {
    let content = |name: &str| {
        let mut rows: Vec<_> = examples(name, data(name))
            .into_iter()
            .map(|example| match example.content {
                Content::Image(bytes) => (example.split, example.labels, bytes),
                Content::Text(_) | Content::Audio(_) => panic!("{name} has no picture"),
            })
            .collect();
        rows.sort();
        rows
    };
    let want = content("pictures.zip");
    assert_eq!(want.len(), 12);
    for name in
        ["wrapped.zip", "pictures.tar", "gnu.tar.gz", "pictures.jsonl", "pictures.csv", "pictures.parquet"]
    {
        assert!(content(name) == want, "{name}");
    }
    let inspection = told("pictures.zip", data("pictures.zip"));
    assert_eq!((inspection.modality, inspection.format), (Some(Modality::Image), Some(Format::Zip)));
    assert_eq!((inspection.summary.splits.train, inspection.summary.splits.test), (6, 2));
    assert_eq!(warnings(&inspection), []);
}

#[test]
fn long_paths_of_tar_are_read_whole_and_their_extra_folder_is_a_group() {
    let inspection = told("pax.tar.gz", data("pax.tar.gz"));
    assert_eq!(
        warnings(&inspection),
        [(String::new(), Code::FoldersAsGroups), (group_place(), Code::GroupAcrossSplits)]
    );
    assert_eq!((inspection.summary.examples, inspection.summary.groups), (12, 1));
}

fn group_place() -> String {
    format!("./a folder around everything/train/{}/waves/0.png", "long".repeat(40))
}

#[test]
fn other_encodings_are_named() {
    let wide = told("utf16.csv", data("utf16.csv"));
    assert_eq!(problems(&wide), [(String::new(), Code::WrongEncoding)]);
    assert!(wide.problems[0].message.contains("UTF-16"), "{}", wide.problems[0].message);
    let latin = told("latin1.csv", data("latin1.csv"));
    assert_eq!(problems(&latin), [("7".into(), Code::WrongEncoding)]);
    let bytes = data("latin1.csv");
    let offset = bytes.iter().position(|&byte| byte >= 0x80).unwrap();
    let message = &latin.problems[0].message;
    assert!(message.contains(&format!("offset {offset} ")) && message.contains("Latin-1"), "{message}");
    let packed = told("latin1.csv.gz", gzipped(&bytes));
    assert_eq!(packed.problems, latin.problems);
}

#[test]
fn what_is_not_read_is_named() {
    let cases: [(&[u8], Code, &str); 7] = [
        (b"7z\xBC\xAF\x27\x1C rest", Code::UnsupportedCompression, "7-Zip"),
        (b"\x28\xB5\x2F\xFD rest of it", Code::UnsupportedCompression, "Zstandard"),
        (b"SQLite format 3\0 rest", Code::UnknownFormat, "SQLite"),
        (b"%PDF-1.7 rest", Code::UnknownFormat, "PDF"),
        (b"\x01\x02\x03\x04\x05\x06", Code::UnknownFormat, "JSON Lines"),
        (b"", Code::EmptyFile, "no bytes"),
        (b" \n\n", Code::EmptyFile, "white space"),
    ];
    for (bytes, code, word) in cases {
        let inspection = told("upload.csv", bytes);
        assert_eq!(problems(&inspection), [(String::new(), code)], "{word}");
        assert!(inspection.problems[0].message.contains(word), "{}", inspection.problems[0].message);
    }
    let picture = told("0.png", data("0.png"));
    assert!(picture.problems[0].message.contains("archive of class folders"));
    let brotli = told("texts.brotli.parquet", data("texts.brotli.parquet"));
    assert_eq!(problems(&brotli), [(String::new(), Code::UnsupportedCompression)]);
    assert_eq!(
        problems(&told("twice.csv.gz", gzipped(&data("texts.csv.gz")))),
        [(String::new(), Code::UnsupportedCompression)]
    );
}

#[test]
fn an_inspection_survives_json() {
    let source = source("latin1.csv", data("latin1.csv"));
    let inspection = inspected(&source, &limits());
    let json = serde_json::to_string(&inspection).unwrap();
    assert!(json.contains("\"problem_counts\":{\"wrong_encoding\":1}"), "{json}");
    assert_eq!(serde_json::from_str::<headstart_datasets::Inspection>(&json).unwrap(), inspection);
}
