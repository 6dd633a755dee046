//! Elements and slices taken by their numbers.

use headstart_onnx::proto::Attribute;

use crate::support::case::Case;

fn axis(axis: i64) -> Attribute {
    Attribute::int("axis", axis)
}

#[test]
fn a_row_that_was_taken_twice_gets_both_gradients() {
    for rows in ["5,3", "200,3", "L,3", "200,N,1,2"] {
        // A table of `L` rows has one in the smallest case.
        let most = if rows.starts_with('L') { 1 } else { 5 };
        Case::op("Gather").input("x", rows).indices("indices", "N,4", most).check();
        Case::op("Gather").input("x", rows).indices("indices", "6", most).opset(18).check();
    }
    Case::op("Gather").input("x", "5,3").integers("indices", &[4, 0, -1, 2, 0, -5]).check();
    Case::op("Gather").input("x", "300,2").integers_of("indices", "2,3", &[299, 0, -1, 2, 0, -300]).check();
}

#[test]
fn rows_that_were_taken_twice_are_not_added_by_several_threads() {
    let gather = Case::op("Gather").input("x", "200,3").indices("indices", "N,4", 200);
    let listed = Case::op("GatherND").input("x", "200,3").indices("indices", "N,4,1", 200);
    for case in [gather, listed] {
        let training = case.differentiate(headstart_onnx::proto::element::FLOAT).unwrap();
        let nodes = training.model.graph.unwrap().node;
        assert!(nodes.iter().any(|node| node.is("ScatterElements")), "{nodes:#?}");
        // ONNX Runtime 1.31 shares its work out and adds without a lock: terms are lost.
        assert!(nodes.iter().all(|node| !node.is("ScatterND")), "{nodes:#?}");
    }
}

#[test]
fn what_was_taken_along_any_axis_gets_its_gradient() {
    Case::op("Gather").attribute(axis(1)).input("x", "N,5,3").indices("indices", "2,3", 5).check();
    Case::op("Gather").attribute(axis(-1)).input("x", "N,2,200").indices("indices", "7", 9).check();
    Case::op("Gather").attribute(axis(1)).input("x", "N,L").indices("indices", "M", 1).check();
    Case::op("Gather").attribute(axis(1)).input("x", "1,5,3").indices("indices", "L", 5).check();
    Case::op("Gather").attribute(axis(2)).input("x", "N,1,4,2,3").integers("indices", &[3, 1]).check();
}

#[test]
fn one_number_takes_a_slice() {
    for (shape, along, number) in
        [("N,5,3", 1, 0), ("N,5,3", 1, -2), ("N,L", 1, 0), ("N,L,2", 1, -1), ("4", 0, 2)]
    {
        Case::op("Gather").attribute(axis(along)).input("x", shape).integers_of("at", "", &[number]).check();
    }
    Case::op("Gather").attribute(axis(1)).input("x", "N,5").integers("at", &[2, 3, 4]).check();
    Case::op("Gather").attribute(axis(1)).input("x", "N,5").integers("at", &[-3, -2]).check();
    Case::op("Gather").attribute(axis(1)).input("x", "N,5,2").indices("at", "", 5).check();
}

#[test]
fn elements_taken_one_by_one_get_their_gradients() {
    Case::op("GatherElements").attribute(axis(1)).input("x", "N,5").indices("indices", "N,7", 5).check();
    Case::op("GatherElements").input("x", "4,N,2").indices("indices", "6,N,2", 4).check();
    Case::op("GatherElements")
        .attribute(axis(-1))
        .input("x", "2,3")
        .integers_of("indices", "2,2", &[-1, 0, 2, 2])
        .check();
}

#[test]
fn slices_named_by_lists_of_numbers_get_their_gradients() {
    Case::op("GatherND").input("x", "5,3").indices("indices", "N,4,1", 5).check();
    Case::op("GatherND").input("x", "20,13,2").indices("indices", "N,2", 13).check();
    Case::op("GatherND").input("x", "3,L,2").integers_of("indices", "3,2", &[0, -1, -1, 0, 2, -1]).check();
    let batched = |dims| Case::op("GatherND").attribute(Attribute::int("batch_dims", dims));
    batched(1).input("x", "N,5,3").indices("indices", "N,1", 5).check();
    batched(1).input("x", "N,4,3,2").indices("indices", "N,6,2", 3).check();
    batched(2).input("x", "N,2,L,3").indices("indices", "N,2,4,1", 1).check();
}

#[test]
fn what_is_scattered_gets_gradients_from_where_it_went() {
    for reduction in ["none", "add"] {
        let case = |op| Case::op(op).attribute(Attribute::string("reduction", reduction));
        case("ScatterElements")
            .attribute(axis(1))
            .input("x", "2,5")
            .integers_of("indices", "2,3", &[4, 0, -2, 1, 2, 3])
            .input("updates", "2,3")
            .check();
        case("ScatterND")
            .input("x", "5,N")
            .integers_of("indices", "3,1", &[3, 0, -1])
            .input("updates", "3,N")
            .check();
        case("ScatterND")
            .input("x", "4,3,N")
            .integers_of("indices", "2,2", &[3, 0, 1, 2])
            .input("updates", "2,N")
            .check();
    }
    let twice = Case::op("ScatterND").attribute(Attribute::string("reduction", "add"));
    twice.input("x", "5,2").indices("indices", "N,1", 3).input("updates", "N,2").check();
}

#[test]
fn a_scatter_that_keeps_extremes_is_refused() {
    let case = Case::op("ScatterElements").attribute(Attribute::string("reduction", "max"));
    let case = case.input("x", "2,5").indices("indices", "2,3", 5).input("updates", "2,3");
    let refused = case.differentiate(headstart_onnx::proto::element::FLOAT).unwrap_err().to_string();
    assert!(refused.contains("`ScatterElements`") && refused.contains("reduction is `max`"), "{refused}");
}
