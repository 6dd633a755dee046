//! Element by element: sums, products and powers of several values, with broadcasting.

use crate::support::case::{Case, Kernels};

/// Shapes of two values and how one is broadcast to the other.
const SHAPES: [(&str, &str); 8] = [
    ("N,3", "N,3"),
    ("N,3,L", "3,1"),
    ("N,4", "4"),
    ("N,L,5", "5"),
    ("3,1", "N,1,4"),
    ("N,2", ""),
    ("N,1", "N,3"),
    ("", "N,2"),
];

/// Between 0.5 and 2.5.
fn positive(random: f64) -> f64 {
    random + 1.5
}

#[test]
fn operands_get_the_sum_over_the_axes_they_were_broadcast_along() {
    for (x, y) in SHAPES {
        for op in ["Add", "Sub", "Mul"] {
            Case::op(op).input("x", x).input("y", y).check();
        }
        Case::op("Div").input("x", x).input_of("y", y, positive).check();
        Case::op("Pow").input_of("x", x, positive).input("y", y).check();
    }
}

#[test]
fn a_value_that_is_both_operands_gets_both_gradients() {
    for op in ["Add", "Sub", "Mul"] {
        Case::op(op).input("x", "N,3").again("x").check();
    }
}

#[test]
fn the_largest_and_the_smallest_get_the_gradient() {
    for op in ["Max", "Min"] {
        for (x, y) in SHAPES {
            Case::op(op).input("x", x).input("y", y).check();
        }
        Case::op(op).input("x", "N,3").input("y", "3").input("z", "N,1").check();
        Case::op(op).input("x", "N,3").check();
    }
}

#[test]
fn sums_and_means_of_several_values_have_their_gradients() {
    for (op, kernels) in [("Sum", Kernels::Double), ("Mean", Kernels::Single)] {
        Case::op(op).kernels(kernels).input("x", "N,3").input("y", "3").input("z", "N,1").check();
        Case::op(op).kernels(kernels).input("x", "N,3").check();
    }
}

#[test]
fn powers_with_constant_exponents_take_their_short_forms() {
    Case::op("Pow").input("x", "N,5").constant("e", "", |_| 2.0).check();
    Case::op("Pow").input("x", "N,5").constant("e", "", |_| 3.0).check();
    Case::op("Pow").input_of("x", "N,5", positive).constant("e", "1", |_| 0.5).check();
    Case::op("Pow").input_of("x", "N,5", positive).constant("e", "", |_| -1.5).check();
    Case::op("Pow").input("x", "N,5").integers("e", &[3]).check();
    Case::op("Pow").input_of("x", "N,3", positive).integers("e", &[1, 2, 3]).check();
}

#[test]
fn whatever_is_raised_to_nothing_stays_one() {
    let zero = |_: f64| 0.0;
    Case::op("Pow").input_of("x", "N,5", zero).constant("e", "", zero).check();
    Case::op("Pow").input_of("x", "N,5", zero).integers("e", &[0]).check();
    Case::op("Pow").input_of("x", "N,3", zero).integers("e", &[0, 2, 0]).check();
    Case::op("Pow")
        .input_of("x", "N,5", zero)
        .constant("e", "5", |random| if random > 0.0 { 0.0 } else { 2.0 })
        .check();
}
