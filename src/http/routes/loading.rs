//! Backbones loaded, loaded anew and unloaded while the service runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use headstart_tasks::{Caller, TaskError};
use headstart_types::key::NewAct;
use serde_json::json;
use tracing::Instrument as _;

use crate::app::App;
use crate::clock;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract;
use crate::http::path::Path;
use crate::http::routes::models::ModelObject;
use crate::http::routes::tasks::within;
use crate::http::visible::Visible;

/// Loads a backbone.
#[utoipa::path(
    post,
    path = "/v1/models/{id}/load",
    operation_id = "load_model",
    tag = "Models",
    summary = "Load a backbone, or load it anew",
    description = "Reads its folder as it is now, also one that was not there when the server started. While a backbone is \
                   loaded anew the old one answers, and requests in flight finish on it; it stays where the new one cannot be \
                   loaded. Answered once it is loaded; the load goes on where the client does not wait. For keys with the \
                   scope `admin`.",
    params(("id" = String, Path, description = "The backbone's name", example = "all-minilm-l6-v2")),
    responses(
        (status = 200, description = "It answers.", body = ModelObject),
        (status = 401, description = "Missing or unknown key.", body = ErrorBody),
        (status = 403, description = "The key lacks the scope.", body = ErrorBody),
        (status = 404, description = "No models folder has a backbone of that name.", body = ErrorBody),
        (status = 409, description = "It cannot be loaded; the message has the reason.", body = ErrorBody),
        (status = 503, description = "The server starts or stops, or backbones in use leave no memory.", body = ErrorBody),
        (status = 504, description = "It takes longer than a request may; it is loaded all the same.", body = ErrorBody),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn load(
    visible: Visible,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<ModelObject>, ApiError> {
    let caller = extract::caller(&visible.app, &request)?;
    load_of(&visible, &id, caller).await?;
    object(&visible.app, id)
}

/// Unloads a backbone.
#[utoipa::path(
    post,
    path = "/v1/models/{id}/unload",
    operation_id = "unload_model",
    tag = "Models",
    summary = "Unload a backbone",
    description = "Requests in flight finish on it, then its memory is given back. It stays unloaded until it is loaded by \
                   request or the server starts anew; classifiers on it answer 503 meanwhile. For keys with the scope `admin`.",
    params(("id" = String, Path, description = "The backbone's name", example = "all-minilm-l6-v2")),
    responses(
        (status = 200, description = "It is unloaded.", body = ModelObject),
        (status = 401, description = "Missing or unknown key.", body = ErrorBody),
        (status = 403, description = "The key lacks the scope.", body = ErrorBody),
        (status = 404, description = "No backbone of that name.", body = ErrorBody),
        (status = 503, description = "The server starts or stops.", body = ErrorBody),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn unload(visible: Visible, Path(id): Path<String>) -> Result<Json<ModelObject>, ApiError> {
    unload_of(&visible, &id).await?;
    object(&visible.app, id)
}

/// Loads a backbone within the time that a request has. The load goes on behind it.
pub(super) async fn load_of(visible: &Visible, id: &str, caller: Caller) -> Result<(), ApiError> {
    let key = visible.identity.key;
    let loaded = noted(visible, "backbone.load", id, move |app, id| async move {
        match app.tasks.explain_unknown_model(app.loading()?.load(&id).await, key).await {
            Ok(_) => Ok(()),
            Err(TaskError::BrokenModel { reason, .. }) => {
                Err(ApiError::conflict(format!("`{id}` could not be loaded: {reason}")))
            }
            Err(error) => Err(error.into()),
        }
    });
    within(caller, loaded).await
}

pub(super) async fn unload_of(visible: &Visible, id: &str) -> Result<(), ApiError> {
    let key = visible.identity.key;
    let unloaded = noted(visible, "backbone.unload", id, move |app, id| async move {
        Ok(app.tasks.explain_unknown_model(app.loading()?.unload(&id).await, key).await?)
    });
    unloaded.await
}

/// Does something with a backbone and says in the audit who did it, on a task of its own: whoever asked may leave before it
/// is done, and what is done is noted. Where the store takes no note, the log's line of the audit is written here.
async fn noted<F>(
    visible: &Visible,
    action: &'static str,
    id: &str,
    act: impl FnOnce(Arc<App>, String) -> F,
) -> Result<(), ApiError>
where
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let acting = act(Arc::clone(&visible.app), id.to_owned());
    let (store, who, subject) = (visible.store.clone(), visible.identity.key.to_owned(), id.to_owned());
    let doing = async move {
        acting.await?;
        let act = NewAct { who, action: action.to_owned(), subject, details: json!({}) };
        let noted = store.note(&act, clock::now_ms()).await;
        if let Err(error) = &noted {
            tracing::error!(
                target: "audit",
                %error,
                who = act.who,
                action,
                subject = act.subject,
                "done, and not noted"
            );
        }
        noted.map_err(ApiError::from)
    };
    tokio::spawn(doing.in_current_span()).await.unwrap_or_else(|error| {
        tracing::error!(%error, action, "an act on a backbone was cut off");
        Err(ApiError::internal())
    })
}

fn object(app: &App, id: String) -> Result<Json<ModelObject>, ApiError> {
    let known = app.tasks.catalog.entry(&id);
    let known = known.ok_or_else(|| ApiError::from(TaskError::UnknownModel(id.clone())))?;
    Ok(Json(ModelObject::new(id, &known)))
}
