//! What every request passes, outermost first: identity and accounts, then the key, then readiness.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use headstart_telemetry::Reason;
use tracing::Instrument as _;

use crate::app::App;
use crate::auth::{ApiKey, Identity, Scope};
use crate::http::error::ApiError;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken over from a caller.
const LONGEST_ID: usize = 128;

/// Counts a request as in flight for as long as it exists, also when its client leaves.
struct InFlight<'a>(&'a App);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.requests_in_flight.dec();
    }
}

/// Gives the request an id and a span, catches panics, writes error bodies, counts.
pub(crate) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", id = %id, method, route = %route);
    app.metrics.requests_in_flight.inc();
    let in_flight = InFlight(&app);
    let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let response = outcome.unwrap_or_else(|_| {
        app.metrics.panics_total.inc();
        span.in_scope(|| tracing::error!("a request handler panicked"));
        ApiError::internal().into_response()
    });
    drop(in_flight);

    let mut response = match response.extensions().get::<ApiError>().cloned() {
        None => response,
        Some(error) => {
            if let Some(reason) = error.reason {
                app.metrics.reject(reason);
            }
            let allow = response.headers().get(header::ALLOW).cloned();
            let mut rendered = error.render(&id);
            if let Some(allow) = allow {
                rendered.headers_mut().insert(header::ALLOW, allow);
            }
            rendered
        }
    };
    let status = response.status();
    app.metrics.count_request(&route, method, status.as_u16(), started.elapsed());
    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
    span.in_scope(|| {
        if status == axum::http::StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(status = status.as_u16(), milliseconds, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), milliseconds, "answered");
        }
    });
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A closed set: clients may invent methods, metric labels must not follow them.
fn method_name(method: &Method) -> &'static str {
    [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::PATCH]
        .iter()
        .zip(["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
        .find_map(|(known, name)| (known == method).then_some(name))
        .unwrap_or("other")
}

fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let plain = |id: &&str| {
        !id.is_empty()
            && id.len() <= LONGEST_ID
            && id.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\')
    };
    given.filter(plain).map_or_else(|| uuid::Uuid::now_v7().simple().to_string(), str::to_owned)
}

/// Lets a request through whose key has the scope; every request where no keys are set.
pub(crate) async fn authorise(
    State((app, scope)): State<(Arc<App>, Scope)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let keys = &app.config.api_keys;
    if keys.is_empty() {
        request.extensions_mut().insert(Identity::NOBODY);
        return Ok(next.run(request).await);
    }
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = header
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim());
    let Some(presented) = presented else {
        return Err(ApiError::unauthorised("no API key: send it as `Authorization: Bearer KEY`"));
    };
    match ApiKey::find(keys, presented) {
        None => Err(ApiError::unauthorised("the API key is not known")),
        Some(key) if key.allows(scope) => {
            request.extensions_mut().insert(key.identity());
            Ok(next.run(request).await)
        }
        Some(_) => Err(ApiError::forbidden(scope)),
    }
}

/// Answers a change of the registry once requests here see it.
pub(crate) async fn caught_up(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let changes = !request.method().is_safe();
    let response = next.run(request).await;
    if changes && response.status().is_success() {
        app.tasks.classifiers.refresh().await;
    }
    response
}

/// Refuses work while the server starts.
pub(crate) async fn ready(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if app.is_loaded() {
        Ok(next.run(request).await)
    } else {
        Err(ApiError::not_ready().because(Reason::NotReady))
    }
}
