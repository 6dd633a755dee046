//! The protocol's model repository: which backbones there are, loaded or not; and loading and unloading them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use headstart_tasks::State as ModelState;
use headstart_types::object;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::protocol::{InferenceError, VERSION};
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::path::Path;
use crate::http::routes::jobs::BODY_BYTES;
use crate::http::routes::loading::{load_of, unload_of};
use crate::http::routes::tasks::within;
use crate::http::visible::Visible;
use crate::http::{body_memory, extract};

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
    description = "Folders that came since the server started are in it as well. For keys with the scope `admin`.",
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
    let asked: IndexRequest = said(&body)?;
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

/// A body that may be left out.
fn said<T: Default + DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = body.trim_ascii();
    if text.is_empty() || text == b"null" { Ok(T::default()) } else { extract::parse_json(body) }
}

/// What is to be loaded, beside its name.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct LoadRequest {
    /// Must be empty: `config` and `file:…`, which other servers load in place of what is in a folder, are refused.
    #[serde(default, deserialize_with = "object::optional")]
    #[schema(value_type = Option<Object>)]
    parameters: Option<FirstName>,
}

/// The first name of an object; nothing else of it is kept.
#[derive(Debug)]
struct FirstName(Option<String>);

impl<'de> Deserialize<'de> for FirstName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FirstNameVisitor)
    }
}

struct FirstNameVisitor;

impl<'de> Visitor<'de> for FirstNameVisitor {
    type Value = FirstName;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FirstName, A::Error> {
        let first = map.next_entry::<String, IgnoredAny>()?.map(|(name, _)| name);
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(FirstName(first))
    }
}

/// Refuses what would load something else than the folder: left out without a word it would seem to be loaded.
async fn nothing_else(app: &App, request: Request) -> Result<(), ApiError> {
    let (request, _memory) = body_memory::hold(app, request).await?;
    let body = extract::read(request, app.config.max_body_bytes).await?;
    let asked: LoadRequest = said(&body)?;
    match asked.parameters.and_then(|FirstName(name)| name) {
        None => Ok(()),
        Some(name) => {
            let field = format!("parameters.{name}");
            let problem =
                format!("`{field}` is not taken: a backbone is loaded as it is in its models folder");
            Err(ApiError::invalid(field, problem))
        }
    }
}

/// Loads a backbone.
#[utoipa::path(
    post,
    path = "/v2/repository/models/{model}/load",
    operation_id = "repository_load",
    tag = "Tensors",
    summary = "Load a backbone, or load it anew",
    description = "As `POST /v1/models/{id}/load`. There need be no body; one with `parameters`, such as `config` and `file:…`, \
                   is refused: what is loaded is in the models folders.",
    params(("model" = String, Path, description = "The backbone's name", example = "all-minilm-l6-v2")),
    request_body(content = Option<LoadRequest>, example = json!({})),
    responses(
        (status = 200, description = "It answers.", body = Nothing),
        (status = 400, description = "The body cannot be read, or has parameters.", body = InferenceError),
        (status = 401, description = "Missing or unknown key.", body = InferenceError),
        (status = 403, description = "The key lacks the scope.", body = InferenceError),
        (status = 404, description = "No models folder has a backbone of that name.", body = InferenceError),
        (status = 409, description = "It cannot be loaded; the text has the reason.", body = InferenceError),
        (status = 413, description = "The body is larger than allowed.", body = InferenceError),
        (status = 415, description = "The body is compressed.", body = InferenceError),
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
    within(caller, nothing_else(&visible.app, request)).await?;
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
