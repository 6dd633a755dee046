//! Sums, means and their like over axes.

use headstart_onnx::proto::Attribute;

use crate::support::case::Case;

/// Between 0.5 and 2.5.
fn positive(random: f64) -> f64 {
    random + 1.5
}

/// All, some and no axes, kept or not.
fn over_axes(op: &'static str, opset: i64, make: fn(f64) -> f64) {
    for keep in [0, 1] {
        let case = || {
            let case = Case::op(op).opset(opset).attribute(Attribute::int("keepdims", keep));
            case.input_of("x", "N,3,L", make).at(&[("N", 4), ("L", 2)]).at(&[("N", 1), ("L", 1)])
        };
        let empty = || case().at(&[("N", 0), ("L", 2)]);
        empty().integers("axes", &[1]).check();
        // ONNX Runtime 1.31 leaves axes out that are counted from the back of an empty value.
        empty().integers("axes", &[1, 2]).check();
        case().integers("axes", &[-1, 0]).check();
        case().check();
        if ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"].contains(&op) {
            empty().attribute(Attribute::int("noop_with_empty_axes", 1)).integers("axes", &[]).check();
        }
    }
}

#[test]
fn what_was_summed_gets_the_gradient_of_the_sum() {
    over_axes("ReduceSum", 13, |random| random);
    over_axes("ReduceMean", 18, |random| random);
    Case::op("ReduceSum").input("x", "N,3").integers("axes", &[1]).check();
    Case::op("ReduceMean").input("x", "N,3").integers("axes", &[1]).check();
}

#[test]
fn norms_have_their_gradients() {
    over_axes("ReduceSumSquare", 18, |random| random);
    over_axes("ReduceL1", 18, |random| random + 0.2 * random.signum());
    over_axes("ReduceL2", 18, |random| random);
    over_axes("ReduceLogSum", 18, positive);
    over_axes("ReduceLogSumExp", 18, |random| random);
}

#[test]
fn the_largest_and_the_smallest_along_axes_get_the_gradient() {
    over_axes("ReduceMax", 18, |random| random);
    over_axes("ReduceMin", 18, |random| random);
}

#[test]
fn a_product_has_its_gradient_even_where_factors_are_zero() {
    over_axes("ReduceProd", 18, positive);
    let sparse = |random: f64| if random < -0.4 { 0.0 } else { random };
    Case::op("ReduceProd").input_of("x", "N,4", sparse).integers("axes", &[1]).at(&[("N", 9)]).check();
}
