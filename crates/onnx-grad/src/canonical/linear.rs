//! `x·W + b` with one matrix and a list: a node `Linear` of this crate's own set, which is lowered to a `Gemm`.

use headstart_onnx::proto::Node;

use super::matcher::{Group, Matcher};
use crate::ops::OWN_SET;

pub(super) fn find(matcher: &Matcher<'_>) -> Vec<Group> {
    matcher.all("MatMul").filter_map(|(at, product)| group(at, product, matcher)).collect()
}

fn group(at: usize, product: &Node, matcher: &Matcher<'_>) -> Option<Group> {
    let (x, weight) = (product.reads(0)?, product.reads(1)?);
    let columns = matcher.fact(weight).filter(|fact| fact.rank() == 2)?.size(1)?;
    if matcher.fact(x)?.rank() < 2 {
        return None;
    }
    let (sum_at, sum) = matcher.reader(product.makes(0)?, "Add")?;
    let bias = matcher.other(sum, product.makes(0)?)?;
    if matcher.fact(bias)?.sizes() != Some(vec![columns]) {
        return None;
    }
    let whole = Node::new("Linear", &[x, weight, bias], &[sum.makes(0)?], Vec::new()).from_set(OWN_SET);
    Some(Group { nodes: vec![at, sum_at], whole })
}
