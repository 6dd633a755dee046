//! What a graph does with raw tensors, tried before it serves any: does it run, how fast, and is each row computed for itself.
//!
//! Rows of different requests share a call only where that was seen to change nothing. A `tensor` graph whose rows depend
//! on each other, or that none of the made-up tensors suits, gets each request's tensors as they came. Of texts, pictures
//! and sounds it is known that a row is an item: those are cut into calls of the usual size whatever they depend on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use half::f16;
use headstart_types::tensor::{DataType, Tensor, TensorSpec, Values, elements};

use crate::backbone::{LONGEST_CALL, Model};
use crate::call::{Row, Shape};
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
    /// Whether a request may be cut between its rows, each of which is an item.
    pub(crate) by_row: bool,
    /// Whether rows of several requests may share a call.
    pub(crate) joins: bool,
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
            return Ok(Self { by_row: batched, joins: batched && independent, example: None });
        }
        let fixed = graph.signature().inputs.iter().all(|spec| spec.shape.iter().all(Option::is_some));
        let mut failed = String::new();
        for size in SIZES {
            let Some(all) = made_up(&graph.signature().inputs, size, if batched { ROWS } else { 1 }) else {
                continue;
            };
            let outputs: Arc<[usize]> = (0..graph.signature().outputs.len()).collect();
            let example = Tensors::of(graph, &all, batched.then_some((0, 1)), &outputs);
            let mut runs = Runs { graph, quickest: None };
            match runs.run(&[&example]) {
                Ok(_) => {
                    let by_row = batched && rows_are_their_own(&mut runs, &all, &outputs);
                    if batched && !by_row {
                        tracing::info!(model = %model.id, "rows depend on each other: requests are computed one at a time");
                    }
                    runs.teach(model, &example);
                    return Ok(Self { by_row, joins: by_row, example: Some(example) });
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

/// Runs of a graph, timed: the first one allocates, so that the quickest tells its speed.
struct Runs<'a> {
    graph: &'a Graph,
    quickest: Option<(Shape, Duration)>,
}

impl Runs<'_> {
    fn run(&mut self, requests: &[&Tensors]) -> Result<Vec<Row>, String> {
        let started = Instant::now();
        let rows = tensors::run(self.graph, requests, false)?;
        let took = started.elapsed();
        let items = requests.iter().map(|request| request.items()).sum();
        let cost = requests.iter().map(|request| request.cost()).max().unwrap_or(1);
        let shape = Shape { items, padded_length: cost, real_tokens: items * cost };
        let each = |(shape, took): (Shape, Duration)| took.as_secs_f64() / shape.cost().max(1) as f64;
        if self.quickest.is_none_or(|quickest| each((shape, took)) < each(quickest)) {
            self.quickest = Some((shape, took));
        }
        Ok(rows)
    }

    /// What a request costs is known before the first one comes.
    fn teach(mut self, model: &Model, example: &Tensors) {
        if self.quickest.is_some_and(|(_, took)| took < LONGEST_CALL) {
            // It ran before with these tensors; a failure now tells nothing of its speed.
            let _ = self.run(&[example]);
        }
        if let Some((shape, took)) = self.quickest {
            model.learn(shape, took);
        }
    }
}

fn rows_are_their_own(runs: &mut Runs<'_>, all: &[Tensor], outputs: &Arc<[usize]>) -> bool {
    let rows: Vec<Tensors> =
        (0..ROWS).map(|row| Tensors::of(runs.graph, all, Some((row, 1)), outputs)).collect();
    let Ok(together) = runs.run(&rows.iter().collect::<Vec<_>>()) else { return false };
    rows.iter().zip(together).all(|(row, beside)| {
        let Ok(alone) = runs.run(&[row]) else { return false };
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
