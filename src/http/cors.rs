//! Pages of other origins: which may ask, and which headers they see. Keys are sent by the page itself, never as
//! credentials of the browser.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::http::layers::REQUEST_ID;
use crate::http::routes::inference;

/// How long a browser may keep what a preflight said.
const KEPT: Duration = Duration::from_secs(600);

/// What pages may read of an answer's headers.
const SHOWN: [HeaderName; 11] = [
    REQUEST_ID,
    header::RETRY_AFTER,
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("x-ratelimit-limit-items"),
    HeaderName::from_static("x-ratelimit-remaining-items"),
    HeaderName::from_static("x-ratelimit-reset-items"),
    inference::HEADER_LENGTH,
];

/// The layer for these origins, `*` for all; `None` where there are none.
pub(crate) fn layer(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
    let layer = CorsLayer::new()
        .allow_origin(origin)
        .allow_methods(methods)
        // Clients have headers of their own, such as `x-stainless-…`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(SHOWN)
        .max_age(KEPT);
    Some(layer)
}
