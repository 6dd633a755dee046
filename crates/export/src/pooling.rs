//! Token vectors to one vector an item, and vectors to unit length, as nodes: what the engine does in place.

use headstart_onnx::Extension;
use headstart_onnx::proto::{Attribute, element};
use headstart_types::manifest::{FeaturesSpec, Form, Pooling};

/// From these versions on, an operator's axes are an input instead of an attribute.
const SUM_TAKES_AXES: i64 = 13;
const OTHERS_TAKE_AXES: i64 = 18;

/// Pools `tokens`, `[items, padded, dimension]`, over the positions where `mask`, `[items, padded]` of integers, is not
/// zero: `[items, dimension]`. An item without real tokens pools to zeros.
pub(crate) fn pool(graph: &mut Extension, tokens: &str, mask: &str, pooling: Pooling) -> String {
    let pick = match pooling {
        Pooling::None => return tokens.to_owned(),
        Pooling::Mean | Pooling::Max => graph.add("Cast", &[mask], vec![to(element::BOOL)]),
        Pooling::Cls => nth_real(graph, mask, true),
        Pooling::Last => nth_real(graph, mask, false),
    };
    let column = expand(graph, &pick);
    let zero = graph.floats("zero", &[], [0.0]);
    if pooling == Pooling::Max {
        let least = graph.floats("least", &[], [f32::MIN]);
        let real = graph.add("Where", &[&column, tokens, &least], vec![]);
        let largest = reduce(graph, "ReduceMax", &real, 1, false);
        let any = count(graph, &pick);
        let any = graph.add("Greater", &[&any, &zero], vec![]);
        return graph.add("Where", &[&any, &largest, &zero], vec![]);
    }
    // Chosen instead of multiplied: whatever stands behind the end, nothing of it comes through.
    let real = graph.add("Where", &[&column, tokens, &zero], vec![]);
    let sum = reduce(graph, "ReduceSum", &real, 1, false);
    if pooling != Pooling::Mean {
        return sum;
    }
    let one = graph.floats("one", &[], [1.0]);
    let count = count(graph, &pick);
    let count = graph.add("Max", &[&count, &one], vec![]);
    graph.add("Div", &[&sum, &count], vec![])
}

/// Pools a map or a sequence of patches, all of whose places are real: `[items, dimension]`.
pub(crate) fn pool_places(graph: &mut Extension, values: &str, form: Form, spec: &FeaturesSpec) -> String {
    let dimension = i64::try_from(spec.dimension).unwrap_or(i64::MAX);
    let (shape, axis) = match form {
        Form::Vector => (vec![-1, dimension], None),
        Form::Positions => (vec![0, -1, dimension], Some(1)),
        Form::Planes => (vec![0, dimension, -1], Some(2)),
    };
    let target = graph.integers("shape", &[shape.len()], shape);
    let places = graph.add("Reshape", &[values, &target], vec![]);
    let Some(axis) = axis else { return places };
    let nth = |graph: &mut Extension, index: i64| {
        let index = graph.integers("place", &[], [index]);
        graph.add("Gather", &[&places, &index], vec![Attribute::int("axis", axis)])
    };
    match spec.pooling {
        Pooling::Mean => reduce(graph, "ReduceMean", &places, axis, false),
        Pooling::Max => reduce(graph, "ReduceMax", &places, axis, false),
        Pooling::Cls | Pooling::None => nth(graph, 0),
        Pooling::Last => nth(graph, -1),
    }
}

/// Half precision in single.
pub(crate) fn single(graph: &mut Extension, values: &str) -> String {
    graph.add("Cast", &[values], vec![to(element::FLOAT)])
}

/// Scales rows to unit length; a row of zeros stays.
pub(crate) fn normalise(graph: &mut Extension, rows: &str) -> String {
    let length = reduce(graph, "ReduceL2", rows, 1, true);
    let zero = graph.floats("zero", &[], [0.0]);
    let one = graph.floats("one", &[], [1.0]);
    let positive = graph.add("Greater", &[&length, &zero], vec![]);
    let divisor = graph.add("Where", &[&positive, &length, &one], vec![]);
    graph.add("Div", &[rows, &divisor], vec![])
}

/// True at each item's first, or last, real position.
fn nth_real(graph: &mut Extension, mask: &str, first: bool) -> String {
    let real = graph.add("Cast", &[mask], vec![to(element::BOOL)]);
    let counted = graph.add("Cast", &[&real], vec![to(element::FLOAT)]);
    let axis = graph.integers("axis", &[], [1]);
    let so_far = graph.add("CumSum", &[&counted, &axis], vec![Attribute::int("reverse", i64::from(!first))]);
    let one = graph.floats("one", &[], [1.0]);
    let edge = graph.add("Equal", &[&so_far, &one], vec![]);
    graph.add("And", &[&edge, &real], vec![])
}

/// `[items, positions]` to `[items, positions, 1]`.
fn expand(graph: &mut Extension, pick: &str) -> String {
    if graph.opset() >= SUM_TAKES_AXES {
        let axes = graph.integers("axes", &[1], [2]);
        return graph.add("Unsqueeze", &[pick, &axes], vec![]);
    }
    graph.add("Unsqueeze", &[pick], vec![axes(2)])
}

/// How many positions are true, `[items, 1]`.
fn count(graph: &mut Extension, pick: &str) -> String {
    let ones = graph.add("Cast", &[pick], vec![to(element::FLOAT)]);
    reduce(graph, "ReduceSum", &ones, 1, true)
}

/// Reduces one axis.
fn reduce(graph: &mut Extension, op: &str, values: &str, axis: i64, keep: bool) -> String {
    let keep = Attribute::int("keepdims", i64::from(keep));
    let since = if op == "ReduceSum" { SUM_TAKES_AXES } else { OTHERS_TAKE_AXES };
    if graph.opset() >= since {
        let axes = graph.integers("axes", &[1], [axis]);
        return graph.add(op, &[values, &axes], vec![keep]);
    }
    graph.add(op, &[values], vec![axes(axis), keep])
}

fn axes(axis: i64) -> Attribute {
    Attribute::ints("axes", vec![axis])
}

fn to(elements: i32) -> Attribute {
    Attribute::int("to", i64::from(elements))
}
