//! Reports: JSON for programs, one page for people who ask for HTML.

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use headstart_methods::evaluate::page;
use headstart_types::ids::Sha256;
use headstart_types::report::Report;
use utoipa::IntoResponses;

use crate::http::error::ApiError;
use crate::http::visible::Visible;

/// Largest report.
const REPORT_BYTES: u64 = 64 << 20;

/// A report, as routes document it.
#[derive(IntoResponses)]
#[response(
    status = 200,
    description = "The report; as one HTML page where the header `Accept` asks for `text/html`."
)]
pub(crate) struct ReportAnswer(
    #[expect(dead_code, reason = "only its schema is used")]
    #[to_schema]
    Report,
);

/// A report as it was stored, or as a page.
///
/// # Errors
/// 404 where there is none yet.
pub(crate) async fn stored_report(
    visible: &Visible,
    headers: &HeaderMap,
    sha256: Option<&Sha256>,
    missing: impl FnOnce() -> String,
) -> Result<Response, ApiError> {
    let sha256 = sha256.ok_or_else(|| ApiError::not_found(missing()))?;
    let bytes = visible.store.blobs().read(sha256, REPORT_BYTES).await?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accept.contains("text/html") {
        return Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response());
    }
    let report: Report = serde_json::from_slice(&bytes).map_err(|error| {
        tracing::error!(%error, "a stored report cannot be read");
        ApiError::internal()
    })?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // Labels come from uploads: whatever they say, the page runs nothing and asks no one.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; img-src data:"),
    ];
    Ok((headers, page::render(&report)).into_response())
}
