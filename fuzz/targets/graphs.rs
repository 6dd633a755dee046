//! ONNX files: outline, whole, extended, and one output alone.
#![no_main]

use std::io::Cursor;

use headstart_onnx::proto::{Model, ValueInfo, element};
use headstart_onnx::{Extension, Header, Outline};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(init: headstart_fuzz::watch_panics(), |file: &[u8]| {
    let whole = Model::decode(file);
    let Ok(outline) = Outline::read(Cursor::new(file)) else { return };
    let _ = outline.external_files();
    if let Some(first) = outline.outputs().first() {
        alone(file, first.clone());
    }
    let names: Vec<String> = outline.outputs().iter().filter_map(|output| output.name.clone()).collect();
    let Some(wanted) = names.first() else { return };
    let Ok(trunk) = outline.up_to(&[wanted]) else { return };
    let Ok(mut extension) = Extension::new(trunk, "added_", 1) else { return };
    let doubled = extension.add("Add", &[wanted, wanted], Vec::new());
    extension.add_output("Identity", &[&doubled], Vec::new(), ("sum", element::FLOAT, Vec::new()));
    let Ok(assembly) = extension.finish(Header::default()) else { return };
    let mut written = Vec::new();
    assembly.write(&mut Cursor::new(file), &mut written).expect("parts of the file are in the file");
    assert_eq!(written.len() as u64, assembly.bytes());
    let again = Outline::read(Cursor::new(&written)).expect("what was written is read");
    assert!(again.outputs().iter().any(|output| output.name.as_deref().is_some_and(|name| name.starts_with("sum"))));
    if whole.is_ok() {
        Model::decode(written.as_slice()).expect("what was written is as good as what was read");
    }
});

/// A file of one output is read again, and has that output and no inputs that the old one had not.
fn alone(file: &[u8], output: ValueInfo) {
    let outline = Outline::read(Cursor::new(file)).expect("what was read is read");
    let inputs: Vec<ValueInfo> = outline.inputs().cloned().collect();
    let Ok(trunk) = outline.only(&[output.name.as_deref().unwrap_or_default()]) else { return };
    let Ok(mut graph) = Extension::new(trunk, "added_", 1) else { return };
    graph.keep_output(output.clone()).expect("what was found is kept");
    let assembly = graph.finish(Header::default()).expect("nothing was added that could lack something");
    let mut written = Vec::new();
    assembly.write(&mut Cursor::new(file), &mut written).expect("parts of the file are in the file");
    let again = Outline::read(Cursor::new(&written)).expect("what was written is read");
    assert_eq!(again.outputs(), [output]);
    assert!(again.inputs().all(|input| inputs.contains(input)));
}
