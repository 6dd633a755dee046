//! Raw tensors through the graph: those of several requests as one call, each with its own rows back.

use std::sync::Arc;

use half::f16;
use headstart_types::tensor::{DataType, Tensor, Values, elements};
use ort::session::SessionInputValue;
use ort::value::DynValue;

use crate::call::Row;
use crate::reads::Reads;
use crate::session::{Ask, Graph};

/// A tensor for each of a graph's inputs, and the outputs that are asked for.
#[derive(Debug, Clone)]
pub struct Tensors {
    /// In the graph's order.
    inputs: Vec<Tensor>,
    /// Places in the signature, in the order of the answer.
    outputs: Arc<[usize]>,
    /// Rows along the first dimension; `None` where the tensors are one whole.
    rows: Option<usize>,
    /// Whether rows of other requests may share its call.
    joins: bool,
    /// What a row costs, or the whole.
    cost: usize,
}

impl Tensors {
    /// Rows `start..start + rows` where `rows` are given, else all of it as one whole.
    pub(crate) fn of(
        graph: &Graph,
        inputs: &[Tensor],
        part: Option<(usize, usize)>,
        outputs: &Arc<[usize]>,
    ) -> Self {
        let inputs: Vec<Tensor> = match part {
            Some((start, rows)) => inputs.iter().map(|tensor| tensor.rows(start, rows)).collect(),
            None => inputs.to_vec(),
        };
        let rows = part.map(|(_, rows)| rows);
        let shapes: Vec<&[usize]> = inputs.iter().map(|tensor| tensor.shape.as_slice()).collect();
        let cost = cost(graph, &shapes, rows.is_some());
        Self { inputs, outputs: Arc::clone(outputs), rows, joins: rows.is_some(), cost }
    }

    /// Rows of one input of numbers, for tests of the batcher.
    #[cfg(test)]
    pub(crate) fn made_up(shape: &[usize], rows: Option<usize>) -> Self {
        let bytes = vec![0; shape.iter().product::<usize>()].into();
        let values = Values::Fixed { datatype: DataType::Uint8, bytes };
        let cost = shape.get(1..).map_or(1, |row| row.iter().product());
        let inputs = vec![Tensor { shape: shape.to_vec(), values }];
        Self { inputs, outputs: Arc::from([0]), rows, joins: rows.is_some(), cost }
    }

    /// The same, with a call of its own.
    pub(crate) fn apart(self) -> Self {
        Self { joins: false, ..self }
    }

    /// What the batcher counts as items.
    pub(crate) fn items(&self) -> usize {
        self.rows.unwrap_or(1)
    }

    /// What an item costs.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Whether rows of both may share a call: neither is kept apart, and all dimensions but the first are the same.
    pub(crate) fn joins(&self, other: &Self) -> bool {
        let mut pairs = self.inputs.iter().zip(&other.inputs);
        let alike = |(one, two): (&Tensor, &Tensor)| one.shape.get(1..) == two.shape.get(1..);
        self.joins && other.joins && pairs.all(alike)
    }
}

/// What an item costs, in the unit of the graph's other items: tokens, pictures, or elements.
pub(crate) fn cost(graph: &Graph, shapes: &[&[usize]], by_row: bool) -> usize {
    let of = |shape: &&[usize]| {
        let dimensions = if by_row { shape.get(1..).unwrap_or_default() } else { shape };
        elements(dimensions).unwrap_or(usize::MAX)
    };
    let cost = match graph.reads() {
        Reads::Tokens(_) => shapes.first().map_or(1, of),
        Reads::Dense(_) => 1,
        Reads::Signals(_) | Reads::Raw => shapes.iter().map(of).fold(0, usize::saturating_add),
    };
    cost.max(1)
}

/// Runs requests as one call; rows come back in the order of the requests.
///
/// # Errors
/// ONNX Runtime's message, or an output that has not as many rows as went in.
pub(crate) fn run(graph: &Graph, requests: &[&Tensors], give_back: bool) -> Result<Vec<Row>, String> {
    let signature = graph.signature();
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for (place, spec) in signature.inputs.iter().enumerate() {
        let parts: Option<Vec<&Tensor>> = requests.iter().map(|request| request.inputs.get(place)).collect();
        let parts = parts.ok_or_else(|| format!("input `{}` is missing", spec.name))?;
        inputs.push((spec.name.as_str().into(), value(spec.datatype, &parts)?));
    }
    let mut wanted: Vec<usize> =
        requests.iter().flat_map(|request| request.outputs.iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let specs: Option<Vec<_>> = wanted.iter().map(|place| signature.outputs.get(*place)).collect();
    let specs = specs.ok_or("an output that the graph does not have")?;
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let items: usize = requests.iter().map(|request| request.items()).sum();
    graph.run(inputs, Ask { give_back, outputs: Some(&names) }, |outputs| {
        let mut given = Vec::with_capacity(specs.len());
        for spec in &specs {
            let value =
                outputs.get(&spec.name).ok_or_else(|| format!("the graph gave no output `{}`", spec.name))?;
            let tensor = read(value, spec.datatype)?;
            if requests.len() > 1 && tensor.shape.first() != Some(&items) {
                return Err(format!("output `{}` has shape {:?} for {items} rows", spec.name, tensor.shape));
            }
            given.push(tensor);
        }
        let mut start = 0;
        let rows = requests.iter().map(|request| {
            let of = |place: &usize| {
                let tensor = wanted.binary_search(place).ok().and_then(|found| given.get(found))?;
                Some(if requests.len() > 1 { tensor.rows(start, request.items()) } else { tensor.clone() })
            };
            let tensors = request.outputs.iter().map(of).collect::<Option<Vec<_>>>();
            start += request.items();
            Ok(Row { tensors: tensors.ok_or("an output went missing")?, ..Row::default() })
        });
        rows.collect()
    })
}

/// One value for the runtime of all parts, one behind the other along the first dimension.
pub(crate) fn value(datatype: DataType, parts: &[&Tensor]) -> Result<SessionInputValue<'static>, String> {
    let mut shape = parts.first().ok_or("a call without items")?.shape.clone();
    if parts.len() > 1
        && let Some(rows) = shape.first_mut()
    {
        *rows = parts.iter().filter_map(|part| part.shape.first()).sum();
    }
    macro_rules! tensor {
        ($type:ty, $read:expr) => {{
            let mut all: Vec<$type> = Vec::with_capacity(elements(&shape).unwrap_or_default());
            for part in parts {
                let Values::Fixed { bytes, .. } = &part.values else {
                    return Err("strings for an input of numbers".into());
                };
                all.extend(bytes.as_chunks::<{ size_of::<$type>() }>().0.iter().map($read));
            }
            ort::value::Tensor::from_array((shape, all)).map(SessionInputValue::from)
        }};
    }
    let made = match datatype {
        DataType::Bool => tensor!(bool, |byte| *byte != [0]),
        DataType::Uint8 => tensor!(u8, |bytes| u8::from_le_bytes(*bytes)),
        DataType::Uint16 => tensor!(u16, |bytes| u16::from_le_bytes(*bytes)),
        DataType::Uint32 => tensor!(u32, |bytes| u32::from_le_bytes(*bytes)),
        DataType::Uint64 => tensor!(u64, |bytes| u64::from_le_bytes(*bytes)),
        DataType::Int8 => tensor!(i8, |bytes| i8::from_le_bytes(*bytes)),
        DataType::Int16 => tensor!(i16, |bytes| i16::from_le_bytes(*bytes)),
        DataType::Int32 => tensor!(i32, |bytes| i32::from_le_bytes(*bytes)),
        DataType::Int64 => tensor!(i64, |bytes| i64::from_le_bytes(*bytes)),
        DataType::Fp16 => tensor!(f16, |bytes| f16::from_le_bytes(*bytes)),
        DataType::Fp32 => tensor!(f32, |bytes| f32::from_le_bytes(*bytes)),
        DataType::Fp64 => tensor!(f64, |bytes| f64::from_le_bytes(*bytes)),
        DataType::Bytes => {
            // The runtime's library wants strings of its own.
            let mut strings: Vec<String> = Vec::with_capacity(elements(&shape).unwrap_or_default());
            for part in parts {
                let Values::Strings(more) = &part.values else {
                    return Err("numbers for an input of strings".into());
                };
                strings.extend_from_slice(more);
            }
            ort::value::Tensor::from_string_array((shape, strings.as_slice())).map(SessionInputValue::from)
        }
    };
    made.map_err(|error| error.to_string())
}

/// Takes an output from where the runtime left it.
pub(crate) fn read(value: &DynValue, datatype: DataType) -> Result<Tensor, String> {
    macro_rules! tensor {
        ($type:ty, $write:expr) => {{
            let (shape, data) = value.try_extract_tensor::<$type>().map_err(|error| error.to_string())?;
            let mut bytes = vec![0; size_of_val(data)];
            let places = bytes.as_chunks_mut::<{ size_of::<$type>() }>().0;
            places.iter_mut().zip(data).for_each(|(place, value)| *place = $write(*value));
            (shape, Values::Fixed { datatype, bytes: bytes.into() })
        }};
    }
    let (shape, values) = match datatype {
        DataType::Bool => tensor!(bool, |value| [u8::from(value)]),
        DataType::Uint8 => tensor!(u8, u8::to_le_bytes),
        DataType::Uint16 => tensor!(u16, u16::to_le_bytes),
        DataType::Uint32 => tensor!(u32, u32::to_le_bytes),
        DataType::Uint64 => tensor!(u64, u64::to_le_bytes),
        DataType::Int8 => tensor!(i8, i8::to_le_bytes),
        DataType::Int16 => tensor!(i16, i16::to_le_bytes),
        DataType::Int32 => tensor!(i32, i32::to_le_bytes),
        DataType::Int64 => tensor!(i64, i64::to_le_bytes),
        DataType::Fp16 => tensor!(f16, f16::to_le_bytes),
        DataType::Fp32 => tensor!(f32, f32::to_le_bytes),
        DataType::Fp64 => tensor!(f64, f64::to_le_bytes),
        DataType::Bytes => {
            let (shape, strings) = value.try_extract_strings().map_err(|error| error.to_string())?;
            (shape, Values::Strings(strings))
        }
    };
    Ok(Tensor { shape: shape.iter().filter_map(|size| usize::try_from(*size).ok()).collect(), values })
}
