//! Operators whose pages changed in the newest operator sets, in each of these: what was added to them must change nothing
//! of what is covered. All others are checked in the newest set beside an older one wherever a case states none.

use headstart_onnx::proto::{Attribute, Model, Node, Tensor, element};
use headstart_onnx_grad::ops::NEWEST_OPSET;
use headstart_onnx_grad::{GradError, Graph};

use crate::graphs::{drawn, model, training};
use crate::support::case::{Case, Kernels};

/// From the first set above the usual one to the newest.
fn sets() -> impl Iterator<Item = i64> {
    22..=NEWEST_OPSET
}

fn list(name: &str, values: &[i64]) -> Attribute {
    Attribute::ints(name, values.to_vec())
}

#[test]
fn convolutions_and_pools_of_the_newest_sets_have_their_gradients() {
    for set in sets() {
        let case = |op| Case::op(op).opset(set);
        let fixed = |op| case(op).attribute(list("pads", &[1, 0, 1, 1])).linear();
        fixed("Conv").input("x", "N,2,7,6").input("weight", "3,2,3,2").input("bias", "3").check();
        fixed("ConvTranspose").input("x", "N,2,7,6").input("weight", "2,3,3,2").input("bias", "3").check();
        let pool = |op| case(op).attribute(list("kernel_shape", &[3, 2])).attribute(list("strides", &[2, 1]));
        pool("MaxPool").input("x", "N,2,7,6").check();
        pool("AveragePool").linear().input("x", "N,2,7,6").check();
        case("GlobalAveragePool").linear().input("x", "N,3,4,5").check();
        let largest = Node::new("ReduceMax", &["x", "axes"], &["made0"], Vec::new());
        let pool =
            case("GlobalMaxPool").reference(vec![largest], vec![Tensor::integers("axes", &[2], [2, 3])]);
        pool.input("x", "N,3,4,5").check();
    }
}

#[test]
fn functions_and_normalisations_of_the_newest_sets_have_their_gradients() {
    for set in sets() {
        let case = |op| Case::op(op).opset(set);
        case("Relu").input_of("x", "N,7", |random| random + 0.2 * random.signum()).check();
        case("Softplus").kernels(Kernels::Single).input("x", "N,7").check();
        case("Elu").kernels(Kernels::Single).input("x", "N,7").check();
        case("HardSigmoid").kernels(Kernels::Single).input("x", "N,7").check();
        case("HardSwish").kernels(Kernels::Single).input("x", "N,7").check();
        case("LayerNormalization").input("x", "N,3,5").input("scale", "5").input("bias", "5").check();
        let image = case("InstanceNormalization").kernels(Kernels::Single).input("x", "N,3,L");
        image.input("scale", "3").input("bias", "3").at(&[("N", 2), ("L", 5)]).check();
    }
}

#[test]
fn elements_rearranged_by_the_newest_sets_get_their_gradients() {
    for set in sets() {
        let case = |op| Case::op(op).opset(set);
        case("Identity").input("x", "N,3").check();
        case("Reshape").input("x", "N,12").integers("shape", &[0, 3, 4]).check();
        case("Transpose").attribute(list("perm", &[0, 2, 1])).input("x", "N,L,2").check();
        case("Flatten").input("x", "N,2,3").check();
        case("Squeeze").input("x", "N,1,L").integers("axes", &[1]).check();
        case("Unsqueeze").input("x", "N,L").integers("axes", &[0, -1]).check();
        for mode in ["constant", "reflect", "edge", "wrap"] {
            let pad = case("Pad").attribute(Attribute::string("mode", mode));
            let pad = if mode == "wrap" { pad.no_empty() } else { pad };
            pad.input("x", "N,4").integers("pads", &[0, 1, 0, 2]).check();
        }
    }
}

#[test]
fn a_set_newer_than_those_that_are_known_is_refused() {
    let of = |opset| -> Model {
        let nodes = vec![Node::new("Mul", &["x", "w"], &["y"], Vec::new())];
        model(opset, "N,2", nodes, vec![drawn("w", &[2])])
    };
    assert!(training(&Graph::new(of(NEWEST_OPSET)).unwrap(), &["w"]).is_ok());
    // The runtime may not read it either: it is asked first.
    let newer = training(&Graph::new(of(NEWEST_OPSET + 1)).unwrap(), &["w"]);
    match newer {
        Err(GradError::Unsupported(found)) => assert_eq!(found[0].opset, NEWEST_OPSET + 1),
        Err(GradError::Probe(_)) => {}
        other => panic!("{other:?}"),
    }
}

/// What a lowering writes of each operator that the kernels of the service are for.
#[test]
fn operators_that_have_kernels_are_checked_with_them() {
    use crate::support::check::is_in_kernels;
    use headstart_onnx_grad::lower;
    let written = |case: Case| is_in_kernels(&case.lowered(element::FLOAT, &lower::Kernels).unwrap());
    let cases = [
        Case::op("Relu").input("x", "N,3"),
        Case::op("Clip").input("x", "N,3").constant("low", "", |_| -0.5),
        Case::op("Gelu").input("x", "N,3"),
        Case::op("Softmax").input("x", "N,3"),
        Case::op("LayerNormalization").input("x", "N,3").input("scale", "3").input("bias", "3"),
        Case::op("Conv").input("x", "N,2,5,5").input("weight", "3,2,3,3").input("bias", "3"),
        Case::op("Gemm").input("a", "N,3").input("b", "3,2").input("c", "2"),
    ];
    assert!(cases.into_iter().all(written));
    assert!(!written(Case::op("Tanh").input("x", "N,3")));
}
