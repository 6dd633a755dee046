//! Raw tensors through a backbone: what a request says is compared with the graph, places are taken, then data is read.

use bytes::Bytes;
use headstart_engine::{Backbone, EngineError, Request, Want};
use headstart_types::payload::Modality;
use headstart_types::tensor::{DataType, Tensor, TensorSpec, Values, elements};
use headstart_types::tensor_data::{read_binary, read_json};
use serde_json::value::RawValue;

use crate::catalog::Served;
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::items::Timings;

/// Data up to this many bytes is read where it arrives: a hop to the pool would cost more.
const INLINE_BYTES: usize = 16 << 10;

/// An input as a request has it, its data not yet read.
#[derive(Debug)]
pub struct TensorForm {
    /// The graph's name for it.
    pub name: String,
    /// The protocol's name of its type.
    pub datatype: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its elements.
    pub data: TensorData,
}

/// Elements as they came.
#[derive(Debug)]
pub enum TensorData {
    /// Lists in JSON.
    Json(Box<RawValue>),
    /// Side by side, little endian.
    Binary(Bytes),
}

impl TensorData {
    fn bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.get().len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    fn read(&self, datatype: DataType, shape: &[usize]) -> Result<Values, String> {
        match self {
            Self::Json(json) => read_json(json.get(), datatype, shape),
            Self::Binary(bytes) => read_binary(bytes, datatype, shape),
        }
    }
}

/// An output with its name.
#[derive(Debug)]
pub struct NamedTensor {
    /// The graph's name for it.
    pub name: String,
    /// What came out.
    pub tensor: Tensor,
}

/// Computes the outputs of these names from the inputs, all outputs when none is named.
///
/// # Errors
/// [`TaskError`] naming the input or output that does not suit the graph.
pub async fn infer(
    cx: &TaskContext,
    model: &str,
    inputs: Vec<TensorForm>,
    outputs: &[String],
    caller: Caller,
) -> Result<(Vec<NamedTensor>, Timings), TaskError> {
    let served = cx.catalog.served(model).await?;
    let backbone = served.graph()?;
    let places = wanted(backbone, outputs)?;
    let inputs = in_order(&served, inputs)?;
    let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape.as_slice()).collect();
    let items = backbone.items_of(&shapes);
    cx.check_items(items)?;
    let mut permit = backbone.admit(items)?;
    // A full queue takes nothing of the key's minute.
    cx.take_items(items, caller)?;

    let bytes: usize = inputs.iter().map(|input| input.data.bytes()).sum();
    let specs = backbone.signature().inputs.clone();
    let tensors = if bytes <= INLINE_BYTES {
        read(inputs, &specs)?
    } else {
        cx.offload(caller.class).run(move || read(inputs, &specs)).await??
    };
    let want = Want { features: false, logits: false };
    let request = Request { want, class: caller.class, deadline: caller.deadline };
    let ticket = backbone.infer(&tensors, &places, &mut permit, request)?;
    drop(tensors);
    let (tensors, timing) = ticket.tensors().await.map_err(of_the_request)?;

    let timings = Timings { queue: timing.queue, inference: timing.inference, ..Timings::default() };
    let named = places.iter().zip(tensors).filter_map(|(place, tensor)| {
        let spec = backbone.signature().outputs.get(*place)?;
        Some(NamedTensor { name: spec.name.clone(), tensor })
    });
    Ok((named.collect(), timings))
}

/// A graph that fails on tensors of the right type and shape was given values, or sizes beside each other, that it cannot
/// use: those are the request's.
fn of_the_request(error: EngineError) -> TaskError {
    if let EngineError::Run { message, .. } = error {
        TaskError::invalid("inputs", format!("do not suit the graph: {message}"))
    } else if let EngineError::LargeOutputs { limit } = error {
        let problem =
            format!("give outputs of more than {limit} bytes: send fewer rows, or ask for fewer outputs");
        TaskError::invalid("inputs", problem)
    } else {
        error.into()
    }
}

fn wanted(backbone: &Backbone, names: &[String]) -> Result<Vec<usize>, TaskError> {
    let signature = backbone.signature();
    if names.is_empty() {
        return Ok((0..signature.outputs.len()).collect());
    }
    let mut places = Vec::with_capacity(names.len());
    for name in names {
        let place = signature.output(name).ok_or_else(|| {
            let problem =
                format!("is no output of `{}`, which gives {}", backbone.id(), list(&signature.outputs));
            TaskError::invalid(name, problem)
        })?;
        if places.contains(&place) {
            return Err(TaskError::invalid(name, "is asked for twice"));
        }
        places.push(place);
    }
    Ok(places)
}

/// The inputs in the graph's order, each of the type and shape that the graph takes.
fn in_order(served: &Served, given: Vec<TensorForm>) -> Result<Vec<TensorForm>, TaskError> {
    let backbone = served.graph()?;
    let specs = &backbone.signature().inputs;
    let takes = || format!("`{}`, which takes {}", backbone.id(), list(specs));
    let mut slots: Vec<Option<TensorForm>> = specs.iter().map(|_| None).collect();
    for input in given {
        let place = specs.iter().position(|spec| spec.name == input.name);
        let slot = place.and_then(|place| slots.get_mut(place));
        let slot =
            slot.ok_or_else(|| TaskError::invalid(&input.name, format!("is no input of {}", takes())))?;
        if slot.is_some() {
            return Err(TaskError::invalid(input.name, "is given twice"));
        }
        *slot = Some(input);
    }
    let mut inputs = Vec::with_capacity(specs.len());
    for (spec, slot) in specs.iter().zip(slots) {
        let input =
            slot.ok_or_else(|| TaskError::invalid(&spec.name, format!("is missing: ask {}", takes())))?;
        check(served, spec, &input)?;
        inputs.push(input);
    }
    if backbone.wants_equal_rows() {
        check_rows(&inputs)?;
    }
    Ok(inputs)
}

/// A row is an item, and each input has a part of it.
fn check_rows(inputs: &[TensorForm]) -> Result<(), TaskError> {
    let rows = |input: &TensorForm| input.shape.first().copied().unwrap_or(1);
    let Some(first) = inputs.first() else { return Ok(()) };
    match inputs.iter().find(|input| rows(input) != rows(first)) {
        Some(other) => {
            let problem = format!("has {} rows beside {} of `{}`", rows(other), rows(first), first.name);
            Err(TaskError::invalid(&other.name, problem))
        }
        None => Ok(()),
    }
}

fn check(served: &Served, spec: &TensorSpec, input: &TensorForm) -> Result<(), TaskError> {
    let refuse = |problem: String| Err(TaskError::invalid(&input.name, problem));
    if DataType::parse(&input.datatype) != Some(spec.datatype) {
        return refuse(format!("is \"{}\"; the graph takes {}", input.datatype, spec.datatype));
    }
    if !spec.takes(&input.shape) {
        return refuse(format!("has the shape {:?}; the graph takes {:?}", input.shape, spec.dimensions()));
    }
    if elements(&input.shape).is_none_or(|count| count == 0) {
        return refuse(format!("has the shape {:?}, which no data fills", input.shape));
    }
    // A few bytes of tokens may cost any memory once they are vectors.
    let text = served.manifest().text.as_ref().filter(|_| served.modality() == Modality::Text);
    let most = text.map_or(usize::MAX, |text| text.max_tokens);
    match input.shape.get(1) {
        Some(tokens) if *tokens > most => {
            refuse(format!("has {tokens} tokens a row; the model takes at most {most}"))
        }
        _ => Ok(()),
    }
}

fn read(inputs: Vec<TensorForm>, specs: &[TensorSpec]) -> Result<Vec<Tensor>, TaskError> {
    let pairs = inputs.into_iter().zip(specs);
    pairs
        .map(|(input, spec)| {
            let values = input.data.read(spec.datatype, &input.shape);
            let values = values.map_err(|problem| TaskError::invalid(&input.name, problem))?;
            Ok(Tensor { shape: input.shape, values })
        })
        .collect()
}

fn list(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ")
}
