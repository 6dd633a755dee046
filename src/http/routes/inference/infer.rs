//! Tensors in, tensors out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::Response;
use headstart_tasks::{Caller, TaskError, tensors};

use super::protocol::{
    InferAnswer, InferRequest, InferenceError, Parameters, VERSION, Wishes, answer, forms, parted,
};
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::path::Path;
use crate::http::routes::tasks::{stamp, within};
use crate::http::{body_memory, extract};
use crate::traces::Watch;

/// Runs a graph.
#[utoipa::path(
    post,
    path = "/v2/models/{model}/infer",
    operation_id = "infer",
    tag = "Tensors",
    summary = "Run a graph on tensors",
    description = "The open inference protocol's request for any backbone, whatever it reads: nothing is preprocessed. Requests \
                   whose tensors agree in all dimensions but the first share a call of the graph where its rows do not depend on \
                   each other. Tensors may stand as bytes behind the JSON (the protocol's binary extension): the header \
                   `Inference-Header-Content-Length` says how long the JSON is then.",
    params(("model" = String, Path, description = "The backbone's name", example = "all-minilm-l6-v2")),
    request_body(
        content(
            (InferRequest = "application/json", example = json!({
                "inputs": [
                    {"name": "input_ids", "shape": [1, 4], "datatype": "INT64", "data": [101, 7592, 2088, 102]},
                    {"name": "attention_mask", "shape": [1, 4], "datatype": "INT64", "data": [1, 1, 1, 1]},
                    {"name": "token_type_ids", "shape": [1, 4], "datatype": "INT64", "data": [0, 0, 0, 0]}
                ]
            })),
            (String = "application/octet-stream"),
        ),
    ),
    responses(
        (
            status = 200,
            description = "The outputs. Where some are wanted as bytes, these stand behind the JSON of `application/octet-stream`, \
                           and the header `Inference-Header-Content-Length` says how long the JSON is.",
            content((InferAnswer = "application/json"), (String = "application/octet-stream")),
        ),
        (status = 400, description = "An input or output does not suit the graph; the text names it.", body = InferenceError),
        (status = 401, description = "Missing or unknown key.", body = InferenceError),
        (status = 403, description = "The key lacks the scope.", body = InferenceError),
        (status = 404, description = "No backbone of that name.", body = InferenceError),
        (status = 413, description = "The body is larger than allowed.", body = InferenceError),
        (status = 415, description = "The body is compressed.", body = InferenceError),
        (status = 429, description = "The backbone's queue is full.", body = InferenceError),
        (status = 500, description = "Something broke; the log has the request's id.", body = InferenceError),
        (status = 503, description = "The server starts or stops, or the backbone is not loaded.", body = InferenceError),
        (status = 504, description = "The request's deadline passed.", body = InferenceError),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn infer(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = extract::caller(&app, &request)?;
    let mut watch = Watch::start();
    within(caller, async {
        let (request, _memory) = body_memory::hold(&app, request).await?;
        let headers = request.headers().clone();
        let body = extract::read(request, app.config.max_body_bytes).await?;
        let (asked, binary) = parted(&headers, &body)?;
        drop(body);
        watch.decoded();
        let caller = with_timeout(caller, &asked);
        within(caller, async {
            let wishes = Wishes::of(&asked)?;
            let inputs = forms(asked.inputs, binary)?;
            let run = tensors::infer(&app.tasks, &model, inputs, &wishes.names(), caller).await;
            let (tensors, timings) = app.tasks.explain_unknown_model(run, caller.key).await?;
            Ok(stamp(answer(asked.id, model, tensors, wishes).await?, watch, timings))
        })
        .await
    })
    .await
}

/// The same of a version, of which there is one.
pub(crate) async fn infer_version(
    State(app): State<Arc<App>>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    check_version(&model, &version)?;
    infer(State(app), Path(model), request).await
}

/// # Errors
/// Any version but the one that there is.
pub(super) fn check_version(model: &str, version: &str) -> Result<(), ApiError> {
    if version == VERSION {
        return Ok(());
    }
    Err(TaskError::UnknownModel(format!("{model}/versions/{version}")).into())
}

/// The caller with the request's own timeout, where it is the shorter one.
fn with_timeout(caller: Caller, asked: &InferRequest) -> Caller {
    let timeout = asked.parameters.as_ref().and_then(Parameters::timeout).filter(|time| *time > 0);
    let own = timeout.and_then(|time| Instant::now().checked_add(Duration::from_micros(time)));
    let deadline = match (caller.deadline, own) {
        (Some(given), Some(own)) => Some(given.min(own)),
        (given, own) => given.or(own),
    };
    Caller { deadline, ..caller }
}
