//! What a graph does with raw tensors, tried before it serves any: does it run, and is each row computed for itself.
//!
//! Rows of different requests share a call only where that was seen to change nothing. A graph whose rows depend on
//! each other, or that none of the made-up tensors suits, gets each request's tensors as they came.

use std::sync::Arc;

use half::f16;
use headstart_types::tensor::{DataType, Tensor, TensorSpec, Values, elements};

use crate::backbone::Model;
use crate::reads::Reads;
use crate::session::Graph;
use crate::tensors::{self, Tensors};

/// Sizes tried for dimensions other than the first that may have any.
const SIZES: [usize; 4] = [8, 64, 224, 1];

/// Most elements of a made-up tensor: several free dimensions multiply.
const MOST_ELEMENTS: usize = 1 << 20;

/// Rows that are computed alone and together.
const ROWS: usize = 3;

/// How far a number may be off, of the largest one's size: other kernels add in another order.
const TOLERANCE: f64 = 1e-4;

/// What was seen of a graph.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// Whether rows may share a call.
    pub(crate) by_row: bool,
    /// The smallest tensors it is known to take.
    pub(crate) example: Option<Tensors>,
}

impl Trial {
    /// Tries a graph. What reads texts, pictures or sounds was tried before: `independent` says that nothing was seen there of
    /// items that depend on each other.
    ///
    /// # Errors
    /// ONNX Runtime's message where the graph fails though it leaves no size open.
    pub(crate) fn of(model: &Model, independent: bool) -> Result<Self, String> {
        let graph = &model.graph;
        let batched = graph.signature().batched;
        if !matches!(graph.reads(), Reads::Raw) {
            return Ok(Self { by_row: batched && independent, example: None });
        }
        let fixed = graph.signature().inputs.iter().all(|spec| spec.shape.iter().all(Option::is_some));
        let mut failed = String::new();
        for size in SIZES {
            let Some(all) = made_up(&graph.signature().inputs, size, if batched { ROWS } else { 1 }) else {
                continue;
            };
            let outputs: Arc<[usize]> = (0..graph.signature().outputs.len()).collect();
            let example = Tensors::of(graph, &all, batched.then_some((0, 1)), &outputs);
            match tensors::run(graph, &[&example], false) {
                Ok(_) => {
                    let by_row = batched && rows_are_their_own(graph, &all, &outputs);
                    if batched && !by_row {
                        tracing::info!(model = %model.id, "rows depend on each other: requests are computed one at a time");
                    }
                    return Ok(Self { by_row, example: Some(example) });
                }
                Err(message) => failed = message,
            }
        }
        if fixed {
            return Err(failed);
        }
        tracing::info!(model = %model.id, "no made-up tensors suit the graph: requests are computed one at a time");
        Ok(Self::default())
    }
}

fn rows_are_their_own(graph: &Graph, all: &[Tensor], outputs: &Arc<[usize]>) -> bool {
    let rows: Vec<Tensors> = (0..ROWS).map(|row| Tensors::of(graph, all, Some((row, 1)), outputs)).collect();
    let Ok(together) = tensors::run(graph, &rows.iter().collect::<Vec<_>>(), false) else { return false };
    rows.iter().zip(together).all(|(row, beside)| {
        let Ok(alone) = tensors::run(graph, &[row], false) else { return false };
        alone.first().is_some_and(|alone| {
            alone.tensors.len() == beside.tensors.len()
                && alone.tensors.iter().zip(&beside.tensors).all(|(one, other)| alike(one, other))
        })
    })
}

/// Tensors that may suit the graph; whole numbers are 0 or 1, which are good places in most tables.
fn made_up(inputs: &[TensorSpec], size: usize, rows: usize) -> Option<Vec<Tensor>> {
    inputs
        .iter()
        .map(|spec| {
            let free = |place: usize| if place == 0 { rows } else { size };
            let shape: Vec<usize> =
                spec.shape.iter().enumerate().map(|(place, size)| size.unwrap_or(free(place))).collect();
            let count = elements(&shape).filter(|count| *count <= MOST_ELEMENTS.max(least(spec) * rows))?;
            Some(Tensor { values: values(spec.datatype, count), shape })
        })
        .collect()
}

/// Elements of a row that has none but the sizes that the graph wants.
fn least(spec: &TensorSpec) -> usize {
    spec.shape.iter().flatten().fold(1, |product: usize, size| product.saturating_mul(*size))
}

fn values(datatype: DataType, count: usize) -> Values {
    // Spread over 0…1, and no two rows alike.
    let share =
        |place: usize| ((place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 24);
    let bit = |place: usize| u8::from(share(place) < 0.5);
    if datatype == DataType::Bytes {
        return Values::Strings(
            (0..count).map(|place| ["a", "b"][usize::from(bit(place))].to_owned()).collect(),
        );
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(count * datatype.size().unwrap_or(1));
    for place in 0..count {
        if datatype == DataType::Fp16 {
            bytes.extend_from_slice(&f16::from_f64(share(place)).to_le_bytes());
        } else if datatype == DataType::Fp32 {
            bytes.extend_from_slice(&(share(place) as f32).to_le_bytes());
        } else if datatype == DataType::Fp64 {
            bytes.extend_from_slice(&share(place).to_le_bytes());
        } else {
            bytes.push(bit(place));
            bytes.resize(bytes.len() + datatype.size().unwrap_or(1) - 1, 0);
        }
    }
    Values::Fixed { datatype, bytes: bytes.into() }
}

fn alike(one: &Tensor, other: &Tensor) -> bool {
    if one.shape != other.shape {
        return false;
    }
    let (Some(left), Some(right)) = (floats(&one.values), floats(&other.values)) else {
        return one.values == other.values;
    };
    let largest = left
        .iter()
        .chain(&right)
        .filter(|value| value.is_finite())
        .fold(0.0f64, |most, value| most.max(value.abs()));
    left.len() == right.len()
        && left.iter().zip(&right).all(|(left, right)| {
            left == right || (left.is_nan() && right.is_nan()) || (left - right).abs() <= TOLERANCE * largest
        })
}

/// The numbers of a tensor of floats; `None` for any other.
fn floats(values: &Values) -> Option<Vec<f64>> {
    let Values::Fixed { datatype, bytes } = values else { return None };
    match datatype {
        DataType::Fp16 => {
            Some(bytes.as_chunks().0.iter().map(|value| f16::from_le_bytes(*value).to_f64()).collect())
        }
        DataType::Fp32 => {
            Some(bytes.as_chunks().0.iter().map(|value| f64::from(f32::from_le_bytes(*value))).collect())
        }
        DataType::Fp64 => Some(bytes.as_chunks().0.iter().map(|value| f64::from_le_bytes(*value)).collect()),
        DataType::Bool
        | DataType::Uint8
        | DataType::Uint16
        | DataType::Uint32
        | DataType::Uint64
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Bytes => None,
    }
}
