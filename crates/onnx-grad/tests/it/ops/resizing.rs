//! Pictures made larger and smaller.

use headstart_onnx::proto::{Attribute, element};

use crate::support::case::{Case, Kernels};

/// A resize of a mode, of the ways to say which element of the result is which of the picture.
fn resize(mode: &str, places: &str, nearest: &str) -> Case {
    Case::op("Resize")
        .kernels(Kernels::Single)
        .attribute(Attribute::string("mode", mode))
        .attribute(Attribute::string("coordinate_transformation_mode", places))
        .attribute(Attribute::string("nearest_mode", nearest))
}

#[test]
fn pixels_repeated_and_left_out_get_their_gradients() {
    for (places, rounding) in [
        ("asymmetric", "floor"),
        ("half_pixel", "round_prefer_floor"),
        ("align_corners", "round_prefer_ceil"),
    ] {
        let case = || resize("nearest", places, rounding).input("x", "N,2,3,4").left_out();
        case().floats("scales", &[1.0, 1.0, 2.0, 3.0]).check();
        case().floats("scales", &[1.0, 1.0, 1.7, 0.5]).check();
        case().left_out().integers("sizes", &[3, 2, 6, 8]).at(&[("N", 3)]).check();
    }
}

#[test]
fn blended_pixels_share_their_gradient() {
    for places in ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"] {
        let case = |opset| resize("linear", places, "floor").opset(opset).input("x", "N,2,3,4").left_out();
        case(21).floats("scales", &[1.0, 1.0, 2.0, 2.0]).check();
        case(13).floats("scales", &[1.0, 1.0, 2.5, 0.6]).check();
        let sized = resize("linear", places, "floor").opset(18).input("x", "3,2,3,4").left_out().left_out();
        sized.integers("sizes", &[3, 2, 5, 7]).check();
    }
    let line = resize("linear", "half_pixel", "floor").input("x", "N,2,5").left_out();
    line.floats("scales", &[1.0, 1.0, 1.6]).check();
}

#[test]
fn a_scale_that_leaves_the_size_as_it_is_is_followed_or_refused() {
    for mode in ["nearest", "linear"] {
        let case = |shape| resize(mode, "asymmetric", "floor").input("x", shape).left_out();
        case("N,2,3,4").floats("scales", &[1.0, 1.0, 1.2, 1.0]).check();
        case("N,2,3,4").floats("scales", &[1.0, 1.0, 1.2, 1.1]).check();
        let long = case("N,2,H,4").floats("scales", &[1.0, 1.0, 1.2, 1.0]);
        long.at(&[("N", 2), ("H", 3)]).at(&[("N", 2), ("H", 11)]).check();
        // What is next to it changes, and so do its elements.
        for shape in ["N,2,3,4", "N,2,H,4"] {
            let mixed = case(shape).floats("scales", &[1.0, 1.0, 1.2, 2.0]).differentiate(element::FLOAT);
            let refused = mixed.unwrap_err().to_string();
            assert!(refused.contains("may leave an axis as long as it is"), "{refused}");
        }
    }
}

#[test]
fn pictures_of_any_size_and_axes_by_name_are_resized() {
    let case = || resize("linear", "half_pixel", "floor").input("x", "N,1,H,W").left_out();
    case().floats("scales", &[1.0, 1.0, 2.0, 1.5]).at(&[("N", 2), ("H", 3), ("W", 4)]).check();
    let axes = Attribute::ints("axes", vec![2, 3]);
    case().attribute(axes).floats("scales", &[2.0, 3.0]).at(&[("N", 2), ("H", 3), ("W", 4)]).check();
    resize("cubic", "half_pixel", "floor")
        .input("x", "N,2,4,5")
        .left_out()
        .floats("scales", &[1.0, 1.0, 1.5, 2.0])
        .check();
    resize("nearest", "asymmetric", "floor")
        .input("x", "N,1,H,W")
        .left_out()
        .floats("scales", &[1.0, 1.0, 2.0, 2.0])
        .at(&[("N", 2), ("H", 3), ("W", 5)])
        .check();
}
