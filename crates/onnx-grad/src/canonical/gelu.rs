//! `x·(1 + erf(x/√2))/2`, its products in any order: `Gelu`.

use headstart_onnx::proto::Node;

use super::matcher::{Group, Matcher};

pub(super) fn find(matcher: &Matcher<'_>) -> Vec<Group> {
    matcher.all("Erf").filter_map(|(at, erf)| group(at, erf, matcher)).collect()
}

fn group(at: usize, erf: &Node, matcher: &Matcher<'_>) -> Option<Group> {
    let inner = erf.reads(0)?;
    let (scaled_at, scaled) = matcher.maker(inner, &["Div", "Mul"])?;
    matcher.reader(inner, "Erf")?;
    let x = argument(scaled, matcher)?;
    let (one_at, one) = matcher.reader(erf.makes(0)?, "Add")?;
    if !matcher.is_number(matcher.other(one, erf.makes(0)?)?, 1.0) {
        return None;
    }
    let mut nodes = vec![scaled_at, at, one_at];
    let (mut value, mut by_x, mut halved) = (one.makes(0)?, false, false);
    while !by_x || !halved {
        let (product_at, product) = matcher.reader(value, "Mul")?;
        let other = matcher.other(product, value)?;
        if other == x && !by_x {
            by_x = true;
        } else if matcher.is_number(other, 0.5) && !halved {
            halved = true;
        } else if !by_x && !halved {
            let (half_at, half) = matcher.maker(other, &["Mul"])?;
            matcher.reader(other, "Mul")?;
            if !matcher.is_number(matcher.other(half, x)?, 0.5) {
                return None;
            }
            nodes.push(half_at);
            (by_x, halved) = (true, true);
        } else {
            return None;
        }
        nodes.push(product_at);
        value = product.makes(0)?;
    }
    let whole = Node::new("Gelu", &[x], &[value], Vec::new()).from_set("com.microsoft");
    Some(Group { nodes, whole })
}

/// `x` of `x/√2`.
fn argument<'a>(scaled: &'a Node, matcher: &Matcher<'a>) -> Option<&'a str> {
    let root = std::f64::consts::SQRT_2;
    let (left, right) = (scaled.reads(0)?, scaled.reads(1)?);
    if scaled.is("Div") {
        return matcher.is_number(right, root).then_some(left);
    }
    let found = [(left, right), (right, left)].into_iter().find(|(_, by)| matcher.is_number(by, 1.0 / root));
    found.map(|(x, _)| x)
}
