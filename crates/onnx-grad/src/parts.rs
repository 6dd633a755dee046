//! Gradients of parts of a value, put together. Parts that stand side by side along an axis, as slices that cut a value
//! up leave them, become the whole by one `Concat`; what no part covers is zeros.

use headstart_onnx::proto::Attribute;

use crate::emit::Emit;

/// The gradient of a part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The name of the gradient, of the part's shape.
    pub gradient: String,
    /// The number of axes of the value.
    pub rank: usize,
    /// The axis that was cut.
    pub axis: usize,
    /// Where along it the part begins.
    pub start: usize,
    /// Its size there.
    pub size: usize,
    /// The size of the whole there.
    pub whole: usize,
}

/// Terms of the gradient of a value by the gradients of its parts: one for all parts along an axis that do not overlap.
pub(crate) fn join(mut parts: Vec<Part>, emit: &mut Emit<'_>) -> Vec<String> {
    parts.sort_by_key(|part| (part.axis, part.start));
    let mut rows: Vec<Vec<Part>> = Vec::new();
    for part in parts {
        let before = |last: &Part| last.axis == part.axis && last.start + last.size <= part.start;
        match rows.iter_mut().find(|row| row.last().is_some_and(before)) {
            Some(row) => row.push(part),
            None => rows.push(vec![part]),
        }
    }
    rows.iter().map(|row| fill(row, emit)).collect()
}

/// The whole of parts that stand one behind the other.
fn fill(row: &[Part], emit: &mut Emit<'_>) -> String {
    let mut filled = Vec::new();
    for (at, part) in row.iter().enumerate() {
        let before = if at == 0 { part.start } else { 0 };
        let next = row.get(at + 1).map_or(part.whole, |next| next.start);
        let after = next.saturating_sub(part.start + part.size);
        let zeros = [before as i64, after as i64];
        filled.push(emit.pad(&part.gradient, part.rank, part.axis, zeros));
    }
    match filled.as_slice() {
        [one] => one.clone(),
        _ => {
            let filled: Vec<&str> = filled.iter().map(String::as_str).collect();
            let axis = row.first().map_or(0, |part| part.axis as i64);
            emit.node_with("Concat", &filled, vec![Attribute::int("axis", axis)])
        }
    }
}
