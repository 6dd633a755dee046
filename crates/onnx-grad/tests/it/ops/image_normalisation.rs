//! Normalisations of images by channels and groups of them.

use headstart_onnx::proto::{Attribute, Node, Tensor, element};
use headstart_onnx_grad::GradError;

use crate::support::case::{Case, Kernels};

#[test]
fn a_batch_normalisation_with_frozen_statistics_has_its_gradients() {
    let case = |x: &str| {
        let case = Case::op("BatchNormalization").input("x", x).input("scale", "3").input("bias", "3");
        case.constant("mean", "3", |random| random).constant("variance", "3", |random| random + 1.5)
    };
    for x in ["N,3,2,4", "N,3,L", "N,3", "N,3,H,L", "N,3,2,1,3"] {
        case(x).check();
    }
    case("N,3,2,2").attribute(Attribute::number("epsilon", 0.1)).check();
    for opset in [9, 14, 15, 18] {
        case("N,3,L").opset(opset).check();
    }
    let trains = case("N,3,2,2").attribute(Attribute::int("training_mode", 1));
    let refused = trains.outputs(3).read(&[0]).differentiate(element::FLOAT).unwrap_err().to_string();
    assert!(refused.contains("its statistics are those of the batch"), "{refused}");
}

/// What normalises `groups` groups of three channels in all: mean and variance of `[N, groups, …]`.
fn written_out(channels: i64, groups: i64, axes: usize, epsilon: f64) -> (Vec<Node>, Vec<Tensor>) {
    let keep = || vec![Attribute::int("keepdims", 1)];
    let shape = |name: &str, lead: &[i64]| {
        let sizes = [lead, vec![1; axes].as_slice()].concat();
        Tensor::integers(name, &[sizes.len()], sizes)
    };
    let nodes = vec![
        Node::new("Reshape", &["x", "grouped"], &["parted"], Vec::new()),
        Node::new("ReduceMean", &["parted", "rest"], &["mean"], keep()),
        Node::new("Sub", &["parted", "mean"], &["centred"], Vec::new()),
        Node::new("Mul", &["centred", "centred"], &["square"], Vec::new()),
        Node::new("ReduceMean", &["square", "rest"], &["variance"], keep()),
        Node::new("Add", &["variance", "epsilon"], &["above"], Vec::new()),
        Node::new("Sqrt", &["above"], &["deviation"], Vec::new()),
        Node::new("Div", &["centred", "deviation"], &["normal"], Vec::new()),
        Node::new("Shape", &["x"], &["shape"], Vec::new()),
        Node::new("Reshape", &["normal", "shape"], &["whole"], Vec::new()),
        Node::new("Reshape", &["scale", "broad"], &["slopes"], Vec::new()),
        Node::new("Reshape", &["bias", "broad"], &["levels"], Vec::new()),
        Node::new("Mul", &["whole", "slopes"], &["scaled"], Vec::new()),
        Node::new("Add", &["scaled", "levels"], &["made0"], Vec::new()),
    ];
    let constants = vec![
        Tensor::integers("grouped", &[3], [0, groups, -1]),
        Tensor::integers("rest", &[1], [2]),
        Tensor::doubles("epsilon", &[], [f64::from(epsilon as f32)]),
        shape("broad", &[channels]),
    ];
    (nodes, constants)
}

#[test]
fn an_instance_normalisation_has_its_gradients() {
    for (x, axes) in [("N,3,4,5", 2), ("N,3,L", 1), ("N,3,H,L", 2), ("N,3,2,2,L", 3)] {
        let (nodes, constants) = written_out(3, 3, axes, 1e-2);
        let case = Case::op("InstanceNormalization").attribute(Attribute::number("epsilon", 1e-2));
        let case = case.reference(nodes, constants).input("x", x).input("scale", "3").input("bias", "3");
        case.at(&[("N", 2), ("H", 3), ("L", 5)]).at(&[("N", 1), ("H", 5), ("L", 4)]).check();
    }
    // An empty batch has no groups to be written out.
    let case = Case::op("InstanceNormalization").kernels(Kernels::Single);
    case.input("x", "N,3,L").input("scale", "3").input("bias", "3").at(&[("N", 0), ("L", 5)]).check();
}

#[test]
fn a_group_normalisation_by_groups_and_one_of_channels_alone_are_refused() {
    let case = |opset, x: &str, scale: &str| {
        let case = Case::op("GroupNormalization").opset(opset).attribute(Attribute::int("num_groups", 2));
        let case = case.input("x", x).input("scale", scale).input("bias", scale);
        case.differentiate(element::FLOAT).unwrap_err()
    };
    for (refused, reason) in [
        (case(18, "N,6,L", "2"), "its scale and bias are by groups"),
        (case(21, "N,6", "6"), "what it reads has channels alone"),
    ] {
        let GradError::Unsupported(refused) = refused else { panic!("{refused:?}") };
        assert_eq!(refused[0].reason, reason);
    }
}

#[test]
fn a_group_normalisation_has_its_gradients() {
    for (x, axes, groups) in
        [("N,6,2,3", 2, 2), ("N,6,L", 1, 3), ("N,6,H,L", 2, 2), ("N,6,L", 1, 6), ("N,6,L", 1, 1)]
    {
        let (nodes, constants) = written_out(6, groups, axes, 1e-2);
        let case = Case::op("GroupNormalization").attribute(Attribute::int("num_groups", groups));
        let case = case.attribute(Attribute::number("epsilon", 1e-2)).reference(nodes, constants);
        let case = case.input("x", x).input("scale", "6").input("bias", "6");
        case.at(&[("N", 2), ("H", 3), ("L", 5)]).at(&[("N", 1), ("H", 5), ("L", 4)]).check();
        // Of none, neither the reference nor the runtime, which writes the node out, can tell the size of a group.
        let empty = Case::op("GroupNormalization").attribute(Attribute::int("num_groups", groups));
        let empty = empty.kernels(Kernels::DoubleForward).no_empty();
        let empty = empty.input("x", x).input("scale", "6").input("bias", "6");
        empty.at(&[("N", 0), ("H", 3), ("L", 5)]).check();
    }
}
