//! The table of operators.

use std::collections::BTreeSet;
use std::path::Path;

use headstart_onnx_grad::coverage;
use headstart_onnx_grad::ops::OPS;

#[test]
fn the_table_of_operators_is_in_step() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/OPERATORS.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let mend = "cargo run -p headstart-onnx-grad --example operators > docs/OPERATORS.md";
    assert!(written == coverage(), "docs/OPERATORS.md is out of step; `{mend}` mends it");
}

#[test]
fn every_operator_stands_once_in_the_table_and_in_its_order() {
    let names: Vec<(&str, &str)> = OPS.iter().map(|op| (op.name(), op.set())).collect();
    let distinct: BTreeSet<&(&str, &str)> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
    let lower: Vec<String> = names.iter().map(|(name, _)| name.to_lowercase()).collect();
    let mut sorted = lower.clone();
    sorted.sort();
    assert_eq!(lower, sorted);
}
