//! Margins put around values and cut off.

use headstart_onnx::proto::Attribute;

use crate::support::case::Case;

fn mode(mode: &str) -> Case {
    Case::op("Pad").attribute(Attribute::string("mode", mode))
}

#[test]
fn what_was_surrounded_gets_its_gradient_without_the_margin() {
    Case::op("Pad").input("x", "N,3").integers("pads", &[0, 1, 0, 2]).check();
    Case::op("Pad").input("x", "N,L,3").integers("pads", &[1, 2, -1, 0, 0, 2]).opset(13).check();
    Case::op("Pad").input("x", "N,5,4").integers("pads", &[0, -1, -2, 0, -1, 1]).check();
    Case::op("Pad")
        .input("x", "N,4")
        .integers("pads", &[0, 1, 0, 2])
        .constant("filling", "", |_| 0.5)
        .check();
    Case::op("Pad").input("x", "N,4,2").integers("pads", &[1, 2]).left_out().integers("axes", &[-2]).check();
}

#[test]
fn margins_of_older_operator_sets_are_read() {
    Case::op("Pad").opset(10).attribute(Attribute::ints("pads", vec![0, 1, 0, 2])).input("x", "N,3").check();
}

#[test]
fn a_filling_gets_the_sum_of_the_margin() {
    Case::op("Pad").input("x", "N,4").integers("pads", &[0, 1, 2, -1]).input("filling", "").check();
}

#[test]
fn margins_that_callers_choose_are_taken_off() {
    Case::op("Pad").input("x", "N,4").indices("pads", "4", 3).check();
}

#[test]
fn what_was_copied_into_a_margin_gets_its_gradient_too() {
    for copied in ["reflect", "edge", "wrap"] {
        // Of an empty batch the runtime does not know the last mode.
        let case = || if copied == "wrap" { mode(copied).no_empty() } else { mode(copied) };
        case().input("x", "N,4").integers("pads", &[0, 1, 0, 2]).check();
        case().input("x", "N,2,5,4").integers("pads", &[0, 0, 3, 1, 0, 0, 2, 3]).check();
        case().input("x", "N,4,3").integers("pads", &[0, 2, 0, 0, 1, 0]).opset(19).check();
        case().input("x", "N,5").integers("pads", &[2, 1]).left_out().integers("axes", &[1]).check();
        mode(copied)
            .input("x", "2,L")
            .integers("pads", &[0, 2, 0, 1])
            .at(&[("L", 3)])
            .at(&[("L", 6)])
            .check();
    }
    for copied in ["edge", "reflect"] {
        mode(copied).opset(13).input("x", "N,3").integers("pads", &[0, 1, 0, 0]).check();
        mode(copied).input("x", "N,5,4").integers("pads", &[0, -1, 2, 0, -2, 1]).check();
    }
    mode("edge").input("x", "N,1").integers("pads", &[0, 3, 0, 2]).check();
    mode("edge").input("x", "N,L").integers("pads", &[0, 3, 0, 2]).check();
}
