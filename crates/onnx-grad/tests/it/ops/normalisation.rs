//! Normalisations over axes.

use headstart_onnx::proto::Attribute;

use crate::support::case::Case;

#[test]
fn a_layer_normalisation_has_its_gradients_over_one_axis_and_several() {
    for (axis, shape) in [(-1, "5"), (2, "5"), (1, "3,5")] {
        let case = || Case::op("LayerNormalization").attribute(Attribute::int("axis", axis));
        case().input("x", "N,3,5").input("scale", shape).input("bias", shape).check();
        case().input("x", "N,3,5").input("scale", shape).check();
    }
    let coarse = Case::op("LayerNormalization").attribute(Attribute::number("epsilon", 0.1));
    coarse.input("x", "N,5").input("scale", "5").input("bias", "5").check();
}
