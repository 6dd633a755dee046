//! Windows of images pooled, and whole images.

use headstart_onnx::proto::{Attribute, Node, Tensor, element};

use crate::support::case::Case;

/// A pool told some integers for each axis.
fn pool(op: &'static str, x: &str, told: &[(&str, &[i64])]) -> Case {
    let told = told.iter().filter(|(_, values)| !values.is_empty());
    let case = told
        .fold(Case::op(op), |case, (name, values)| case.attribute(Attribute::ints(name, values.to_vec())));
    case.input("x", x)
}

fn check(case: Case) {
    let case = case.at(&[("N", 2), ("H", 7), ("L", 6)]).at(&[("N", 1), ("H", 6), ("L", 9)]);
    case.at(&[("N", 0), ("H", 8), ("L", 7)]).check();
}

/// Kernel, strides, dilations, pads.
const SETTINGS: [[&[i64]; 4]; 9] = [
    [&[2, 2], &[2, 2], &[], &[]],
    [&[3, 3], &[2, 2], &[], &[1, 1, 1, 1]],
    [&[3, 3], &[1, 1], &[], &[1, 1, 1, 1]],
    [&[3, 2], &[], &[], &[]],
    [&[3, 2], &[3, 2], &[], &[0, 1, 2, 0]],
    [&[2, 3], &[3, 3], &[], &[1, 0, 0, 2]],
    [&[2, 2], &[1, 2], &[2, 3], &[1, 0, 1, 1]],
    [&[3, 2], &[1, 1], &[], &[2, 0, 0, 1]],
    [&[2, 2], &[3, 1], &[], &[]],
];

#[test]
fn the_largest_of_a_window_gets_its_gradient_and_all_of_those_where_windows_overlap() {
    for [kernel, strides, dilations, pads] in SETTINGS {
        let told = [("kernel_shape", kernel), ("strides", strides), ("dilations", dilations), ("pads", pads)];
        for up in [0, 1] {
            for x in ["N,2,7,7", "N,1,H,L"] {
                check(pool("MaxPool", x, &told).attribute(Attribute::int("ceil_mode", up)));
            }
        }
    }
    for (kernel, strides) in [(2, 2), (3, 1), (3, 2)] {
        let told: [(&str, &[i64]); 2] = [("kernel_shape", &[kernel]), ("strides", &[strides])];
        check(pool("MaxPool", "N,2,L", &told));
        check(pool("MaxPool", "N,2,7", &told).attribute(Attribute::string("auto_pad", "SAME_UPPER")));
        check(pool("MaxPool", "N,2,7", &told).opset(10));
    }
    check(pool("MaxPool", "N,2,3,4,5", &[("kernel_shape", &[2, 2, 2]), ("strides", &[1, 2, 2])]));
}

#[test]
fn indices_that_someone_reads_stay_as_they_are_counted() {
    for order in [0, 1] {
        let case = pool("MaxPool", "N,2,4,6", &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])]);
        let case = case.attribute(Attribute::int("storage_order", order)).outputs(2).read(&[0]);
        case.check();
    }
}

#[test]
fn an_average_parts_its_gradient_among_what_it_counts() {
    for [kernel, strides, dilations, pads] in SETTINGS {
        let told = [("kernel_shape", kernel), ("strides", strides), ("dilations", dilations), ("pads", pads)];
        for (pads, up) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            for x in ["N,2,7,7", "N,1,H,L"] {
                let case = pool("AveragePool", x, &told).linear();
                let case = case.attribute(Attribute::int("count_include_pad", pads));
                check(case.attribute(Attribute::int("ceil_mode", up)));
            }
        }
    }
    for (kernel, strides) in [(2, 2), (3, 1), (3, 2)] {
        let told: [(&str, &[i64]); 2] = [("kernel_shape", &[kernel]), ("strides", &[strides])];
        check(pool("AveragePool", "N,2,L", &told).linear());
        for way in ["SAME_UPPER", "SAME_LOWER"] {
            let case = pool("AveragePool", "N,2,7", &told).linear();
            check(case.attribute(Attribute::string("auto_pad", way)));
        }
        check(pool("AveragePool", "N,2,7", &told).linear().opset(11));
    }
    check(
        pool("AveragePool", "N,2,3,4,5", &[("kernel_shape", &[2, 2, 2]), ("strides", &[1, 2, 2])]).linear(),
    );
}

#[test]
fn whole_images_pooled_have_their_gradients() {
    for x in ["N,3,4,5", "N,2,H,L", "N,2,L", "N,2,2,3,L"] {
        Case::op("GlobalAveragePool").input("x", x).linear().check();
        let spatial = 2..x.split(',').count() as i64;
        let axes = Tensor::integers("axes", &[spatial.clone().count()], spatial);
        let largest = Node::new("ReduceMax", &["x", "axes"], &["made0"], Vec::new());
        Case::op("GlobalMaxPool").input("x", x).reference(vec![largest], vec![axes]).check();
    }
}

#[test]
fn a_pool_that_cannot_be_followed_is_refused() {
    let told: [(&str, &[i64]); 2] = [("kernel_shape", &[3, 3]), ("strides", &[2, 2])];
    let case = pool("AveragePool", "N,2,H,8", &told).attribute(Attribute::string("auto_pad", "SAME_LOWER"));
    let refused = case.differentiate(element::FLOAT).unwrap_err().to_string();
    assert!(refused.contains("`auto_pad` depends on the graph's inputs"), "{refused}");
}
