//! The protocol's model repository: which backbones there are, loaded or not; and loading and unloading them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use headstart_tasks::State as ModelState;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::protocol::{InferenceError, VERSION};
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::path::Path;
use crate::http::routes::jobs::BODY_BYTES;
use crate::http::routes::loading::{load_of, unload_of};
use crate::http::visible::Visible;

/// Which of the backbones.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct IndexRequest {
    /// Only those that answer.
    ready: Option<bool>,
}

/// A backbone in the index.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndexEntry {
    /// Its name.
    #[schema(example = "all-minilm-l6-v2")]
    name: String,
    /// Its version; there is one.
    #[schema(example = "1")]
    version: &'static str,
    /// `READY`, `LOADING` or `UNAVAILABLE`.
    #[schema(example = "READY")]
    state: &'static str,
    /// Why it is not ready; empty where it is.
    reason: String,
}

/// Nothing to say.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Nothing {}

/// What there is.
#[utoipa::path(
    post,
    path = "/v2/repository/index",
    operation_id = "repository_index",
    tag = "Tensors",
    summary = "All backbones, loaded or not",
    description = "Folders that came since the server started are in it as well.",
    request_body(content = Option<IndexRequest>, example = json!({"ready": true})),
    responses(
        (status = 200, description = "In order of name.", body = Vec<IndexEntry>),
        (status = 400, description = "The body cannot be read.", body = InferenceError),
        (status = 401, description = "Missing or unknown key.", body = InferenceError),
        (status = 403, description = "The key lacks the scope.", body = InferenceError),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn index(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<Vec<IndexEntry>>, ApiError> {
    let body = extract::read(request, BODY_BYTES).await?;
    let nothing = body.is_empty() || body.trim_ascii() == b"null";
    let asked = if nothing { IndexRequest::default() } else { extract::parse_json(&body)? };
    let entry =
        |name: &str, state, reason| IndexEntry { name: name.to_owned(), version: VERSION, state, reason };
    let mut all = BTreeMap::new();
    for path in app.folders().await? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let listed = entry(&name, "UNAVAILABLE", "not loaded".to_owned());
        all.insert(name, listed);
    }
    for (name, known) in app.tasks.catalog.list() {
        let state = match known.state() {
            ModelState::Ready => "READY",
            ModelState::Loading => "LOADING",
            ModelState::Unloaded | ModelState::Broken => "UNAVAILABLE",
        };
        let listed = entry(&name, state, known.reason().unwrap_or_default());
        all.insert(name, listed);
    }
    let only_ready = asked.ready.unwrap_or(false);
    Ok(Json(all.into_values().filter(|entry| !only_ready || entry.state == "READY").collect()))
}

/// Loads a backbone.
#[utoipa::path(
    post,
    path = "/v2/repository/models/{model}/load",
    operation_id = "repository_load",
    tag = "Tensors",
    summary = "Load a backbone, or load it anew",
    description = "As `POST /v1/models/{id}/load`. The body is not looked at: what is loaded is in the models folders.",
    params(("model" = String, Path, description = "The backbone's name", example = "all-minilm-l6-v2")),
    responses(
        (status = 200, description = "It answers.", body = Nothing),
        (status = 401, description = "Missing or unknown key.", body = InferenceError),
        (status = 403, description = "The key lacks the scope.", body = InferenceError),
        (status = 404, description = "No models folder has a backbone of that name.", body = InferenceError),
        (status = 409, description = "It cannot be loaded; the text has the reason.", body = InferenceError),
        (status = 503, description = "The server starts or stops, or backbones in use leave no memory.", body = InferenceError),
        (status = 504, description = "It takes longer than a request may; it is loaded all the same.", body = InferenceError),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn load(
    visible: Visible,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<Nothing>, ApiError> {
    let caller = extract::caller(&visible.app, &request)?;
    load_of(&visible, &model, caller).await?;
    Ok(Json(Nothing {}))
}

/// Unloads a backbone.
#[utoipa::path(
    post,
    path = "/v2/repository/models/{model}/unload",
    operation_id = "repository_unload",
    tag = "Tensors",
    summary = "Unload a backbone",
    description = "As `POST /v1/models/{id}/unload`.",
    params(("model" = String, Path, description = "The backbone's name", example = "all-minilm-l6-v2")),
    responses(
        (status = 200, description = "It is unloaded.", body = Nothing),
        (status = 401, description = "Missing or unknown key.", body = InferenceError),
        (status = 403, description = "The key lacks the scope.", body = InferenceError),
        (status = 404, description = "No backbone of that name.", body = InferenceError),
        (status = 503, description = "The server starts or stops.", body = InferenceError),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn unload(visible: Visible, Path(model): Path<String>) -> Result<Json<Nothing>, ApiError> {
    unload_of(&visible, &model).await?;
    Ok(Json(Nothing {}))
}
