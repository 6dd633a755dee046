//! Whoever runs graphs, as one that tells a differentiation about shapes.

use headstart_onnx::proto::{Model, element};
use headstart_onnx_grad::{INTEGERS_MOST, Observed, Probe, ProbeError, Sample};
use headstart_types::runner::{Form, Runners};
use headstart_types::tensor::{DataType, Tensor, Values};
use prost::Message as _;

/// Element types in the words of both sides.
const TYPES: [(i32, DataType); 8] = [
    (element::FLOAT, DataType::Fp32),
    (element::DOUBLE, DataType::Fp64),
    (element::HALF, DataType::Fp16),
    (element::BOOL, DataType::Bool),
    (element::INT8, DataType::Int8),
    (element::INT32, DataType::Int32),
    (element::INT64, DataType::Int64),
    (element::UINT8, DataType::Uint8),
];

/// Asks whoever is given about shapes.
pub struct Asking<'a>(pub &'a dyn Runners);

impl Probe for Asking<'_> {
    fn run(
        &self,
        model: &Model,
        runs: &[Vec<Sample>],
        values: &[String],
    ) -> Result<Vec<Vec<Option<Observed>>>, ProbeError> {
        let mut runner = self.0.runner(&model.encode_to_vec(), Form::AsWritten)?;
        let names: Vec<&str> = values.iter().map(String::as_str).collect();
        let run = |samples: &Vec<Sample>| -> Result<Vec<Option<Observed>>, ProbeError> {
            let tensors = samples.iter().map(filled).collect::<Result<Vec<_>, _>>()?;
            let inputs: Vec<(&str, &Tensor)> =
                samples.iter().zip(&tensors).map(|(sample, tensor)| (sample.name.as_str(), tensor)).collect();
            Ok(runner.run(&inputs, &names)?.iter().map(observed).collect())
        };
        runs.iter().map(run).collect()
    }
}

/// A tensor with one value everywhere.
fn filled(sample: &Sample) -> Result<Tensor, ProbeError> {
    let count: usize = sample.shape.iter().product();
    let (_, datatype) = TYPES
        .iter()
        .find(|(elements, _)| *elements == sample.elements)
        .ok_or_else(|| format!("`{}` has elements of type {}", sample.name, sample.elements))?;
    let one = match datatype {
        DataType::Fp32 => (sample.value as f32).to_le_bytes().to_vec(),
        DataType::Fp64 => sample.value.to_le_bytes().to_vec(),
        DataType::Fp16 => return Err(format!("`{}` is of 16-bit floats", sample.name).into()),
        DataType::Bool => vec![u8::from(sample.value != 0.0)],
        DataType::Bytes => return Err(format!("`{}` is of strings", sample.name).into()),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Uint8
        | DataType::Uint16
        | DataType::Uint32
        | DataType::Uint64 => {
            let whole = (sample.value as i64).to_le_bytes();
            whole.get(..datatype.size().unwrap_or(1)).unwrap_or_default().to_vec()
        }
    };
    let values = Values::Fixed { datatype: *datatype, bytes: one.repeat(count).into() };
    Ok(Tensor { shape: sample.shape.clone(), values })
}

/// What a tensor shows.
fn observed(tensor: &Tensor) -> Option<Observed> {
    let datatype = tensor.values.datatype();
    let (elements, _) = TYPES.iter().find(|(_, known)| *known == datatype)?;
    let integers = match &tensor.values {
        Values::Fixed { bytes, .. } if tensor.values.count() <= INTEGERS_MOST => whole(datatype, bytes),
        Values::Fixed { .. } | Values::Strings(_) => None,
    };
    Some(Observed { elements: *elements, shape: tensor.shape.clone(), integers })
}

/// Integers and truth values as integers.
fn whole(datatype: DataType, bytes: &[u8]) -> Option<Vec<i64>> {
    macro_rules! each {
        ($kind:ty) => {
            Some(
                bytes
                    .as_chunks::<{ size_of::<$kind>() }>()
                    .0
                    .iter()
                    .filter_map(|value| i64::try_from(<$kind>::from_le_bytes(*value)).ok())
                    .collect(),
            )
        };
    }
    match datatype {
        DataType::Bool | DataType::Uint8 => each!(u8),
        DataType::Int8 => each!(i8),
        DataType::Int16 => each!(i16),
        DataType::Int32 => each!(i32),
        DataType::Int64 => each!(i64),
        DataType::Uint16 => each!(u16),
        DataType::Uint32 => each!(u32),
        DataType::Uint64 => each!(u64),
        DataType::Fp16 | DataType::Fp32 | DataType::Fp64 | DataType::Bytes => None,
    }
}
