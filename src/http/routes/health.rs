//! What balancers and monitors ask: alive, ready, metrics. Never queued, never keyed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::http::error::{ApiError, ErrorBody};

/// The process answers.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "Operations",
    summary = "Whether the process answers",
    responses((status = 200, description = "It does.", body = String, example = "ok"))
)]
pub(crate) async fn live() -> &'static str {
    "ok"
}

/// Backbones are loaded and warm, and the server is not stopping.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Operations",
    summary = "Whether requests are taken",
    responses(
        (status = 200, description = "They are.", body = String, example = "ok"),
        (status = 503, description = "The server starts or stops.", body = ErrorBody),
    )
)]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    if app.is_ready() { Ok("ok") } else { Err(ApiError::not_ready()) }
}

/// Every metric.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operations",
    summary = "Metrics in Prometheus' text format",
    responses((status = 200, description = "All series.", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let text = app.metrics.render().map_err(|error| {
        tracing::error!(%error, "metrics could not be written");
        ApiError::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
