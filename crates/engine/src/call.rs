//! One call of ONNX Runtime: items assembled into tensors, rows read back.

use std::time::{Duration, Instant};

use half::f16;
use headstart_types::manifest::{Form, Pooling};
use ort::session::SessionOutputs;
use ort::value::{Tensor, TensorRef};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::EngineError;
use crate::outputs::{Outputs, values};
use crate::pool::{normalise, pool, pool_planes};
use crate::reads::{DenseInput, Element, Reads, TokenInput, TokenInputs};
use crate::session::{Ask, Graph};
use crate::signal::run_signals;
use crate::tensors::{self, Tensors};

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
    /// A sequence of any length, `[rows, width]` in row order, that the graph reads windows of.
    Signal {
        /// At least one row.
        values: Vec<f32>,
        /// Values of a row.
        width: usize,
    },
    /// Tensors for the graph as it is.
    Tensors(Tensors),
}

impl Input {
    /// Cost of an item: its tokens, its rows, or one; for raw tensors what [`Tensors`] says.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Tokens { ids, .. } => ids.len(),
            Self::Dense(_) => 1,
            Self::Signal { values, width } => values.len() / width.max(&1),
            Self::Tensors(tensors) => tensors.cost(),
        }
    }

    /// How many items it is: rows of raw tensors are one each.
    pub(crate) fn items(&self) -> usize {
        match self {
            Self::Tokens { .. } | Self::Dense(_) | Self::Signal { .. } => 1,
            Self::Tensors(tensors) => tensors.items(),
        }
    }

    /// Whether both may be computed in one call.
    pub(crate) fn joins(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tensors(one), Self::Tensors(other)) => one.joins(other),
            (Self::Tensors(_), _) | (_, Self::Tensors(_)) => false,
            (
                Self::Tokens { .. } | Self::Dense(_) | Self::Signal { .. },
                Self::Tokens { .. } | Self::Dense(_) | Self::Signal { .. },
            ) => true,
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
    /// The outputs that raw tensors asked for, in that order; empty for other inputs.
    pub tensors: Vec<headstart_types::Tensor>,
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
    pub(crate) dense: Vec<f32>,
    /// Ask the runtime to give memory back with the call.
    pub(crate) give_back: bool,
}

/// Items and tokens of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) items: usize,
    pub(crate) padded_length: usize,
    pub(crate) real_tokens: usize,
}

impl Shape {
    pub(crate) fn of<'a>(inputs: impl Iterator<Item = &'a Input>) -> Self {
        inputs.fold(Self { items: 0, padded_length: 0, real_tokens: 0 }, |shape, input| Self {
            items: shape.items + input.items(),
            padded_length: shape.padded_length.max(input.length()),
            real_tokens: shape.real_tokens + input.length() * input.items(),
        })
    }

    /// Padded tokens, or items for dense inputs: what a call costs.
    pub(crate) fn cost(self) -> usize {
        self.items * self.padded_length
    }
}

/// Runs the items as one batch, in slices where the graph takes a fixed number; rows come back in the order of the items.
///
/// # Errors
/// ONNX Runtime's message, or what does not fit between the items and the graph.
pub(crate) fn run(
    graph: &Graph,
    readout: Option<&Readout>,
    items: &[(&Input, Want)],
    scratch: &mut Scratch,
) -> Result<Vec<Row>, String> {
    if let Some((Input::Tensors(_), _)) = items.first() {
        let raw = items.iter().filter_map(|(input, _)| match input {
            Input::Tensors(tensors) => Some(tensors),
            Input::Tokens { .. } | Input::Dense(_) | Input::Signal { .. } => None,
        });
        return tensors::run(graph, &raw.collect::<Vec<_>>(), scratch.give_back);
    }
    let readout = readout.ok_or("the graph gives no features")?;
    let Some(size) = graph.batch() else { return run_batch(graph, readout, items, scratch) };
    let mut rows = Vec::with_capacity(items.len());
    for slice in items.chunks(size) {
        let mut full = slice.to_vec();
        // Its own last item again: numbers of the usual kind, whatever the graph does with them.
        full.resize(size, slice[slice.len() - 1]);
        rows.extend(run_batch(graph, readout, &full, scratch)?.into_iter().take(slice.len()));
    }
    Ok(rows)
}

fn run_batch(
    graph: &Graph,
    readout: &Readout,
    items: &[(&Input, Want)],
    scratch: &mut Scratch,
) -> Result<Vec<Row>, String> {
    match graph.reads() {
        Reads::Tokens(inputs) => run_tokens(graph, readout, items, inputs, scratch),
        Reads::Signals(signals) => run_signals(graph, signals, readout, items, scratch),
        Reads::Dense(input) => run_dense(graph, readout, items, input, scratch),
        Reads::Raw => Err("the graph takes raw tensors only".into()),
    }
}

fn run_tokens(
    graph: &Graph,
    readout: &Readout,
    items: &[(&Input, Want)],
    names: &TokenInputs,
    scratch: &mut Scratch,
) -> Result<Vec<Row>, String> {
    let shape = Shape::of(items.iter().map(|(input, _)| *input));
    let padded = names.length.unwrap_or(shape.padded_length);
    fill_tokens(items, padded, scratch)?;
    let dims = [shape.items, padded];
    let buffers = [
        (Some(&names.ids), &scratch.ids),
        (names.mask.as_ref(), &scratch.mask),
        (names.type_ids.as_ref(), &scratch.type_ids),
        (names.positions.as_ref(), &scratch.positions),
    ];
    let mut inputs = Vec::with_capacity(4);
    for (input, buffer) in buffers {
        let Some(TokenInput { name, narrow }) = input else { continue };
        let value = if *narrow {
            // Ids come from a vocabulary, far below the limit.
            let narrowed: Vec<i32> = buffer.iter().map(|&id| id as i32).collect();
            Tensor::from_array((dims, narrowed)).map(Into::into)
        } else {
            TensorRef::from_array_view((dims, buffer.as_slice())).map(Into::into)
        };
        inputs.push((name.as_str().into(), value.map_err(|error| error.to_string())?));
    }
    let lengths: Vec<usize> = items.iter().map(|(input, _)| input.length()).collect();
    graph.run(inputs, Ask { give_back: scratch.give_back, outputs: None }, |outputs| {
        read_rows(graph, readout, outputs, items, Some((&lengths, padded)))
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
            return Err("a tensor for a graph that reads token ids".into());
        };
        if item.len() > padded {
            return Err(format!("{} tokens for a graph that takes {padded}", item.len()));
        }
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
    DenseInput { name, item_shape, element }: &DenseInput,
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
            Input::Tokens { .. } | Input::Signal { .. } | Input::Tensors(_) => {
                return Err("another input for a graph that reads dense tensors".into());
            }
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
    let tensor = match element {
        Element::Single => TensorRef::from_array_view((dims, data)).map(Into::into),
        Element::Half => {
            let halves: Vec<f16> = data.iter().map(|&value| f16::from_f32(value)).collect();
            Tensor::from_array((dims, halves)).map(Into::into)
        }
        // The conversion saturates.
        Element::Byte => {
            let bytes: Vec<u8> = data.iter().map(|value| value.round() as u8).collect();
            Tensor::from_array((dims, bytes)).map(Into::into)
        }
    };
    let tensor = tensor.map_err(|error| error.to_string())?;
    let ask = Ask { give_back: scratch.give_back, outputs: None };
    graph.run(vec![(name.as_str().into(), tensor)], ask, |outputs| {
        read_rows(graph, readout, outputs, items, None)
    })
}

/// `tokens`: the items' real lengths and what they were padded to; without it every position counts.
fn read_rows(
    graph: &Graph,
    readout: &Readout,
    outputs: &SessionOutputs<'_>,
    items: &[(&Input, Want)],
    tokens: Option<(&[usize], usize)>,
) -> Result<Vec<Row>, String> {
    let Outputs { features: name, form, logits } = graph.outputs().ok_or("the graph gives no features")?;
    let features = values(outputs, name, items.len(), readout.dimension)?;
    let row_size = features.len() / items.len();
    let positions = row_size / readout.dimension;
    let expected = match (form, tokens) {
        (Form::Vector, _) => 1,
        (Form::Positions, Some((_, padded))) => padded,
        (Form::Positions, None) | (Form::Planes, _) => positions,
    };
    if positions != expected {
        return Err(format!("output `{name}` has {positions} positions where {expected} were expected"));
    }
    let logits = match logits {
        Some((name, classes)) if items.iter().any(|(_, want)| want.logits) => {
            Some((values(outputs, name, items.len(), *classes)?, *classes))
        }
        _ => None,
    };
    let rows = items.iter().enumerate().map(|(index, (_, want))| {
        let mut row = Row::default();
        if want.features {
            let item = &features[index * row_size..(index + 1) * row_size];
            let length = tokens.map_or(positions, |(lengths, _)| lengths[index]);
            row.features = match form {
                Form::Vector => item.to_vec(),
                Form::Positions => pool(item, readout.dimension, length, readout.pooling),
                Form::Planes => pool_planes(item, positions, readout.pooling),
            };
            if readout.normalise {
                normalise(&mut row.features);
            }
        }
        if let (true, Some((values, classes))) = (want.logits, &logits) {
            row.logits = values[index * classes..(index + 1) * classes].to_vec();
        }
        row
    });
    Ok(rows.collect())
}
