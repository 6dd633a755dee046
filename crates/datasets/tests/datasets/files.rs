//! Uploads for tests: committed files, and files made in memory.

use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use std::path::Path;

use headstart_datasets::{Code, Content, Example, Inspection, Limits, Source, inspect, read};
use zip::write::SimpleFileOptions;

pub(crate) fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn source(name: &str, bytes: impl Into<Vec<u8>>) -> Source {
    Source::new(Cursor::new(bytes.into()), name).unwrap()
}

/// Limits under which a few rows are a data set.
pub(crate) fn limits() -> Limits {
    Limits { min_class_examples: 1, threads: 2, ..Limits::default() }
}

pub(crate) fn inspected(source: &Source, limits: &Limits) -> Inspection {
    inspect(source, limits, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// What is said of a file in memory.
pub(crate) fn told(name: &str, bytes: impl Into<Vec<u8>>) -> Inspection {
    inspected(&source(name, bytes), &limits())
}

/// The examples of a file that has no problems.
pub(crate) fn examples(name: &str, bytes: impl Into<Vec<u8>>) -> Vec<Example> {
    let source = source(name, bytes);
    let inspection = inspected(&source, &limits());
    assert!(inspection.is_usable(), "{name}: {:?}", inspection.problems);
    let examples: Vec<Example> =
        read(&source, &inspection, &limits()).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(examples.len() as u64, inspection.summary.examples, "{name}");
    examples
}

/// Every problem's place and code, in the order listed.
pub(crate) fn problems(inspection: &Inspection) -> Vec<(String, Code)> {
    inspection.problems.iter().map(|finding| (place(finding), finding.code)).collect()
}

/// Every warning's place and code, in the order listed.
pub(crate) fn warnings(inspection: &Inspection) -> Vec<(String, Code)> {
    inspection.warnings.iter().map(|finding| (place(finding), finding.code)).collect()
}

fn place(finding: &headstart_datasets::Finding) -> String {
    let line = finding.line.map(|line| line.to_string());
    line.or(finding.path.clone()).unwrap_or_default()
}

pub(crate) fn text(example: &Example) -> &str {
    match &example.content {
        Content::Text(text) => text,
        Content::Image(_) | Content::Audio(_) => panic!("not a text"),
    }
}

/// A zip of files as given.
pub(crate) fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A tar of files as given, whatever their paths.
pub(crate) fn tarred(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        bytes.extend(tar_entry(name, tar::EntryType::Regular, content));
    }
    bytes.extend([0; 1024]);
    bytes
}

pub(crate) fn tar_entry(name: &str, kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(crate) fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
