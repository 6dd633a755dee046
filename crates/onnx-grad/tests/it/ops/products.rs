//! Products of matrices.

use headstart_onnx::proto::Attribute;

use crate::support::case::Case;

#[test]
fn products_of_matrices_stacks_and_lists_have_their_gradients() {
    let shapes = [
        ("N,4", "4,3"),
        ("N,4", "4,1"),
        ("N,1", "1,4"),
        ("N,L,4", "4,3"),
        ("N,2,3,4", "4,5"),
        ("N,2,3,4", "N,2,4,5"),
        ("N,2,L,4", "N,2,4,L"),
        ("4", "4,3"),
        ("4", "4"),
    ];
    for (a, b) in shapes {
        Case::op("MatMul").input("a", a).input("b", b).check();
    }
    // Stacks that one side lacks or has once, which the runtime does not broadcast to none.
    for (a, b) in [
        ("N,2,3,4", "2,4,5"),
        ("3,4", "N,4,2"),
        ("N,1,3,4", "2,4,5"),
        ("4", "N,4,3"),
        ("N,3,4", "4"),
        ("N,4", "4"),
    ] {
        Case::op("MatMul").input("a", a).input("b", b).no_empty().check();
    }
}

#[test]
fn a_gemm_of_one_column_or_one_row_of_weights_has_its_gradients() {
    Case::op("Gemm").input("a", "N,4").input("b", "4,1").input("c", "1").check();
    Case::op("Gemm").input("a", "N,1").input("b", "1,4").input("c", "4").check();
    Case::op("Gemm").attribute(Attribute::int("transB", 1)).input("a", "N,4").input("b", "1,4").check();
}

#[test]
fn a_gemm_has_its_gradients_however_its_operands_are_turned() {
    for (turn_a, a) in [(0, "N,4"), (1, "4,N")] {
        for (turn_b, b) in [(0, "4,3"), (1, "3,4")] {
            let case = || {
                let case = Case::op("Gemm").attribute(Attribute::int("transA", turn_a));
                case.attribute(Attribute::int("transB", turn_b)).input("a", a).input("b", b)
            };
            case().check();
            case().input("c", "3").check();
            case().input("c", "N,1").check();
            case().input("c", "").check();
            let scaled = case().attribute(Attribute::number("alpha", 0.5));
            scaled.attribute(Attribute::number("beta", -2.0)).input("c", "N,3").check();
        }
    }
}
