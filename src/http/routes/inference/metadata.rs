//! What the open inference protocol tells of the server and its models, and whether they answer.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::{Extension, Json};
use headstart_tasks::{Entry, TaskError};
use headstart_types::tensor::TensorSpec;
use serde::Serialize;
use utoipa::ToSchema;

use super::infer::check_version;
use super::protocol::{InferenceError, VERSION};
use crate::app::App;
use crate::auth::Identity;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::path::Path;
use crate::http::routes::tasks::within;

/// What the protocol calls ONNX graphs on ONNX Runtime.
const PLATFORM: &str = "onnx_onnxv1";

/// The server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServerMetadata {
    /// Always `headstart`.
    #[schema(example = "headstart")]
    name: &'static str,
    /// Its version.
    version: &'static str,
    /// What it knows beyond the protocol's core.
    extensions: Vec<&'static str>,
}

/// A backbone's graph.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelMetadata {
    /// The backbone.
    #[schema(example = "all-minilm-l6-v2")]
    name: String,
    /// Its versions; there is one.
    versions: Vec<&'static str>,
    /// Always `onnx_onnxv1`.
    #[schema(example = "onnx_onnxv1")]
    platform: &'static str,
    /// What the graph takes.
    inputs: Vec<TensorMetadata>,
    /// What the graph gives.
    outputs: Vec<TensorMetadata>,
}

/// An input or output of a graph.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TensorMetadata {
    /// Its name.
    #[schema(example = "input_ids")]
    name: String,
    /// The type of its elements.
    #[schema(example = "INT64")]
    datatype: &'static str,
    /// Its dimensions; −1 where any size will do.
    #[schema(example = json!([-1, -1]))]
    shape: Vec<i64>,
}

impl From<&TensorSpec> for TensorMetadata {
    fn from(spec: &TensorSpec) -> Self {
        Self { name: spec.name.clone(), datatype: spec.datatype.as_str(), shape: spec.dimensions() }
    }
}

/// Whether the server is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Live {
    /// Always true.
    live: bool,
}

/// Whether the server takes requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// Always true.
    ready: bool,
}

/// Whether a backbone answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelReady {
    /// The backbone.
    #[schema(example = "all-minilm-l6-v2")]
    name: String,
    /// Always true.
    ready: bool,
}

/// The server.
#[utoipa::path(
    get,
    path = "/v2",
    operation_id = "inference_server",
    tag = "Tensors",
    summary = "The server, as the open inference protocol names it",
    responses(
        (status = 200, description = "Name, version, extensions.", body = ServerMetadata),
        (status = 401, description = "Missing or unknown key.", body = InferenceError),
        (status = 403, description = "The key lacks the scope, or no keys are asked for and a page of another origin sent it.", body = InferenceError),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: "headstart",
        version: env!("CARGO_PKG_VERSION"),
        extensions: vec![
            "binary_tensor_data",
            "model_configuration",
            "model_repository",
            "schedule_policy",
            "statistics",
        ],
    })
}

/// The process answers.
#[utoipa::path(
    get,
    path = "/v2/health/live",
    operation_id = "inference_live",
    tag = "Tensors",
    summary = "Whether the process answers",
    responses((status = 200, description = "It does.", body = Live))
)]
pub(crate) async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Requests are taken.
#[utoipa::path(
    get,
    path = "/v2/health/ready",
    operation_id = "inference_ready",
    tag = "Tensors",
    summary = "Whether requests are taken",
    responses(
        (status = 200, description = "They are.", body = Ready),
        (status = 503, description = "The server starts or stops.", body = InferenceError),
    )
)]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Ready>, ApiError> {
    if app.is_ready() { Ok(Json(Ready { ready: true })) } else { Err(ApiError::not_ready()) }
}

/// A backbone's graph.
#[utoipa::path(
    get,
    path = "/v2/models/{model}",
    operation_id = "model_metadata",
    tag = "Tensors",
    summary = "What a graph takes and gives",
    params(("model" = String, Path, description = "The backbone's name", example = "all-minilm-l6-v2")),
    responses(
        (status = 200, description = "Its inputs and outputs.", body = ModelMetadata),
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
pub(crate) async fn metadata(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<ModelMetadata>, ApiError> {
    let caller = extract::caller(&app, &request)?;
    let served = within(caller, async {
        Ok(app.tasks.explain_unknown_model(app.tasks.catalog.served(&model).await, caller.key).await?)
    })
    .await?;
    let signature = served.graph()?.signature();
    Ok(Json(ModelMetadata {
        name: model,
        versions: vec![VERSION],
        platform: PLATFORM,
        inputs: signature.inputs.iter().map(TensorMetadata::from).collect(),
        outputs: signature.outputs.iter().map(TensorMetadata::from).collect(),
    }))
}

/// The same of a version, of which there is one.
pub(crate) async fn metadata_of_version(
    State(app): State<Arc<App>>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Result<Json<ModelMetadata>, ApiError> {
    check_version(&model, &version)?;
    metadata(State(app), Path(model), request).await
}

/// A backbone answers.
#[utoipa::path(
    get,
    path = "/v2/models/{model}/ready",
    operation_id = "model_ready",
    tag = "Tensors",
    summary = "Whether a backbone answers",
    params(("model" = String, Path, description = "The backbone's name", example = "all-minilm-l6-v2")),
    responses(
        (status = 200, description = "It does.", body = ModelReady),
        (status = 401, description = "Missing or unknown key.", body = InferenceError),
        (status = 403, description = "The key lacks the scope, or no keys are asked for and a page of another origin sent it.", body = InferenceError),
        (status = 404, description = "No backbone of that name.", body = InferenceError),
        (status = 503, description = "The backbone is not loaded.", body = InferenceError),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn model_ready(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Path(model): Path<String>,
) -> Result<Json<ModelReady>, ApiError> {
    let known = app.tasks.catalog.named(&model).map(|known| known.entry);
    // One that rests answers: its next request loads it. To ask whether it does must not.
    if known.is_none() {
        let unknown = Err(TaskError::UnknownModel(model));
        return Ok(app.tasks.explain_unknown_model(unknown, identity.key).await?);
    }
    if !matches!(known, Some(Entry::Resting)) {
        app.tasks.catalog.at_hand(&model)?;
    }
    Ok(Json(ModelReady { name: model, ready: true }))
}

/// The same of a version, of which there is one.
pub(crate) async fn version_ready(
    State(app): State<Arc<App>>,
    identity: Extension<Identity>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<ModelReady>, ApiError> {
    check_version(&model, &version)?;
    model_ready(State(app), identity, Path(model)).await
}
