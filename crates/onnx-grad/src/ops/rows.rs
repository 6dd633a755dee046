//! Rows gathered by their numbers, as gathering operators read them: the gradient of each is the sum of all that was
//! made of it. So are those of rows that a loss takes in pairs. Two ways, both adding in one order whatever the number of threads:
//! - few rows, up to [`FEW`]: the product of `OneHot` with the gradients;
//! - else `ScatterElements` that adds. `ScatterND` would need no number for each element, but ONNX Runtime 1.31 adds
//!   there with several threads and no lock, and loses terms where a row was taken twice.

use headstart_onnx::proto::{Attribute, Tensor, element};

use crate::emit::Emit;
use crate::error::GradError;

/// So many rows are better counted by a product than scattered (2,048 rows taken, of 384 numbers, on one core: a product
/// 0.9 ms for 64, scattered 9 ms).
const FEW: usize = 128;

/// A value as rows.
pub(crate) struct Rows {
    /// Their number, as a list of one integer.
    pub(crate) count: String,
    /// The number of elements of each, as a list of one integer.
    pub(crate) width: String,
    /// The type of the elements.
    pub(crate) elements: i32,
}

impl Rows {
    /// `[count, width]`: the sum of the rows of `d` at each number. `numbers` is a list of as many numbers, negative ones
    /// counted from the back, as `d` has rows; `known` is the count, where it does not depend on the graph's inputs.
    pub(super) fn sums(&self, numbers: &str, d: &str, known: Option<usize>, emit: &mut Emit<'_>) -> String {
        if known.is_some_and(|count| count <= FEW) {
            self.counted(numbers, d, emit)
        } else {
            self.scattered(numbers, d, emit)
        }
    }

    /// The same by a product, whatever the count.
    pub(crate) fn counted(&self, numbers: &str, d: &str, emit: &mut Emit<'_>) -> String {
        let choice = emit.constant(Tensor::floats("back/choice", &[2], [0.0, 1.0]));
        let told = vec![Attribute::int("axis", 0)];
        let mut taken = emit.node_with("OneHot", &[numbers, &self.count, &choice], told);
        if self.elements != element::FLOAT {
            let told = vec![Attribute::int("to", i64::from(self.elements))];
            taken = emit.node_with("Cast", &[&taken], told);
        }
        emit.node("MatMul", &[&taken, d])
    }

    fn scattered(&self, numbers: &str, d: &str, emit: &mut Emit<'_>) -> String {
        let shape = emit.list(&[self.count.clone(), self.width.clone()]);
        let zeros = emit.zeros_of(&shape, self.elements);
        let one = emit.integers(&[1]);
        let numbers = emit.node("Unsqueeze", &[numbers, &one]);
        let shape = emit.node("Shape", &[d]);
        let numbers = emit.node("Expand", &[&numbers, &shape]);
        let told = vec![Attribute::int("axis", 0), Attribute::string("reduction", "add")];
        emit.node_with("ScatterElements", &[&zeros, &numbers, d], told)
    }
}

/// How many elements some axes of a forward value have together, as a list of one integer.
///
/// # Errors
/// [`GradError::Unknown`].
pub(super) fn width(value: &str, axes: &[usize], emit: &mut Emit<'_>) -> Result<String, GradError> {
    let fact = emit.fact(value)?;
    let sizes: Option<Vec<usize>> = axes.iter().map(|&axis| fact.size(axis)).collect();
    if let Some(sizes) = sizes {
        return Ok(emit.integers(&[sizes.iter().product::<usize>() as i64]));
    }
    let sizes = emit.sizes_of(value, axes)?;
    if axes.len() == 1 {
        return Ok(sizes);
    }
    Ok(emit.node_with("ReduceProd", &[&sizes], vec![Attribute::int("keepdims", 1)]))
}
