//! Sums of products by letters.

use headstart_onnx::proto::Attribute;

use crate::support::case::Case;

fn einsum(equation: &str, shapes: &[&str]) -> Case {
    let names = ["x", "y", "z"];
    let case = Case::op("Einsum").attribute(Attribute::string("equation", equation));
    names.iter().zip(shapes).fold(case, |case, (name, shape)| case.input(name, shape))
}

#[test]
fn operands_of_products_by_letters_get_their_gradients() {
    let cases: [(&str, &[&str]); 16] = [
        ("ij,jk->ik", &["N,3", "3,2"]),
        ("bhid,bhjd->bhij", &["N,2,L,3", "N,2,L,3"]),
        ("bhij,bhjd->bhid", &["N,2,3,L", "N,2,L,4"]),
        ("bid,d->bi", &["N,L,3", "3"]),
        ("bhwc,hkc->bhwk", &["N,2,3,4", "2,5,4"]),
        ("i,j->ij", &["N", "4"]),
        ("ij,ij->", &["N,3", "N,3"]),
        ("ij,kj", &["N,3", "2,3"]),
        ("...ij,...jk->...ik", &["N,2,3,4", "N,2,4,2"]),
        ("...d,de->...e", &["N,L,3", "3,2"]),
        ("bij->bji", &["N,L,3"]),
        ("bij->bi", &["N,L,3"]),
        ("bij->", &["N,2,3"]),
        ("ij,jk->k", &["N,3", "3,2"]),
        ("ab,bc,cd->ad", &["N,3", "3,2", "2,4"]),
        ("ij, kj -> ki", &["N,1", "2,3"]),
    ];
    for (equation, shapes) in cases {
        // Without an empty batch, of which ONNX Runtime 1.31 divides by the size.
        let sizes = [[("N", 3), ("L", 2)], [("N", 1), ("L", 1)]];
        sizes.iter().fold(einsum(equation, shapes), |case, sizes| case.at(sizes)).check();
    }
}

#[test]
fn a_diagonal_is_refused() {
    let refused = einsum("ii->i", &["3,3"]).differentiate(headstart_onnx::proto::element::FLOAT).unwrap_err();
    assert!(refused.to_string().contains("twice"), "{refused}");
}
