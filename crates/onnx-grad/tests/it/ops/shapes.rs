//! The same elements, otherwise arranged.

use headstart_onnx::proto::Attribute;

use crate::support::case::Case;

#[test]
fn a_reshaped_value_gets_its_gradient_back_in_its_own_shape() {
    let shapes: [(&str, &[i64]); 7] = [
        ("N,12", &[0, 3, 4]),
        ("N,L,12", &[0, 0, 3, 4]),
        ("N,L,12", &[-1, 12]),
        ("N,12", &[-1]),
        ("2,6", &[3, 4]),
        ("N,1,1,1,1", &[-1, 1]),
        ("1,1", &[]),
    ];
    for (x, shape) in shapes {
        Case::op("Reshape").input("x", x).integers("shape", shape).check();
    }
    // Of none, any size would do in the place of the -1.
    Case::op("Reshape").input("x", "N,L,4").integers("shape", &[0, -1, 2]).no_empty().check();
    let empty = Attribute::int("allowzero", 1);
    Case::op("Reshape")
        .attribute(empty)
        .input("x", "N,0,3")
        .integers("shape", &[0, 7])
        .at(&[("N", 2)])
        .check();
}

#[test]
fn a_flattened_value_gets_its_gradient_back_in_its_own_shape() {
    for axis in [0, 1, 2, -1] {
        let told = Attribute::int("axis", axis);
        Case::op("Flatten").attribute(told.clone()).input("x", "N,2,L,3").check();
        Case::op("Flatten").attribute(told).opset(13).input("x", "2,N,3").check();
    }
}

#[test]
fn axes_that_were_turned_are_turned_back() {
    let order = |order: &[i64]| Case::op("Transpose").attribute(Attribute::ints("perm", order.to_vec()));
    order(&[0, 2, 1, 3]).input("x", "N,L,2,3").check();
    order(&[1, 2, 0]).input("x", "N,2,L").opset(13).check();
    order(&[4, 0, 3, 1, 2]).input("x", "N,1,2,L,3").check();
    order(&[0, 1]).input("x", "N,L").check();
    Case::op("Transpose").input("x", "N,2,L").check();
    Case::op("Transpose").input("x", "N").check();
}

#[test]
fn axes_of_one_element_come_and_go() {
    Case::op("Squeeze").input("x", "N,1,L,1").integers("axes", &[1, -1]).check();
    Case::op("Squeeze").input("x", "2,1,N,1").integers("axes", &[-3]).opset(13).check();
    Case::op("Squeeze").input("x", "3,1,2,1").check();
    Case::op("Unsqueeze").input("x", "N,L").integers("axes", &[0, -1, 2]).check();
    Case::op("Unsqueeze").input("x", "").integers("axes", &[0]).opset(13).check();
    for op in ["Squeeze", "Unsqueeze"] {
        Case::op(op).opset(11).attribute(Attribute::ints("axes", vec![1])).input("x", "N,1,L").check();
    }
}

#[test]
fn what_was_repeated_gets_the_sum_of_the_repetitions() {
    Case::op("Expand").input("x", "3,1").integers("shape", &[2, 1, 4]).check();
    Case::op("Expand").input("x", "1,3").integers("shape", &[5, 3]).check();
    Case::op("Expand").input("x", "N,1,2").integers("shape", &[1, 4, 1]).opset(13).check();
    Case::op("Tile").input("x", "N,3").integers("repeats", &[1, 2]).check();
    Case::op("Tile").input("x", "N,L,2").integers("repeats", &[3, 1, 2]).check();
    Case::op("Tile").input("x", "1,1,3").integers("repeats", &[4, 1, 1]).opset(13).check();
    Case::op("Tile").input("x", "N,1,2,1,3").integers("repeats", &[1, 2, 2, 1, 1]).check();
    Case::op("Tile").input("x", "N,2").integers("repeats", &[1, 1]).check();
    Case::op("Tile").input("x", "N,2").indices("repeats", "2", 4).check();
}

#[test]
fn a_choice_gives_gradients_to_what_was_chosen() {
    for (condition, x, y) in
        [("N,3", "N,3", "N,3"), ("N,1,L", "N,2,L", ""), ("L,1", "3", "N,L,3"), ("N", "1", "N")]
    {
        Case::op("Where").truth("condition", condition).input("x", x).input("y", y).check();
    }
    Case::op("Where").truth("condition", "N,1,L").input("x", "N,2,L").constant("y", "1", |_| -3.0).check();
}

#[test]
fn blocks_and_channels_go_back_to_each_other() {
    let block = || Attribute::int("blocksize", 2);
    for mode in ["DCR", "CRD"] {
        let mode = Attribute::string("mode", mode);
        Case::op("DepthToSpace").attribute(block()).attribute(mode.clone()).input("x", "N,8,3,2").check();
        Case::op("DepthToSpace").attribute(block()).attribute(mode).input("x", "N,12,L,1").opset(13).check();
    }
    Case::op("SpaceToDepth").attribute(block()).input("x", "N,3,4,6").check();
}

#[test]
fn sums_of_all_before_are_undone_from_the_other_end() {
    for (exclusive, reverse) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let case = Case::op("CumSum").attribute(Attribute::int("exclusive", exclusive));
        let case = case.attribute(Attribute::int("reverse", reverse));
        case.input("x", "N,L,3").integers_of("axis", "", &[1]).check();
    }
    Case::op("CumSum").input("x", "N,4").integers_of("axis", "", &[-1]).opset(13).check();
}

#[test]
fn triangles_pass_where_they_are() {
    for upper in [0, 1] {
        let case = || Case::op("Trilu").attribute(Attribute::int("upper", upper));
        case().input("x", "N,3,4").check();
        case().input("x", "N,L,L").integers_of("k", "", &[-1]).check();
        case().input("x", "N,2,4,3").integers_of("k", "", &[1]).opset(18).check();
    }
}
