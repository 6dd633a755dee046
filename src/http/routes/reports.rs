//! Reports: JSON for programs, one page for people who ask for HTML.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use headstart_methods::evaluate::page;
use headstart_types::ids::Sha256;
use headstart_types::report::Report;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{Ref, RefOr};
use utoipa::{IntoResponses, PartialSchema as _, ToSchema as _};

use crate::http::error::ApiError;
use crate::http::visible::Visible;

/// Largest report.
const REPORT_BYTES: u64 = 64 << 20;

/// A report, as routes document it.
pub(crate) struct ReportAnswer;

impl IntoResponses for ReportAnswer {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let says = "The report; as one HTML page where the header `Accept` asks for `text/html`, no less than for JSON.";
        let report = ContentBuilder::new().schema(Some(Ref::from_schema_name(Report::name())));
        let page = ContentBuilder::new().schema(Some(String::schema()));
        let answer = ResponseBuilder::new()
            .description(says)
            .content("application/json", report.build())
            .content("text/html", page.build());
        BTreeMap::from([("200".to_owned(), answer.build().into())])
    }
}

/// A report as it was stored, with the version it is of, which has no number yet when a report is written; or as a page.
///
/// # Errors
/// 404 where there is none yet.
pub(crate) async fn stored_report(
    visible: &Visible,
    headers: &HeaderMap,
    (sha256, version): (Option<&Sha256>, Option<String>),
    missing: impl FnOnce() -> String,
) -> Result<Response, ApiError> {
    let sha256 = sha256.ok_or_else(|| ApiError::not_found(missing()))?;
    let bytes = visible.store.blobs().read(sha256, REPORT_BYTES).await?;
    let damaged = |error| {
        tracing::error!(%error, "a stored report cannot be read");
        ApiError::internal()
    };
    let report = serde_json::from_slice::<Report>(&bytes).map(|mut report| {
        report.run.fine_tuned_model = version;
        report
    });
    if !prefers_page(headers) {
        // One of another build goes as it is.
        let bytes = report.map_or(Ok(bytes), |report| serde_json::to_vec(&report)).map_err(damaged)?;
        return Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response());
    }
    let report = report.map_err(damaged)?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // Labels come from uploads: whatever they say, the page runs nothing and asks no one.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; img-src data:"),
    ];
    Ok((headers, page::render(&report)).into_response())
}

/// Whether `Accept` asks for HTML rather than for JSON. Without a word on either, JSON it is.
fn prefers_page(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accept: Vec<&str> = accept.flat_map(|value| value.split(',')).collect();
    let quality = |kind: &str| {
        accept.iter().find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().filter(|given| given.eq_ignore_ascii_case(kind))?;
            let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
            Some(quality.map_or(1.0, |quality| quality.trim().parse::<f32>().unwrap_or(0.0)))
        })
    };
    let page = quality("text/html").unwrap_or(0.0);
    let any = quality("application/*").or_else(|| quality("*/*"));
    page > 0.0 && page >= quality("application/json").or(any).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_for_those_who_like_it_no_less_than_json() {
        let page = |accept: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            prefers_page(&headers)
        };
        for accept in [
            "text/html",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/json;q=0.4, Text/HTML; q=0.5",
            "text/html, application/json",
        ] {
            assert!(page(accept), "{accept}");
        }
        for accept in [
            "*/*",
            "application/json;q=0.5, text/html;q=0.4",
            "text/html;q=0",
            "application/json",
            "text/htmlx",
        ] {
            assert!(!page(accept), "{accept}");
        }
        assert!(!prefers_page(&HeaderMap::new()));
    }
}
