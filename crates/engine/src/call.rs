//! One call of ONNX Runtime: items assembled into tensors, rows read back.

use std::time::{Duration, Instant};

use headstart_types::manifest::Pooling;
use ort::session::SessionOutputs;
use ort::value::TensorRef;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::EngineError;
use crate::pool::{normalise, pool};
use crate::session::{Graph, Reads};

/// What one item feeds to the graph.
#[derive(Debug, Clone)]
pub enum Input {
    /// A token sequence; type ids default to zero.
    Tokens {
        /// Ids in the model's vocabulary.
        ids: Vec<u32>,
        /// Segment of each token, where the model distinguishes any.
        type_ids: Option<Vec<u32>>,
    },
    /// A dense tensor of the graph's own item shape, in row order.
    Dense(Vec<f32>),
}

impl Input {
    /// Cost of the item: its tokens, or one.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Tokens { ids, .. } => ids.len(),
            Self::Dense(_) => 1,
        }
    }
}

/// Which outputs an item's row should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The pooled embedding.
    pub features: bool,
    /// The source head's logits.
    pub logits: bool,
}

/// Who is waiting: people come before background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Class {
    /// A request that somebody waits for.
    #[default]
    Interactive,
    /// Work without a waiting person; it runs when nothing interactive waits.
    Bulk,
}

/// Where an item's time went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// Between arrival in the queue and the start of the call.
    pub queue: Duration,
    /// The call that computed the item, shared with the rest of its batch.
    pub inference: Duration,
    /// Items in that call.
    pub batch_items: usize,
}

/// One item's result.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The pooled embedding `[dimension]`, unit length where the manifest says so; empty unless wanted.
    pub features: Vec<f32>,
    /// The source head's logits `[classes]`; empty unless wanted.
    pub logits: Vec<f32>,
    /// Where the time went.
    pub timing: Timing,
}

/// An item in a queue.
pub(crate) struct Entry {
    pub(crate) input: Input,
    pub(crate) want: Want,
    pub(crate) deadline: Option<Instant>,
    pub(crate) queued_at: Instant,
    pub(crate) reply: oneshot::Sender<Result<Row, EngineError>>,
    /// Freed when the entry leaves, whichever way.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// How rows are read from the graph's outputs.
#[derive(Debug, Clone)]
pub(crate) struct Readout {
    pub(crate) pooling: Pooling,
    pub(crate) normalise: bool,
    pub(crate) dimension: usize,
}

/// Buffers a lane keeps between its calls.
#[derive(Default)]
pub(crate) struct Scratch {
    ids: Vec<i64>,
    mask: Vec<i64>,
    type_ids: Vec<i64>,
    positions: Vec<i64>,
    dense: Vec<f32>,
    /// Ask the runtime to give memory back with the call.
    pub(crate) give_back: bool,
}

/// Tokens of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) items: usize,
    pub(crate) padded_length: usize,
    pub(crate) real_tokens: usize,
}

impl Shape {
    pub(crate) fn of<'a>(inputs: impl Iterator<Item = &'a Input>) -> Self {
        inputs.fold(Self { items: 0, padded_length: 0, real_tokens: 0 }, |shape, input| Self {
            items: shape.items + 1,
            padded_length: shape.padded_length.max(input.length()),
            real_tokens: shape.real_tokens + input.length(),
        })
    }

    /// Padded tokens, or items for dense inputs: what a call costs.
    pub(crate) fn cost(self) -> usize {
        self.items * self.padded_length
    }
}

/// Runs the items as one batch; rows come back in the order of the items.
///
/// # Errors
/// ONNX Runtime's message, or what does not fit between the items and the graph.
pub(crate) fn run(
    graph: &Graph,
    readout: &Readout,
    items: &[(&Input, Want)],
    scratch: &mut Scratch,
) -> Result<Vec<Row>, String> {
    let shape = Shape::of(items.iter().map(|(input, _)| *input));
    match graph.reads() {
        Reads::Tokens { .. } => run_tokens(graph, readout, items, shape, scratch),
        Reads::Dense { name, item_shape } => run_dense(graph, readout, items, (name, item_shape), scratch),
    }
}

fn run_tokens(
    graph: &Graph,
    readout: &Readout,
    items: &[(&Input, Want)],
    shape: Shape,
    scratch: &mut Scratch,
) -> Result<Vec<Row>, String> {
    let Reads::Tokens { ids, mask, type_ids, positions } = graph.reads() else {
        return Err("token ids for a graph that reads dense tensors".into());
    };
    fill_tokens(items, shape.padded_length, scratch)?;
    let dims = [shape.items, shape.padded_length];
    let buffers = [
        (Some(ids), &scratch.ids),
        (mask.as_ref(), &scratch.mask),
        (type_ids.as_ref(), &scratch.type_ids),
        (positions.as_ref(), &scratch.positions),
    ];
    let mut inputs = Vec::with_capacity(4);
    for (name, buffer) in buffers {
        if let Some(name) = name {
            let tensor =
                TensorRef::from_array_view((dims, buffer.as_slice())).map_err(|error| error.to_string())?;
            inputs.push((name.as_str().into(), tensor.into()));
        }
    }
    let lengths: Vec<usize> = items.iter().map(|(input, _)| input.length()).collect();
    graph.run(inputs, scratch.give_back, |outputs| {
        read_rows(graph, readout, outputs, items, &lengths, shape.padded_length)
    })
}

fn fill_tokens(items: &[(&Input, Want)], padded: usize, scratch: &mut Scratch) -> Result<(), String> {
    let Scratch { ids, mask, type_ids, positions, dense: _, give_back: _ } = scratch;
    for buffer in [&mut *ids, &mut *mask, &mut *type_ids, &mut *positions] {
        buffer.clear();
        buffer.reserve(items.len() * padded);
    }
    for (row, (input, _)) in items.iter().enumerate() {
        let Input::Tokens { ids: item, type_ids: item_types } = input else {
            return Err("a dense tensor for a graph that reads token ids".into());
        };
        let end = (row + 1) * padded;
        ids.extend(item.iter().map(|id| i64::from(*id)));
        ids.resize(end, 0);
        mask.resize(row * padded + item.len(), 1);
        mask.resize(end, 0);
        type_ids.extend(item_types.iter().flatten().take(item.len()).map(|id| i64::from(*id)));
        type_ids.resize(end, 0);
        positions.extend(0..padded as i64);
    }
    Ok(())
}

fn run_dense(
    graph: &Graph,
    readout: &Readout,
    items: &[(&Input, Want)],
    (name, item_shape): (&str, &[usize]),
    scratch: &mut Scratch,
) -> Result<Vec<Row>, String> {
    let item_size: usize = item_shape.iter().product();
    let mut slices = Vec::with_capacity(items.len());
    for (input, _) in items {
        match input {
            Input::Dense(data) if data.len() == item_size => slices.push(data.as_slice()),
            Input::Dense(data) => {
                return Err(format!("an item of {} values where the graph takes {item_size}", data.len()));
            }
            Input::Tokens { .. } => return Err("token ids for a graph that reads dense tensors".into()),
        }
    }
    // A single item is read where it lies.
    let data = match slices.as_slice() {
        [one] => one,
        many => {
            scratch.dense.clear();
            many.iter().for_each(|slice| scratch.dense.extend_from_slice(slice));
            scratch.dense.as_slice()
        }
    };
    let mut dims = vec![items.len()];
    dims.extend_from_slice(item_shape);
    let tensor = TensorRef::from_array_view((dims, data)).map_err(|error| error.to_string())?;
    let lengths = vec![1; items.len()];
    graph.run(vec![(name.into(), tensor.into())], scratch.give_back, |outputs| {
        read_rows(graph, readout, outputs, items, &lengths, 1)
    })
}

fn read_rows(
    graph: &Graph,
    readout: &Readout,
    outputs: &SessionOutputs<'_>,
    items: &[(&Input, Want)],
    lengths: &[usize],
    padded: usize,
) -> Result<Vec<Row>, String> {
    let dimension = readout.dimension;
    let row_size = if graph.features_per_token() { padded * dimension } else { dimension };
    let features = tensor(outputs, graph.features_name(), items.len() * row_size)?;
    let logits = match graph.logits() {
        Some((name, classes)) if items.iter().any(|(_, want)| want.logits) => {
            Some((tensor(outputs, name, items.len() * classes)?, classes))
        }
        _ => None,
    };
    let rows = items.iter().zip(lengths).enumerate().map(|(index, ((_, want), &length))| {
        let mut row = Row::default();
        if want.features {
            let item = &features[index * row_size..(index + 1) * row_size];
            row.features = if graph.features_per_token() {
                pool(item, dimension, length, readout.pooling)
            } else {
                item.to_vec()
            };
            if readout.normalise {
                normalise(&mut row.features);
            }
        }
        if let (true, Some((values, classes))) = (want.logits, logits) {
            row.logits = values[index * classes..(index + 1) * classes].to_vec();
        }
        row
    });
    Ok(rows.collect())
}

fn tensor<'a>(outputs: &'a SessionOutputs<'_>, name: &str, expected: usize) -> Result<&'a [f32], String> {
    let value = outputs.get(name).ok_or_else(|| format!("the graph gave no output `{name}`"))?;
    let (shape, data) = value.try_extract_tensor::<f32>().map_err(|error| error.to_string())?;
    if data.len() == expected {
        Ok(data)
    } else {
        Err(format!(
            "output `{name}` has shape {shape:?}, {} values where {expected} were expected",
            data.len()
        ))
    }
}
