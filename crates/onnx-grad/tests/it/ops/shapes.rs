//! The same elements, otherwise arranged.

use crate::support::case::Case;

#[test]
fn a_reshaped_value_gets_its_gradient_back_in_its_own_shape() {
    let shapes: [(&str, &[i64]); 6] = [
        ("N,12", &[0, 3, 4]),
        ("N,L,12", &[0, 0, 3, 4]),
        ("N,L,12", &[-1, 12]),
        ("N,12", &[-1]),
        ("2,6", &[3, 4]),
        ("N,L,4", &[0, -1, 2]),
    ];
    for (x, shape) in shapes {
        Case::op("Reshape").input("x", x).integers("shape", shape).check();
    }
}
