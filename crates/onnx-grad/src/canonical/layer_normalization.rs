//! `(x - mean x) / √(mean (x - mean x)² + ε)·g + b` along the last axis: `LayerNormalization`, as exporters wrote it before
//! operator set 17.

use headstart_onnx::proto::{Attribute, Node};

use super::matcher::{Group, Matcher};

pub(super) fn find(matcher: &Matcher<'_>) -> Vec<Group> {
    matcher.all("ReduceMean").filter_map(|(at, mean)| group(at, mean, matcher)).collect()
}

fn group(at: usize, mean: &Node, matcher: &Matcher<'_>) -> Option<Group> {
    let x = along_last(mean, matcher)?;
    let mut nodes = vec![at];
    let mut readers = Vec::new();
    // Some exporters write the difference twice.
    for (centred_at, centred) in matcher.readers(mean.makes(0)?)? {
        if !centred.is("Sub") || (centred.reads(0), centred.reads(1)) != (Some(x), mean.makes(0)) {
            return None;
        }
        nodes.push(centred_at);
        readers.extend(matcher.readers(centred.makes(0)?)?);
    }
    readers.dedup_by_key(|(at, _)| *at);
    let [first, second] = readers.as_slice() else { return None };
    let ((square_at, square), (normal_at, normal)) =
        if first.1.is("Div") { (second, first) } else { (first, second) };
    let is_square = (square.is("Pow") && matcher.is_number(square.reads(1)?, 2.0))
        || (square.is("Mul") && square.reads(0) == square.reads(1));
    if !is_square || !normal.is("Div") {
        return None;
    }
    let (variance_at, variance) = matcher.reader(square.makes(0)?, "ReduceMean")?;
    along_last(variance, matcher)?;
    let (sum_at, sum) = matcher.reader(variance.makes(0)?, "Add")?;
    let epsilon = matcher.number(matcher.other(sum, variance.makes(0)?)?)?;
    let (root_at, root) = matcher.reader(sum.makes(0)?, "Sqrt")?;
    if normal.reads(1) != root.makes(0) || matcher.reader(root.makes(0)?, "Div").is_none() {
        return None;
    }
    let (scaled_at, scaled) = matcher.reader(normal.makes(0)?, "Mul")?;
    let scale = matcher.other(scaled, normal.makes(0)?).filter(|scale| is_row_of(scale, x, matcher))?;
    nodes.extend([*square_at, *normal_at, variance_at, sum_at, root_at, scaled_at]);
    let (mut inputs, mut output) = (vec![x, scale], scaled.makes(0)?);
    if let Some((shifted_at, shifted)) = matcher.reader(output, "Add")
        && let Some(bias) = matcher.other(shifted, output).filter(|bias| is_row_of(bias, x, matcher))
    {
        inputs.push(bias);
        output = shifted.makes(0)?;
        nodes.push(shifted_at);
    }
    let told = vec![Attribute::int("axis", -1), Attribute::number("epsilon", epsilon as f32)];
    Some(Group { nodes, whole: Node::new("LayerNormalization", &inputs, &[output], told) })
}

/// What a mean along the last axis alone, which stays, is of.
fn along_last<'a>(mean: &'a Node, matcher: &Matcher<'a>) -> Option<&'a str> {
    let x = mean.reads(0)?;
    let given = mean.reads(1).map(|axes| matcher.fact(axes)?.integers());
    let axes = given.unwrap_or_else(|| mean.ints("axes").map(<[i64]>::to_vec))?;
    let last = matcher.fact(x)?.rank() as i64 - 1;
    (mean.int("keepdims") != Some(0) && (axes == [-1] || axes == [last])).then_some(x)
}

/// Whether a value is a list as long as the last axis of another.
fn is_row_of(row: &str, x: &str, matcher: &Matcher<'_>) -> bool {
    let sizes = matcher.fact(row).and_then(crate::probe::Fact::sizes);
    let last = matcher.fact(x).and_then(|fact| fact.size(fact.rank().checked_sub(1)?));
    last.is_some_and(|last| sizes == Some(vec![last]))
}
