//! What a graph says of its inputs and outputs.

use headstart_types::tensor::{DataType, TensorSpec};
use ort::value::{Outlet, TensorElementType, ValueType};

/// A graph's inputs and outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// What it takes, in its own order; all of it is needed.
    pub inputs: Vec<TensorSpec>,
    /// What it gives, in its own order. Outputs of types that the protocol has no name for are left out.
    pub outputs: Vec<TensorSpec>,
    /// Whether the first dimension of every input and output may have any size, one and the same by its name.
    pub(crate) batched: bool,
}

impl Signature {
    /// Reads what the runtime tells of a graph.
    ///
    /// # Errors
    /// An input that is no tensor, or of a type that the protocol has no name for.
    pub(crate) fn of(inputs: &[Outlet], outputs: &[Outlet]) -> Result<Self, String> {
        let given = inputs
            .iter()
            .map(|input| {
                let problem =
                    || format!("input `{}` is of a type that is not taken: {}", input.name(), input.dtype());
                spec(input).ok_or_else(problem)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let taken: Vec<TensorSpec> = outputs.iter().filter_map(spec).collect();
        let free = |spec: &TensorSpec| matches!(spec.shape.first(), Some(None));
        // A name that differs says that the sizes may: rows of one input are not rows of the other then.
        let mut names: Vec<&str> = inputs.iter().filter_map(first_name).collect();
        names.sort_unstable();
        names.dedup();
        let batched = !given.is_empty()
            && taken.len() == outputs.len()
            && given.iter().chain(&taken).all(free)
            && names.len() <= 1;
        Ok(Self { inputs: given, outputs: taken, batched })
    }

    /// The place of an output among [`Signature::outputs`].
    #[must_use]
    pub fn output(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|spec| spec.name == name)
    }
}

fn first_name(outlet: &Outlet) -> Option<&str> {
    let ValueType::Tensor { dimension_symbols, .. } = outlet.dtype() else { return None };
    dimension_symbols.first().map(String::as_str).filter(|name| !name.is_empty())
}

fn spec(outlet: &Outlet) -> Option<TensorSpec> {
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else { return None };
    let shape = shape.iter().map(|size| usize::try_from(*size).ok()).collect();
    Some(TensorSpec { name: outlet.name().to_owned(), datatype: datatype(*ty)?, shape })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the runtime's list grows; types without a name are not taken"
)]
fn datatype(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}
