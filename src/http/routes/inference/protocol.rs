//! Bodies of the open inference protocol, and what stands behind them as bytes.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use futures_util::stream;
use headstart_tasks::MOST_NUMBERS;
use headstart_tasks::tensors::{NamedTensor, TensorData, TensorForm};
use headstart_types::object::{self, Objects};
use headstart_types::tensor::{DataType, Values};
use headstart_types::tensor_data::write_binary;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::extract;

/// Bytes of JSON before those of tensors, in requests and answers.
pub(crate) const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The one version that a backbone has.
pub(crate) const VERSION: &str = "1";

/// The body of errors under `/v2`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InferenceError {
    /// What went wrong.
    #[schema(example = "`input_ids` has the shape [2]; the graph takes [-1, -1]")]
    pub(crate) error: String,
}

/// Tensors for a graph.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct InferRequest {
    /// Comes back with the answer.
    pub(crate) id: Option<String>,
    /// `binary_data_output`: all outputs as bytes behind the JSON; `timeout`: microseconds after which the answer is of no
    /// use. Others are ignored.
    #[serde(default, deserialize_with = "object::optional")]
    #[schema(value_type = Option<Object>)]
    pub(crate) parameters: Option<Parameters>,
    /// All inputs of the graph, in any order.
    #[schema(value_type = Vec<InputTensor>)]
    pub(crate) inputs: Objects<InputTensor, MOST_TENSORS>,
    /// The outputs that are wanted; all of them when absent.
    #[schema(value_type = Option<Vec<OutputChoice>>)]
    pub(crate) outputs: Option<Objects<OutputChoice, MOST_TENSORS>>,
}

/// Most inputs or outputs of a request; no graph has as many.
const MOST_TENSORS: usize = 1000;

/// What is read of parameters: the rest is not kept.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Parameters {
    binary_data: Option<Box<RawValue>>,
    binary_data_output: Option<Box<RawValue>>,
    binary_data_size: Option<Box<RawValue>>,
    timeout: Option<Box<RawValue>>,
    shared_memory_region: Option<IgnoredAny>,
    classification: Option<IgnoredAny>,
}

impl Parameters {
    /// Microseconds after which the answer is of no use.
    pub(crate) fn timeout(&self) -> Option<u64> {
        self.timeout.as_ref().and_then(|value| value.get().parse().ok())
    }

    /// Refuses extensions of other servers that change what a tensor means: ignoring them would answer something else.
    fn no_others(&self) -> Result<(), String> {
        let refused =
            |name: &str| Err(format!("has the parameter `{name}`, an extension that is not served"));
        match (&self.shared_memory_region, &self.classification) {
            (None, None) => Ok(()),
            (Some(_), _) => refused("shared_memory_region"),
            (None, Some(_)) => refused("classification"),
        }
    }
}

fn flag(value: Option<&RawValue>) -> Option<bool> {
    match value?.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A tensor that goes in.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct InputTensor {
    /// The graph's name for it.
    #[schema(example = "input_ids")]
    name: String,
    /// Its dimensions.
    #[schema(example = json!([1, 4]))]
    shape: Vec<usize>,
    /// The type of its elements: `BOOL`, `UINT8` to `UINT64`, `INT8` to `INT64`, `FP16`, `FP32`, `FP64` or `BYTES`.
    #[schema(example = "INT64")]
    datatype: String,
    /// `binary_data_size`: its bytes stand behind the JSON, so many, and there is no `data`.
    #[serde(default, deserialize_with = "object::optional")]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Parameters>,
    /// Its elements: one list in row order, or lists within lists as the shape has them.
    #[schema(value_type = Option<Vec<Value>>, example = json!([101, 7592, 2088, 102]))]
    data: Option<Box<RawValue>>,
}

/// An output that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct OutputChoice {
    /// The graph's name for it.
    #[schema(example = "last_hidden_state")]
    pub(crate) name: String,
    /// `binary_data`: whether it comes as bytes behind the JSON.
    #[serde(default, deserialize_with = "object::optional")]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Parameters>,
}

/// What came out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InferAnswer {
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The backbone.
    #[schema(example = "all-minilm-l6-v2")]
    model_name: String,
    /// Its version; there is one.
    #[schema(example = "1")]
    model_version: &'static str,
    /// The outputs, in the order of the request.
    outputs: Vec<OutputTensor>,
}

/// A tensor that comes out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutputTensor {
    /// The graph's name for it.
    #[schema(example = "last_hidden_state")]
    name: String,
    /// The type of its elements.
    #[schema(example = "FP32")]
    datatype: &'static str,
    /// Its dimensions.
    #[schema(example = json!([1, 4, 384]))]
    shape: Vec<usize>,
    /// `binary_data_size` where its bytes stand behind the JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    /// Its elements as one list in row order. What is not a number or not finite is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Value>>)]
    data: Option<Values>,
}

/// How many bytes of a tensor stand behind the JSON.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BinarySize {
    binary_data_size: usize,
}

/// Parts a body into its JSON and the bytes behind it.
pub(crate) fn parted(headers: &HeaderMap, body: &Bytes) -> Result<(InferRequest, Bytes), ApiError> {
    let length = match headers.get(HEADER_LENGTH) {
        None => body.len(),
        Some(value) => {
            let parsed = value.to_str().ok().and_then(|text| text.trim().parse::<usize>().ok());
            parsed.filter(|length| *length <= body.len()).ok_or_else(|| {
                let problem = format!(
                    "`Inference-Header-Content-Length` must be a whole number of at most the body's {} bytes",
                    body.len()
                );
                ApiError::invalid("Inference-Header-Content-Length", problem)
            })?
        }
    };
    Ok((extract::parse_json(&body.slice(..length))?, body.slice(length..)))
}

/// Gives each input its data: that in the JSON, or its share of the bytes behind it, which lie in the order of the inputs.
pub(crate) fn forms(
    Objects(inputs): Objects<InputTensor, MOST_TENSORS>,
    mut binary: Bytes,
) -> Result<Vec<TensorForm>, ApiError> {
    let mut forms = Vec::with_capacity(inputs.len());
    for InputTensor { name, shape, datatype, parameters, data } in inputs {
        let refuse = |problem: String| ApiError::invalid(&name, format!("`{name}` {problem}"));
        let parameters = parameters.unwrap_or_default();
        parameters.no_others().map_err(refuse)?;
        let data = match (&parameters.binary_data_size, data) {
            (None, Some(json)) => TensorData::Json(json),
            (None, None) => return Err(refuse("has no `data`".into())),
            (Some(_), Some(_)) => return Err(refuse("has both `data` and `binary_data_size`".into())),
            (Some(size), None) => {
                let size: usize = size
                    .get()
                    .parse()
                    .map_err(|_| refuse("has a `binary_data_size` that is no number of bytes".into()))?;
                if size > binary.len() {
                    let left = binary.len();
                    return Err(refuse(format!("has {size} bytes of binary data where {left} are left")));
                }
                TensorData::Binary(binary.split_to(size))
            }
        };
        forms.push(TensorForm { name, datatype, shape, data });
    }
    if !binary.is_empty() {
        let problem = format!("`inputs`: {} bytes behind the JSON belong to no input", binary.len());
        return Err(ApiError::invalid("inputs", problem));
    }
    Ok(forms)
}

/// Which outputs are wanted as bytes.
pub(crate) struct Wishes {
    all: bool,
    each: Vec<(String, Option<bool>)>,
}

impl Wishes {
    pub(crate) fn of(request: &InferRequest) -> Result<Self, ApiError> {
        let all = request.parameters.as_ref().and_then(|all| flag(all.binary_data_output.as_deref()));
        let all = all.unwrap_or(false);
        let mut each = Vec::new();
        for OutputChoice { name, parameters } in request.outputs.iter().flat_map(|Objects(all)| all) {
            let mut binary = None;
            if let Some(parameters) = parameters {
                let refuse = |problem| ApiError::invalid(name, format!("`{name}` {problem}"));
                parameters.no_others().map_err(refuse)?;
                binary = flag(parameters.binary_data.as_deref());
            }
            each.push((name.clone(), binary));
        }
        Ok(Self { all, each })
    }

    /// The outputs by name; none means all.
    pub(crate) fn names(&self) -> Vec<String> {
        self.each.iter().map(|(name, _)| name.clone()).collect()
    }

    fn binary(&self, name: &str) -> bool {
        let own = self.each.iter().find(|(known, _)| known == name).and_then(|(_, binary)| *binary);
        own.unwrap_or(self.all)
    }
}

/// Numbers that are written on the thread that serves the network; more would hold up everybody else.
const INLINE_NUMBERS: usize = 1 << 18;

/// Writes an answer: JSON, and behind it the bytes of the outputs that are wanted so.
pub(crate) async fn answer(
    id: Option<String>,
    model_name: String,
    tensors: Vec<NamedTensor>,
    wishes: Wishes,
) -> Result<Response, ApiError> {
    let written = tensors.iter().filter(|tensor| !wishes.binary(&tensor.name));
    let numbers: usize = written.map(|tensor| tensor.tensor.values.count()).sum();
    if numbers > MOST_NUMBERS {
        let problem = format!(
            "`outputs` would be {numbers} numbers as JSON; at most {MOST_NUMBERS} are written: ask for them with \
             `binary_data`, or send fewer rows"
        );
        return Err(ApiError::invalid("outputs", problem));
    }
    if numbers <= INLINE_NUMBERS {
        return write(id, model_name, tensors, &wishes);
    }
    let work = move || write(id, model_name, tensors, &wishes);
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::internal())?
}

fn write(
    id: Option<String>,
    model_name: String,
    tensors: Vec<NamedTensor>,
    wishes: &Wishes,
) -> Result<Response, ApiError> {
    let (mut outputs, mut binary) = (Vec::with_capacity(tensors.len()), Vec::new());
    for NamedTensor { name, tensor } in tensors {
        let datatype: DataType = tensor.values.datatype();
        let (parameters, data) = if wishes.binary(&name) {
            let bytes = write_binary(&tensor.values);
            let binary_data_size = bytes.len();
            binary.push(bytes);
            (Some(BinarySize { binary_data_size }), None)
        } else {
            (None, Some(tensor.values))
        };
        outputs.push(OutputTensor {
            name,
            datatype: datatype.as_str(),
            shape: tensor.shape,
            parameters,
            data,
        });
    }
    let only_json = outputs.iter().all(|output| output.parameters.is_none());
    let written = serde_json::to_vec(&InferAnswer { id, model_name, model_version: VERSION, outputs });
    let body = written.map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        ApiError::internal()
    })?;
    if only_json {
        return Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response());
    }
    let lengths = [
        (HEADER_LENGTH, HeaderValue::from(body.len())),
        (
            header::CONTENT_LENGTH,
            HeaderValue::from(body.len() + binary.iter().map(Bytes::len).sum::<usize>()),
        ),
    ];
    // Outputs go to the socket from where they lie.
    let parts = std::iter::once(body.into()).chain(binary).map(Ok::<Bytes, Infallible>);
    let body = Body::from_stream(stream::iter(parts));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], AppendHeaders(lengths), body).into_response())
}
