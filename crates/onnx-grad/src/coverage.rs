//! The table of operators and losses for people, made from what is there.

use crate::ops::{OPS, OWN_SET};

/// The table of operators with a derivative, as `docs/OPERATORS.md` has it.
#[must_use]
pub fn table() -> String {
    let mut text = String::from(HEAD);
    for op in OPS.iter().filter(|op| op.set() != OWN_SET) {
        let set = if op.set().is_empty() { "" } else { op.set() };
        let read = if op.since() < 9 { 9 } else { op.since() };
        let since = if op.set().is_empty() { read.to_string() } else { op.since().to_string() };
        text.push_str(&format!("| `{}` | {set} | {since} | {} |\n", op.name(), op.covers()));
    }
    text
}

const HEAD: &str = "# Operators through which a backbone can be trained

Made by `cargo run -p headstart-onnx-grad --example operators > docs/OPERATORS.md`; a test compares it.

A backbone whose graph has another operator between its weights and its output cannot be trained, which is said before anything
is; a head on its features can. Graphs of operator sets 9 to 17 are rewritten to 18 first. What is not on a gradient's way
(shapes, masks, ids and all that is computed from them) may be of any operator that ONNX Runtime has.

| operator | set, where not ONNX's own | from operator set | covered |
|---|---|---:|---|
";
