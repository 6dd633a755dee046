//! Convolutions and their transposes, over one, two and three axes.

use headstart_onnx::proto::Attribute;

use crate::support::case::Case;

/// A convolution of images `x` by a weight, with a bias; told strides, dilations and pads where they are given.
fn convolution(op: &'static str, shapes: (&str, &str, &str), groups: i64, told: &[(&str, &[i64])]) -> Case {
    let (x, weight, bias) = shapes;
    let told = told.iter().filter(|(_, values)| !values.is_empty());
    let case = told
        .fold(Case::op(op), |case, (name, values)| case.attribute(Attribute::ints(name, values.to_vec())));
    let case = case.attribute(Attribute::int("group", groups)).linear();
    let case = case.input("x", x).input("weight", weight);
    if bias.is_empty() { case } else { case.input("bias", bias) }
}

/// Sizes where images stand only those above what the kernel spans.
const SIZES: [&[(&str, usize)]; 2] = [&[("N", 2), ("H", 7), ("L", 6)], &[("N", 0), ("H", 6), ("L", 8)]];

fn check(case: Case) {
    SIZES.iter().fold(case, |case, sizes| case.at(sizes)).check();
}

#[test]
fn a_convolution_has_its_gradients_whatever_its_strides_dilations_and_pads() {
    let settings: [(&[i64], &[i64], &[i64]); 9] = [
        (&[], &[], &[]),
        (&[], &[], &[1, 1, 1, 1]),
        (&[2, 2], &[], &[1, 1, 1, 1]),
        (&[3, 2], &[], &[0, 2, 1, 0]),
        (&[1, 1], &[2, 1], &[2, 0, 1, 3]),
        (&[2, 3], &[3, 2], &[3, 2, 1, 0]),
        (&[3, 3], &[1, 2], &[]),
        // More padding than the kernel spans.
        (&[1, 1], &[1, 1], &[3, 4, 3, 2]),
        (&[2, 1], &[1, 1], &[4, 0, 4, 3]),
    ];
    for (strides, dilations, pads) in settings {
        let told = [("strides", strides), ("dilations", dilations), ("pads", pads)];
        for x in ["N,2,7,6", "N,2,H,6", "N,2,H,L"] {
            check(convolution("Conv", (x, "3,2,3,2", "3"), 1, &told));
        }
        // So many channels that the weight's gradient is written by taps.
        for (x, weight) in [("N,16,6,5", "2,16,2,3"), ("N,16,H,L", "2,16,3,2"), ("N,16,H,L", "1,16,1,3")] {
            let case = convolution("Conv", (x, weight, ""), 1, &told);
            case.at(&[("N", 2), ("H", 6), ("L", 5)]).at(&[("N", 0), ("H", 6), ("L", 5)]).check();
        }
    }
}

#[test]
fn a_convolution_of_one_tap_has_its_gradients() {
    let settings: [(&[i64], &[i64]); 4] =
        [(&[], &[]), (&[2, 2], &[]), (&[1, 3], &[1, 0, 2, 0]), (&[2, 1], &[0, 1, 1, 0])];
    for (strides, pads) in settings {
        for x in ["N,5,7,6", "N,5,H,L"] {
            check(convolution("Conv", (x, "3,5,1,1", "3"), 1, &[("strides", strides), ("pads", pads)]));
        }
    }
    check(convolution("Conv", ("N,5,L", "3,5,1", "3"), 1, &[("strides", &[2])]));
    check(convolution("Conv", ("N,4,L", "6,2,1", "6"), 2, &[]));
}

#[test]
fn a_convolution_has_its_gradients_in_groups_and_by_channel() {
    let settings: [(&[i64], &[i64], &[i64]); 4] = [
        (&[], &[], &[1, 1, 1, 1]),
        (&[2, 2], &[], &[0, 1, 1, 1]),
        (&[3, 2], &[1, 2], &[1, 2, 0, 1]),
        (&[1, 1], &[2, 3], &[2, 3, 2, 3]),
    ];
    for (strides, dilations, pads) in settings {
        let told = [("strides", strides), ("dilations", dilations), ("pads", pads)];
        for (x, weight, groups) in [
            ("N,4,7,6", "6,2,3,3", 2),
            ("N,4,H,L", "6,2,3,2", 2),
            ("N,4,7,6", "4,1,3,3", 4),
            ("N,4,H,L", "4,1,3,3", 4),
            ("N,3,7,L", "6,1,2,3", 3),
            ("N,6,H,6", "2,3,3,3", 2),
        ] {
            check(convolution("Conv", (x, weight, ""), groups, &told));
        }
    }
}

#[test]
fn a_convolution_has_its_gradients_over_one_axis_and_over_three() {
    for (strides, dilations, pads) in
        [([1], [1], [0, 0]), ([1], [2], [2, 1]), ([2], [1], [1, 1]), ([3], [2], [0, 3])]
    {
        let told = [("strides", &strides[..]), ("dilations", &dilations), ("pads", &pads)];
        for (x, weight, groups) in
            [("N,3,8", "4,3,3", 1), ("N,1,L", "4,1,3", 1), ("N,16,L", "3,16,3", 1), ("N,4,L", "4,2,3", 2)]
        {
            check(convolution("Conv", (x, weight, ""), groups, &told));
        }
    }
    let told: [(&str, &[i64]); 3] =
        [("strides", &[1, 2, 1]), ("dilations", &[1, 1, 2]), ("pads", &[0, 1, 2, 1, 0, 1])];
    for (x, weight, groups) in [("N,2,3,5,4", "2,2,2,3,2", 1), ("N,16,3,4,L", "1,16,2,2,2", 1)] {
        check(convolution("Conv", (x, weight, ""), groups, &told));
        check(convolution("Conv", (x, weight, ""), groups, &[]));
    }
}

#[test]
fn a_convolution_pads_itself_as_auto_pad_says() {
    for way in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        let settings: [(&str, &[i64], &[i64]); 4] = [
            ("N,2,7,6", &[2, 2], &[]),
            ("N,2,7,6", &[2, 3], &[]),
            ("N,2,H,L", &[], &[]),
            ("N,2,8,8", &[3, 1], &[]),
        ];
        for (x, strides, dilations) in settings {
            for weight in ["3,2,3,2", "3,2,4,3"] {
                let told = [("strides", strides), ("dilations", dilations)];
                let case = convolution("Conv", (x, weight, ""), 1, &told);
                check(case.attribute(Attribute::string("auto_pad", way)));
            }
        }
    }
    let free = convolution("Conv", ("N,2,H,6", "3,2,3,3", ""), 1, &[("strides", &[2, 2])]);
    let refused = free.attribute(Attribute::string("auto_pad", "SAME_UPPER"));
    let refused = refused.differentiate(headstart_onnx::proto::element::FLOAT).unwrap_err().to_string();
    assert!(refused.contains("`auto_pad` depends on the graph's inputs"), "{refused}");
}

#[test]
fn large_images_and_small_ones_take_their_own_ways() {
    for x in ["N,2,21,20", "N,2,4,4"] {
        for (weight, groups) in [("3,2,3,3", 1), ("4,1,3,3", 2)] {
            let told: [(&str, &[i64]); 1] = [("pads", &[1, 0, 1, 2])];
            convolution("Conv", (x, weight, ""), groups, &told).at(&[("N", 2)]).check();
        }
    }
}

#[test]
fn a_transposed_convolution_has_its_gradients_whatever_it_is_told() {
    let settings: [[&[i64]; 4]; 7] = [
        [&[], &[], &[], &[]],
        [&[2, 2], &[], &[1, 1, 1, 1], &[1, 1]],
        [&[3, 2], &[], &[0, 1, 2, 0], &[2, 0]],
        [&[1, 2], &[2, 1], &[2, 0, 0, 1], &[]],
        [&[2, 3], &[2, 3], &[1, 2, 3, 0], &[1, 2]],
        [&[2, 2], &[], &[], &[1, 0]],
        [&[3, 3], &[1, 1], &[1, 1, 1, 1], &[]],
    ];
    for [strides, dilations, pads, beyond] in settings {
        let told =
            [("strides", strides), ("dilations", dilations), ("pads", pads), ("output_padding", beyond)];
        for (x, weight, bias, groups) in [
            ("N,2,4,3", "2,3,3,2", "3", 1),
            ("N,2,H,L", "2,3,3,2", "", 1),
            ("N,3,4,3", "3,16,2,3", "", 1),
            ("N,4,4,3", "4,3,3,2", "6", 2),
            ("N,4,3,L", "4,1,3,3", "", 4),
        ] {
            let case = convolution("ConvTranspose", (x, weight, bias), groups, &told);
            let case = case.at(&[("N", 2), ("H", 3), ("L", 4)]).at(&[("N", 0), ("H", 4), ("L", 3)]);
            case.check();
        }
    }
    for (x, weight) in
        [("N,2,5", "2,3,3"), ("N,2,L", "2,16,2"), ("N,2,L", "2,5,1"), ("N,2,2,3,2", "2,3,2,2,1")]
    {
        let case = convolution("ConvTranspose", (x, weight, ""), 1, &[]);
        case.at(&[("N", 2), ("L", 4)]).check();
    }
}

#[test]
fn a_transposed_convolution_pads_itself_to_the_shape_it_is_told() {
    let shapes: [&[i64]; 4] = [&[9, 7], &[8, 8], &[10, 6], &[9, 6]];
    for way in ["NOTSET", "SAME_UPPER", "SAME_LOWER"] {
        for shape in shapes.into_iter().chain([&[][..]]) {
            let told = [("strides", &[2, 2][..]), ("output_shape", shape)];
            let case = convolution("ConvTranspose", ("N,2,4,3", "2,3,3,4", ""), 1, &told);
            case.attribute(Attribute::string("auto_pad", way)).at(&[("N", 2)]).check();
        }
    }
}
