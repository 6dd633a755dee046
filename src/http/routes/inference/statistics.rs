//! What backbones have computed since the process started, as the open inference protocol's clients read it.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use headstart_tasks::{Known, TaskError};
use headstart_telemetry::{ModelTotals, Outcome};
use serde::Serialize;
use utoipa::ToSchema;

use super::infer::check_version;
use super::protocol::{InferenceError, VERSION};
use crate::app::App;
use crate::auth::Identity;
use crate::http::error::ApiError;
use crate::http::path::Path;

/// Statistics of backbones.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Statistics {
    /// One for each.
    model_stats: Vec<ModelStatistics>,
}

/// What a backbone has computed, for all kinds of requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelStatistics {
    /// Its name.
    #[schema(example = "all-minilm-l6-v2")]
    name: String,
    /// Its version; there is one.
    #[schema(example = "1")]
    version: &'static str,
    /// Items that were answered: rows of tensors, texts, pictures, sounds.
    inference_count: u64,
    /// Calls of the graph.
    execution_count: u64,
    /// Where the time went.
    inference_stats: InferenceStatistics,
}

/// Counts and times.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InferenceStatistics {
    /// Items that were answered, from their place in the queue on.
    success: CountAndTime,
    /// Items whose call failed or whose deadline passed.
    fail: CountAndTime,
    /// Items that waited for their call.
    queue: CountAndTime,
    /// Calls of the graph.
    compute_infer: CountAndTime,
}

/// How often, and how long in all.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountAndTime {
    /// How often.
    count: u64,
    /// Nanoseconds in all.
    ns: u64,
}

impl CountAndTime {
    fn of(count: u64, seconds: f64) -> Self {
        Self { count, ns: (seconds * 1e9) as u64 }
    }
}

impl ModelStatistics {
    fn of(name: String, totals: &ModelTotals) -> Self {
        let answered = totals.items(Outcome::Answered);
        let failed = [Outcome::Failed, Outcome::Unsuited, Outcome::Expired];
        let failed = failed.into_iter().map(|outcome| totals.items(outcome)).sum();
        let (waited, called) = (totals.queue_wait_seconds, totals.inference_seconds);
        Self {
            name,
            version: VERSION,
            inference_count: answered,
            execution_count: totals.calls,
            inference_stats: InferenceStatistics {
                success: CountAndTime::of(answered, waited + called),
                fail: CountAndTime::of(failed, 0.0),
                queue: CountAndTime::of(totals.waits, waited),
                compute_infer: CountAndTime::of(totals.calls, called),
            },
        }
    }
}

/// What all backbones have computed.
#[utoipa::path(
    get,
    path = "/v2/models/stats",
    operation_id = "statistics",
    tag = "Tensors",
    summary = "What all backbones have computed",
    responses(
        (status = 200, description = "Since the process started.", body = Statistics),
        (status = 401, description = "Missing or unknown key.", body = InferenceError),
        (status = 403, description = "The key lacks the scope.", body = InferenceError),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn statistics(State(app): State<Arc<App>>) -> Json<Statistics> {
    let all = app.tasks.catalog.list().into_iter();
    let of = |(name, _): (String, Known)| {
        let totals = app.metrics.for_model(&name).totals();
        ModelStatistics::of(name, &totals)
    };
    Json(Statistics { model_stats: all.map(of).collect() })
}

/// What a backbone has computed.
#[utoipa::path(
    get,
    path = "/v2/models/{model}/stats",
    operation_id = "model_statistics",
    tag = "Tensors",
    summary = "What a backbone has computed",
    params(("model" = String, Path, description = "The backbone's name", example = "all-minilm-l6-v2")),
    responses(
        (status = 200, description = "Since the process started.", body = Statistics),
        (status = 401, description = "Missing or unknown key.", body = InferenceError),
        (status = 403, description = "The key lacks the scope.", body = InferenceError),
        (status = 404, description = "No backbone of that name.", body = InferenceError),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn model_statistics(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Path(model): Path<String>,
) -> Result<Json<Statistics>, ApiError> {
    if app.tasks.catalog.named(&model).is_none() {
        let unknown = Err(TaskError::UnknownModel(model));
        return Ok(app.tasks.explain_unknown_model(unknown, identity.key).await?);
    }
    let totals = app.metrics.for_model(&model).totals();
    Ok(Json(Statistics { model_stats: vec![ModelStatistics::of(model, &totals)] }))
}

/// The same of a version, of which there is one.
pub(crate) async fn version_statistics(
    State(app): State<Arc<App>>,
    identity: Extension<Identity>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Statistics>, ApiError> {
    check_version(&model, &version)?;
    model_statistics(State(app), identity, Path(model)).await
}
