//! Folders with weights as safetensors: a byte of choices, then `config.json`, the index, and a file of weights, a zero byte
//! between them. Without an index the weights are the one file of a model.
#![no_main]

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::Path;

use headstart_convert::{Converted, EXTERNAL, GRAPH, Options, Precision, WEIGHTS, convert};
use headstart_onnx::Outline;
use headstart_onnx::proto::Model;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

/// The file that the seeds' index names.
const PART: &str = "part.safetensors";

thread_local! {
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

fuzz_target!(init: headstart_fuzz::watch_panics(), |data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let mut parts = rest.splitn(3, |byte| *byte == 0);
    let [Some(config), Some(index), Some(weights)] = std::array::from_fn(|_| parts.next()) else { return };
    FOLDER.with_borrow_mut(|folder| {
        let root = folder.get_or_insert_with(headstart_fuzz::folder).path();
        let (from, into) = (root.join("from"), root.join("into"));
        for folder in [&from, &into] {
            let _ = fs::remove_dir_all(folder);
            fs::create_dir(folder).expect("a folder is made");
        }
        write(&from, "config.json", config);
        if index.is_empty() {
            write(&from, WEIGHTS[0], weights);
        } else {
            write(&from, WEIGHTS[1], index);
            write(&from, PART, weights);
        }
        let precision = if first & 1 == 0 { Precision::Single } else { Precision::Half };
        let most_bytes = if first & 2 == 0 { Options::default().most_bytes } else { 0 };
        if let Ok(converted) = convert(&from, &into, Options { precision, most_bytes }) {
            look_at(&into, &converted);
        }
    });
});

fn write(folder: &Path, file: &str, bytes: &[u8]) {
    fs::write(folder.join(file), bytes).expect("a file is written");
}

/// What was converted is a graph with the output that is told, and its weights are where it says.
fn look_at(folder: &Path, converted: &Converted) {
    let graph = File::open(folder.join(GRAPH)).expect("there is a graph");
    let outline = Outline::read(graph).expect("what was written is read");
    let outputs: Vec<&str> = outline.outputs().iter().filter_map(|output| output.name.as_deref()).collect();
    assert_eq!(outputs, [converted.output]);
    assert_eq!(outline.external_files().contains(EXTERNAL), converted.external);
    assert_eq!(folder.join(EXTERNAL).is_file(), converted.external);
    let bytes = fs::read(folder.join(GRAPH)).expect("a graph is read");
    Model::decode(bytes.as_slice()).expect("what was written is whole");
}
