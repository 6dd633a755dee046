//! A backbone's configuration as Triton writes it, for clients that ask how many rows a request may have.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use headstart_engine::{Backbone, Provider};
use headstart_types::tensor::{DataType, TensorSpec};
use serde::Serialize;
use utoipa::ToSchema;

use super::infer::check_version;
use super::protocol::InferenceError;
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::path::Path;
use crate::http::routes::tasks::within;

/// How a backbone is served.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelConfiguration {
    /// The backbone.
    #[schema(example = "all-minilm-l6-v2")]
    name: String,
    /// Always `onnxruntime_onnx`.
    #[schema(example = "onnxruntime_onnx")]
    platform: &'static str,
    /// Always `onnxruntime`.
    #[schema(example = "onnxruntime")]
    backend: &'static str,
    /// Which versions answer; there is one.
    version_policy: VersionPolicy,
    /// Most rows of a request, where rows are computed each for itself; 0 where they are not. Where it is not 0, dimensions
    /// are those of a row, without the first.
    #[schema(example = 2048)]
    max_batch_size: usize,
    /// What the graph takes.
    input: Vec<TensorConfiguration>,
    /// What the graph gives.
    output: Vec<TensorConfiguration>,
    /// Where calls run.
    instance_group: Vec<InstanceGroup>,
    /// How rows of several requests share a call; absent where they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    dynamic_batching: Option<DynamicBatching>,
    /// The file of the graph.
    #[schema(example = "model.onnx")]
    default_model_filename: String,
}

/// Which versions answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionPolicy {
    /// The latest ones.
    latest: LatestVersions,
}

/// The latest versions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LatestVersions {
    /// Always 1.
    num_versions: u32,
}

/// An input or output of a graph.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TensorConfiguration {
    /// Its name.
    #[schema(example = "input_ids")]
    name: String,
    /// The type of its elements.
    #[schema(example = "TYPE_INT64")]
    data_type: &'static str,
    /// Its dimensions; −1 where any size will do.
    #[schema(example = json!([-1]))]
    dims: Vec<i64>,
    /// The dimensions themselves, where there are none beside the rows: `dims` may not be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    reshape: Option<Reshape>,
}

/// Dimensions that stand for others.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reshape {
    /// None.
    shape: Vec<i64>,
}

/// Calls that run at a time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceGroup {
    /// The backbone.
    #[schema(example = "all-minilm-l6-v2")]
    name: String,
    /// `KIND_CPU` or `KIND_GPU`.
    #[schema(example = "KIND_CPU")]
    kind: &'static str,
    /// How many.
    #[schema(example = 2)]
    count: usize,
}

/// How rows of several requests share a call.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DynamicBatching {
    /// Most rows of a call.
    #[schema(example = json!([8]))]
    preferred_batch_size: Vec<usize>,
    /// Always 0: a call does not wait for others to join it.
    max_queue_delay_microseconds: u64,
}

impl ModelConfiguration {
    /// `most` is how many rows a request may have.
    fn of(backbone: &Backbone, most: usize) -> Self {
        let rows_of_a_call = backbone.rows_of_a_call();
        let (signature, by_row) = (backbone.signature(), rows_of_a_call.is_some());
        let tensors =
            |specs: &[TensorSpec]| specs.iter().map(|spec| TensorConfiguration::of(spec, by_row)).collect();
        let kind = match backbone.provider() {
            Provider::Cpu => "KIND_CPU",
            Provider::Cuda => "KIND_GPU",
        };
        let name = backbone.id().to_owned();
        Self {
            platform: "onnxruntime_onnx",
            backend: "onnxruntime",
            version_policy: VersionPolicy { latest: LatestVersions { num_versions: 1 } },
            max_batch_size: if by_row { most } else { 0 },
            input: tensors(&signature.inputs),
            output: tensors(&signature.outputs),
            instance_group: vec![InstanceGroup {
                name: name.clone(),
                kind,
                count: backbone.calls_at_a_time(),
            }],
            dynamic_batching: rows_of_a_call.map(|rows| DynamicBatching {
                preferred_batch_size: vec![rows],
                max_queue_delay_microseconds: 0,
            }),
            default_model_filename: backbone.manifest().backbone.file.clone(),
            name,
        }
    }
}

impl TensorConfiguration {
    fn of(spec: &TensorSpec, by_row: bool) -> Self {
        let dims = spec.dimensions().split_off(usize::from(by_row));
        let (dims, reshape) =
            if dims.is_empty() { (vec![1], Some(Reshape { shape: dims })) } else { (dims, None) };
        Self { name: spec.name.clone(), data_type: name_of(spec.datatype), dims, reshape }
    }
}

/// What Triton's configurations call a type.
fn name_of(datatype: DataType) -> &'static str {
    match datatype {
        DataType::Bool => "TYPE_BOOL",
        DataType::Uint8 => "TYPE_UINT8",
        DataType::Uint16 => "TYPE_UINT16",
        DataType::Uint32 => "TYPE_UINT32",
        DataType::Uint64 => "TYPE_UINT64",
        DataType::Int8 => "TYPE_INT8",
        DataType::Int16 => "TYPE_INT16",
        DataType::Int32 => "TYPE_INT32",
        DataType::Int64 => "TYPE_INT64",
        DataType::Fp16 => "TYPE_FP16",
        DataType::Fp32 => "TYPE_FP32",
        DataType::Fp64 => "TYPE_FP64",
        DataType::Bytes => "TYPE_STRING",
    }
}

/// How a backbone is served.
#[utoipa::path(
    get,
    path = "/v2/models/{model}/config",
    operation_id = "model_configuration",
    tag = "Tensors",
    summary = "How a graph is served, as Triton's configuration",
    description = "Triton's extension of the protocol: what its clients look for before they send rows. A backbone that rests is loaded.",
    params(("model" = String, Path, description = "The backbone's name", example = "all-minilm-l6-v2")),
    responses(
        (status = 200, description = "Its configuration.", body = ModelConfiguration),
        (
            status = 400, description = "The model is a table of word vectors and has no graph, or a header is wrong.",
            body = InferenceError, example = json!({"error": "the model `words` is a table of word vectors: it has no graph, and takes no raw tensors"}),
        ),
        (status = 401, description = "Missing or unknown key.", body = InferenceError),
        (status = 403, description = "The key lacks the scope, or no keys are asked for and a page of another origin sent it.", body = InferenceError),
        (status = 404, description = "No backbone of that name.", body = InferenceError),
        (status = 503, description = "The backbone is not loaded.", body = InferenceError),
        (status = 504, description = "It was not loaded within the request's time.", body = InferenceError),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn configuration(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<ModelConfiguration>, ApiError> {
    let caller = extract::caller(&app, &request)?;
    let served = within(caller, async {
        Ok(app.tasks.explain_unknown_model(app.tasks.catalog.served(&model).await, caller.key).await?)
    })
    .await?;
    Ok(Json(ModelConfiguration::of(served.graph()?, app.config.max_items)))
}

/// The same of a version, of which there is one.
pub(crate) async fn configuration_of_version(
    State(app): State<Arc<App>>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Result<Json<ModelConfiguration>, ApiError> {
    check_version(&model, &version)?;
    configuration(State(app), Path(model), request).await
}
