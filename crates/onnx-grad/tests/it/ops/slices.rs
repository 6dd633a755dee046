//! Parts of values, and values put together of parts.

use headstart_onnx::proto::{Attribute, Graph as Nodes, Model, Node, OperatorSet, Tensor};
use headstart_onnx_grad::losses::WeightedSum;
use headstart_onnx_grad::{Graph, Options, differentiate};

use crate::support::case::Case;
use crate::support::runtime::Runtime;

fn axis(axis: i64) -> Attribute {
    Attribute::int("axis", axis)
}

#[test]
fn each_value_put_behind_another_gets_its_part() {
    Case::op("Concat").attribute(axis(1)).input("x", "N,3").input("y", "N,1").input("z", "N,4").check();
    Case::op("Concat").attribute(axis(-2)).input("x", "N,3,2").input("y", "N,L,2").check();
    Case::op("Concat").attribute(axis(0)).input("x", "L").input("y", "3").opset(13).check();
    Case::op("Concat")
        .attribute(axis(2))
        .constant("token", "2,1,1,3", |random| random)
        .input("x", "2,1,L,3")
        .check();
    Case::op("Concat").attribute(axis(3)).input("x", "N,2,1,1,2").input("y", "N,2,1,3,2").check();
}

#[test]
fn a_value_cut_up_gets_the_parts_back_in_their_places() {
    let sizes = || Case::op("Split").attribute(axis(1)).input("x", "N,6,L").integers("split", &[1, 2, 3]);
    sizes().outputs(3).check();
    sizes().outputs(3).read(&[1]).check();
    sizes().outputs(3).read(&[0, 2]).check();
    sizes().opset(13).outputs(3).read(&[2]).check();
    let equal = |parts| Case::op("Split").attribute(axis(-1)).input("x", "N,7").attribute(parts);
    equal(Attribute::int("num_outputs", 3)).outputs(3).check();
    Case::op("Split").input("x", "5,N").integers("split", &[0, 5]).outputs(2).read(&[1]).check();
    // Sizes that depend on the inputs.
    let halves = || Case::op("Split").attribute(Attribute::int("num_outputs", 2)).input("x", "N,3");
    let sizes = [[("N", 4)], [("N", 6)]];
    for read in [vec![0, 1], vec![0], vec![1]] {
        let case = halves().outputs(2).read(&read);
        sizes.iter().fold(case, |case, sizes| case.at(sizes)).check();
    }
}

#[test]
fn a_value_cut_up_by_an_attribute_gets_its_parts_too() {
    let parts = Attribute::ints("split", vec![4, 1]);
    Case::op("Split").opset(11).attribute(axis(1)).attribute(parts).input("x", "N,5").outputs(2).check();
    Case::op("Split").opset(13).attribute(axis(1)).input("x", "N,6").outputs(3).check();
}

/// `starts`, `ends`, `axes` and `steps` of a slice.
fn slice(shape: &str, lists: [&[i64]; 4]) -> Case {
    let [starts, ends, axes, steps] = lists;
    let case = Case::op("Slice").input("x", shape).integers("starts", starts).integers("ends", ends);
    match (axes.is_empty(), steps.is_empty()) {
        (true, true) => case,
        (false, true) => case.integers("axes", axes),
        (true, false) => case.left_out().integers("steps", steps),
        (false, false) => case.integers("axes", axes).integers("steps", steps),
    }
}

#[test]
fn slices_of_older_operator_sets_are_read() {
    let list = |name, value| Attribute::ints(name, vec![value]);
    let case = Case::op("Slice").opset(9).attribute(list("starts", 1)).attribute(list("ends", -1));
    case.attribute(list("axes", 1)).input("x", "N,5").check();
}

#[test]
fn a_slice_gives_its_gradient_to_where_it_stood() {
    let end = i64::MAX;
    let start = i64::MIN;
    let cases: [(&str, [&[i64]; 4]); 17] = [
        ("N,5", [&[0, 1], &[end, 3], &[], &[]]),
        ("N,5", [&[1], &[-1], &[1], &[]]),
        ("N,5", [&[-4], &[end], &[-1], &[1]]),
        ("N,5", [&[-99], &[99], &[1], &[]]),
        ("N,5", [&[3], &[2], &[1], &[]]),
        ("N,5,4", [&[2, 1], &[4, 3], &[1, 2], &[]]),
        ("N,L", [&[0], &[1], &[1], &[]]),
        ("N,L", [&[1], &[end], &[1], &[]]),
        ("N,L,3", [&[-1], &[end], &[1], &[]]),
        ("N,L", [&[0], &[-1], &[1], &[]]),
        ("N,7", [&[0], &[end], &[1], &[2]]),
        ("N,7,2", [&[1], &[6], &[1], &[3]]),
        ("N,L,2", [&[1], &[end], &[1], &[2]]),
        ("N,4", [&[-1], &[start], &[1], &[-1]]),
        ("N,7,1", [&[-2], &[0], &[1], &[-2]]),
        ("N,L", [&[-1], &[start], &[1], &[-1]]),
        ("N,5,4", [&[3, 0], &[0, end], &[1, 2], &[-1, 2]]),
    ];
    for (shape, lists) in cases {
        slice(shape, lists).check();
    }
    slice("N,L", [&[1], &[end], &[1], &[2]]).at(&[("N", 1), ("L", 6)]).at(&[("N", 2), ("L", 9)]).check();
    slice("N,L", [&[-2], &[start], &[1], &[-3]]).at(&[("N", 1), ("L", 6)]).at(&[("N", 2), ("L", 8)]).check();
    let most = || slice("N,L", [&[0], &[100], &[1], &[]]);
    most().check();
    most().at(&[("N", 1), ("L", 103)]).check();
    // From the sixth backwards, which are two of seven and of eleven.
    slice("N,L,1,2,3", [&[5], &[start], &[1], &[-3]])
        .at(&[("N", 2), ("L", 6)])
        .at(&[("N", 0), ("L", 9)])
        .check();
    slice("3,L", [&[1], &[3], &[1], &[]]).opset(13).at(&[("L", 4)]).at(&[("L", 9)]).check();
}

#[test]
fn a_slice_whose_ends_callers_give_is_put_where_they_said() {
    let (ends, at) = ([5], [("N", 2)]);
    for most in [1, 4] {
        Case::op("Slice")
            .input("x", "N,5")
            .indices("starts", "1", most)
            .integers("ends", &ends)
            .integers("axes", &[1])
            .at(&at)
            .check();
    }
}

#[test]
fn slices_that_cut_a_value_up_are_joined_without_a_sum() {
    let sliced = |name: &str, start: &str, end: &str| {
        Node::new("Slice", &["x", start, end, "axis"], &[name], Vec::new())
    };
    let taken = Node::new("Gather", &["x", "last"], &["row"], vec![axis(1)]);
    let list = |name: &str, value: i64| Tensor::integers(name, &[1], [value]);
    let graph = Nodes {
        node: vec![sliced("front", "zero", "two"), sliced("back", "two", "five"), taken],
        initializer: vec![
            list("zero", 0),
            list("two", 2),
            list("five", 5),
            list("axis", 1),
            Tensor::integers("last", &[], [-1]),
            Tensor::floats("x", &[2, 6], (0..12u8).map(f32::from)),
        ],
        ..Nodes::default()
    };
    let set = OperatorSet { domain: None, version: Some(21) };
    let model =
        Model { graph: Some(graph), opset_import: vec![set], ir_version: Some(8), ..Model::default() };
    let values = ["front", "back", "row"].map(str::to_owned).to_vec();
    let graph = Graph::new(model).unwrap();
    let found =
        differentiate(&graph, &WeightedSum { values }, &["x"], &Runtime, &Options::default()).unwrap();
    let nodes = found.model.graph.unwrap().node;
    let of_gradient =
        |node: &&Node| node.output[0].starts_with("grad/") || node.output[0].starts_with("back/");
    let joined = nodes.iter().filter(of_gradient).filter(|node| node.is("Concat")).count();
    let padded = nodes.iter().filter(|node| node.is("Pad")).count();
    assert_eq!((joined, padded), (1, 0), "{nodes:#?}");
}

#[test]
fn a_slice_counted_from_the_back_may_leave_out_what_is_before_it() {
    let case = slice("L,2", [&[-20], &[i64::MAX], &[0], &[]]);
    case.at(&[("L", 30)]).at(&[("L", 20)]).at(&[("L", 7)]).check();
    let case = slice("L,2", [&[0], &[i64::MAX], &[0], &[]]);
    case.at(&[("L", 30)]).at(&[("L", 7)]).check();
}
