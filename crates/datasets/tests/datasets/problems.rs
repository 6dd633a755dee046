//! Every problem is found, not the first, and each says where.

use std::ops::ControlFlow;

use headstart_datasets::{Code, DatasetError, Limits, inspect, read};

use crate::files::{data, inspected, limits, problems, source, told, warnings};

fn at(lines: &[(u64, Code)]) -> Vec<(String, Code)> {
    lines.iter().map(|(line, code)| (line.to_string(), *code)).collect()
}

#[test]
fn every_wrong_line_of_json_is_told() {
    let long = "x".repeat(3000);
    let file = format!(
        r#"{{"text": "fine", "label": "a"}}
not json
{{"text": "no label"}}
{{"text": "  ", "label": "a"}}

{{"text": "one", "label": " "}}
{{"text": "one", "label": {{"a": 1}}}}
{{"text": "one", "label": 1.5}}
{{"label": "a"}}
{{"text": 5.5, "label": "a"}}
{{"text": "one", "image": "AAAA", "label": "a"}}
{{"text": "one", "label": "a", "split": "trian"}}
{{"image": "!!!!", "label": "a"}}
{{"image": "aGVsbG8gd29ybGQ=", "label": "a"}}
{{"messages": [{{"role": "user", "content": "hi"}}]}}
{{"prompt": "hi", "completion": "ho"}}
{{"text": "two", "labels": ["a", "a"]}}
{{"text": "{long}", "label": "a"}}
["a"]
{{"text": "fine too", "label": "b"}}
{{"text": "", "split": "x"}}
"#
    );
    let limits = Limits { max_text_bytes: 2000, ..limits() };
    let inspection = inspected(&source("a.jsonl", file), &limits);
    let want = [
        (2, Code::NotJson),
        (3, Code::NoLabel),
        (4, Code::EmptyText),
        (6, Code::EmptyLabel),
        (7, Code::BadLabel),
        (8, Code::BadLabel),
        (9, Code::NoContent),
        (10, Code::BadContent),
        (11, Code::BadContent),
        (12, Code::UnknownSplit),
        (15, Code::ChatFormat),
        (16, Code::ChatFormat),
        (17, Code::BadLabel),
        (18, Code::TextTooLong),
        (19, Code::NotJson),
        (21, Code::EmptyText),
        (21, Code::NoLabel),
        (21, Code::UnknownSplit),
        (13, Code::UndecodableMedia),
        (14, Code::UnsupportedMedia),
    ];
    assert_eq!(problems(&inspection), at(&want));
    assert_eq!(inspection.summary.examples, 2);
    assert!(
        inspection.status_details().unwrap().contains("line 2: not JSON"),
        "{:?}",
        inspection.status_details()
    );
    assert!(matches!(read(&source("a.jsonl", "x"), &inspection, &limits), Err(DatasetError::Unusable(20))));
}

#[test]
fn a_json_document_is_told_once() {
    let inspection = told("a.json", "[\n{\"text\": \"a\", \"label\": \"b\"},\n{}\n]");
    assert_eq!(problems(&inspection), at(&[(1, Code::NotJson)]));
}

#[test]
fn missing_columns_are_told_with_those_that_are_there() {
    let inspection = told("a.csv", "premise,hypothesis,gold\na,b,c\n");
    assert_eq!(
        problems(&inspection),
        [(String::new(), Code::MissingColumn), (String::new(), Code::MissingColumn)]
    );
    for finding in &inspection.problems {
        assert!(finding.message.contains("`premise`, `hypothesis`, `gold`"), "{}", finding.message);
    }
    let twice = told("a.csv", "text,label,Text\na,b,c\n");
    assert_eq!(problems(&twice), [(String::new(), Code::DuplicateColumn)]);
}

#[test]
fn columns_that_are_not_read_are_a_warning() {
    let inspection = told("a.csv", "text,label,domain\na,x,1\nb,y,2\n");
    assert_eq!(
        (problems(&inspection), warnings(&inspection)),
        (vec![], vec![(String::new(), Code::IgnoredColumn)])
    );
}

#[test]
fn rows_of_another_length_are_told_with_their_lines() {
    let inspection = told(
        "a.csv",
        "text,label\r\none,a\r\n\r\ntwo, and a comma,b\r\nthree\r\n\"fo\r\nur\",b\r\nfive,b,\r\n",
    );
    let want = [(4, Code::RowLength), (5, Code::RowLength), (8, Code::RowLength)];
    assert_eq!(problems(&inspection), at(&want));
    assert_eq!(inspection.summary.examples, 2);
}

#[test]
fn a_quote_that_is_never_closed_is_told_where_its_row_begins() {
    for end in ["", "\n"] {
        let inspection = told("a.csv", format!("text,label\nfine,a\ngood,b\n\"open,b\nlost,a\nlost,b{end}"));
        assert_eq!(problems(&inspection), at(&[(4, Code::UnclosedQuote)]));
        let message = &inspection.problems[0].message;
        assert!(message.contains("a quote is not closed") && message.contains("3 lines"), "{message}");
    }
    let last = told("a.csv", "text,label\none,a\ntwo,b\nthree,\"b");
    assert_eq!(problems(&last), at(&[(4, Code::UnclosedQuote)]));
    let closed = told("a.csv", "text,label\none,a\n\"t\nwo\",\"b\"");
    assert!(problems(&closed).is_empty());
}

#[test]
fn a_line_without_an_end_is_not_held_in_memory() {
    let limits = Limits { max_line_bytes: 1000, ..limits() };
    let mut json = vec![b'x'; 5_000_000];
    json.extend(b"\n{\"text\": \"a\", \"label\": \"b\"}\n");
    let inspection = inspected(&source("a.jsonl", json), &limits);
    assert_eq!(problems(&inspection)[0], ("1".into(), Code::LineTooLong));
    assert_eq!(inspection.summary.examples, 1);
    let mut table = b"text,label\nfine,a\n\"open".to_vec();
    table.resize(5_000_000, b'x');
    let inspection = inspected(&source("a.csv", table), &limits);
    assert_eq!(problems(&inspection)[0], ("3".into(), Code::LineTooLong));
}

#[test]
fn classes_that_cannot_be_learned_are_told_each() {
    let file = "text,label,split\n1,a,train\n2,a,train\n3,b,train\n4,c,test\n5,a,test\n6,d,val\n";
    let inspection = inspected(&source("a.csv", file), &Limits { min_class_examples: 2, ..limits() });
    let want = [(4, Code::FewExamples), (5, Code::ClassNotInTrain), (7, Code::ClassNotInTrain)];
    assert_eq!(problems(&inspection), at(&want));
    let alone = told("a.csv", "text,label\n1,a\n2,a\n");
    assert_eq!(problems(&alone), [(String::new(), Code::OneClass)]);
    let held = told("a.csv", "text,label,split\n1,a,test\n2,b,test\n");
    assert_eq!(problems(&held), [(String::new(), Code::NoTrainingRows)]);
    let header = told("a.csv", "text,label\n");
    assert_eq!(problems(&header), [(String::new(), Code::EmptyFile)]);
}

#[test]
fn rows_unlike_the_others_are_told_each() {
    let picture = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data("0.png"));
    let file = format!(
        "{{\"text\":\"1\",\"label\":\"a\",\"split\":\"train\"}}\n{{\"text\":\"2\",\"label\":\"b\",\"split\":\"train\"}}\n\
         {{\"image\":\"{picture}\",\"label\":\"b\",\"split\":\"train\"}}\n{{\"text\":\"3\",\"labels\":[\"a\"],\"split\":\"train\"}}\n\
         {{\"text\":\"4\",\"label\":\"a\"}}\n"
    );
    let inspection = told("a.jsonl", file);
    let want = [(3, Code::MixedModalities), (4, Code::MixedLabels), (5, Code::PartialSplit)];
    assert_eq!(problems(&inspection), at(&want));
}

#[test]
fn limits_on_rows_and_classes_hold() {
    let file: String =
        "text,label\n".to_owned() + &(0..100).map(|n| format!("{n},{n}\n")).collect::<String>();
    let source = source("a.csv", file);
    let rows = inspected(&source, &Limits { max_examples: 50, ..limits() });
    assert_eq!(problems(&rows), [(String::new(), Code::TooManyExamples)]);
    let classes = inspected(&source, &Limits { max_classes: 50, ..limits() });
    assert_eq!(problems(&classes), [(String::new(), Code::TooManyClasses)]);
    assert_eq!(classes.summary.classes.len(), 50);
    let listed = inspected(&source, &Limits { min_class_examples: 2, max_listed: 7, ..limits() });
    assert_eq!((listed.problems.len(), listed.problem_counts[&Code::FewExamples]), (7, 100));
}

#[test]
fn an_inspection_can_be_stopped_and_says_how_far_it_is() {
    let file: String =
        "text,label\n".to_owned() + &(0..2000).map(|n| format!("text {n},{}\n", n % 2)).collect::<String>();
    let source = source("a.csv", file);
    let mut heard = Vec::new();
    inspect(&source, &limits(), &mut |progress| {
        heard.push(progress);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(
        heard.len() > 4 && heard.is_sorted_by_key(|progress| (progress.rows, progress.position)),
        "{heard:?}"
    );
    assert_eq!(heard.last().unwrap().rows, 2000);
    assert_eq!(heard.last().unwrap().position, source.bytes());
    let stopped = inspect(&source, &limits(), &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(DatasetError::Cancelled)));
}

#[test]
fn a_failing_disk_is_not_the_files_fault() {
    /// Fails from the given read on.
    struct Failing(std::io::Cursor<Vec<u8>>, usize);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 = self.1.checked_sub(1).ok_or(std::io::ErrorKind::InvalidData)?;
            self.0.read(buffer)
        }
    }
    impl std::io::Seek for Failing {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }
    for name in ["texts.csv", "texts.jsonl.gz", "pictures.zip", "gnu.tar.gz", "texts.zstd.parquet"] {
        let want = told(name, data(name));
        let mut failed = 0;
        for reads in 0..40 {
            let handle = Failing(std::io::Cursor::new(data(name)), reads);
            let source = headstart_datasets::Source::new(handle, name).unwrap();
            match inspect(&source, &limits(), &mut |_| ControlFlow::Continue(())) {
                Ok(inspection) => assert_eq!(inspection, want, "{name} after {reads} reads"),
                Err(DatasetError::Io(_)) => failed += 1,
                Err(other) => panic!("{name} after {reads} reads: {other}"),
            }
        }
        assert!(failed > 1, "{name}");
    }
}

#[test]
fn a_class_whose_rows_to_learn_from_are_all_of_one_group_is_warned_of() {
    let line = |number: usize, label: &str, group: &str, split: &str| {
        format!("{{\"text\": \"row {number}\", \"label\": \"{label}\"{group}{split}}}\n")
    };
    let of = |rows: &[(&str, &str, &str)]| {
        let lines: String = rows.iter().enumerate().map(|(n, row)| line(n, row.0, row.1, row.2)).collect();
        warnings(&told("a.jsonl", lines.into_bytes()))
    };
    let (one, two, none) = (", \"group\": \"1\"", ", \"group\": \"2\"", "");
    let whole = [("a", one, ""), ("b", two, ""), ("a", one, ""), ("b", two, "")];
    assert_eq!(of(&whole), at(&[(1, Code::ClassInOneGroup), (2, Code::ClassInOneGroup)]));
    let mixed = [("a", one, ""), ("b", two, ""), ("a", two, ""), ("b", none, "")];
    assert_eq!(of(&mixed), []);
    let (train, test) = (", \"split\": \"train\"", ", \"split\": \"test\"");
    let apart =
        [("a", one, train), ("a", one, train), ("b", two, train), ("b", none, train), ("a", "", test)];
    assert_eq!(of(&apart), at(&[(1, Code::ClassInOneGroup)]));
    assert_eq!(of(&whole.map(|(label, _, split)| (label, one, split))), [], "one group for all says nothing");
}
