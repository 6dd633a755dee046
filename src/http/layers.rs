//! What every request passes, outermost first: identity and accounts, then the key, then readiness.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use headstart_telemetry::Reason;
use tracing::Instrument as _;

use crate::app::App;
use crate::auth::{ApiKey, Identity, Scope};
use crate::clock::now_ms;
use crate::http::error::ApiError;
use crate::http::{foreign_pages, held};
use crate::keys::{Found, Left, Refused};
use crate::traces::{Answered, Stages, Trace};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken over from a caller.
const LONGEST_ID: usize = 128;

/// Gives the request an id and a span, catches panics, writes error bodies, counts.
pub(crate) async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let method = method_name(request.method());
    let path = request.uri().path();
    let plain = path == "/v2" || path.starts_with("/v2/");
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let trace = app.traces().and_then(|traces| traces.begin(request.headers()));
    let trace_id = trace.as_ref().map(Trace::id);
    if let Some(parent) = trace.as_ref().and_then(Trace::passed_on) {
        request.extensions_mut().insert(parent);
    }
    let key = tracing::field::Empty;
    let span = tracing::info_span!("request", id = %id, method, route = %route, key, trace_id);
    let underway = app.metrics.requests.begin(&route, started);
    let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let response = outcome.unwrap_or_else(|_| {
        app.metrics.panics_total.inc();
        span.in_scope(|| tracing::error!("a request handler panicked"));
        ApiError::internal().into_response()
    });

    let mut response = with_error_body(&app, response, &id, plain);
    let status = response.status();
    underway.answer(method, status.as_u16());
    span.in_scope(|| tell(&app, &id, status, started.elapsed()));
    if let (Some(traces), Some(trace)) = (app.traces(), trace) {
        let stages = response.extensions().get::<Stages>().copied();
        let (status, request_id) = (status.as_u16(), id.as_str());
        traces.end(&trace, &Answered { method, route: &route, status, request_id, stages });
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A line of the log for an answer: where answers are logged, for every error and every slow one, and a share of the others.
fn tell(app: &App, id: &str, status: StatusCode, took: Duration) {
    let milliseconds = took.as_secs_f64() * 1e3;
    let share = app.config.access_log;
    let slow = took >= Duration::from_millis(app.config.slow_ms);
    let bad = status.is_client_error() || status.is_server_error();
    let (status, logged) = (status.as_u16(), share > 0.0 && (bad || slow || sampling_point(id) < share));
    if status == 500 {
        tracing::warn!(status, milliseconds, "answered");
    } else if logged {
        tracing::info!(status, milliseconds, "answered");
    } else {
        tracing::debug!(status, milliseconds, "answered");
    }
}

/// A number in [0, 1) made of the request's id: a request is sampled by all lines and processes alike, or by none.
fn sampling_point(id: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
}

/// An error's answer with its body, and counted; what layers within have said in headers holds for it too.
fn with_error_body(app: &App, mut response: Response, id: &str, plain: bool) -> Response {
    let Some(error) = response.extensions().get::<ApiError>().cloned() else { return response };
    if let Some(reason) = error.reason {
        app.metrics.reject(reason);
    }
    let mut headers = std::mem::take(response.headers_mut());
    headers.remove(header::CONTENT_LENGTH);
    let mut rendered = error.render(id, plain);
    headers.extend(std::mem::take(rendered.headers_mut()));
    *rendered.headers_mut() = headers;
    rendered
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
    let acceptable = |id: &&str| {
        !id.is_empty()
            && id.len() <= LONGEST_ID
            && id.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\')
    };
    given.filter(acceptable).map_or_else(|| uuid::Uuid::now_v7().simple().to_string(), str::to_owned)
}

/// Lets a request through whose key has the scope; where no keys are set, every one that no page of another origin sends.
pub(crate) async fn authorise(
    State((app, scope)): State<(Arc<App>, Scope)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !app.keys.are_asked_for() {
        foreign_pages::refuse(&app.config, request.uri(), request.headers())?;
        request.extensions_mut().insert(Identity::NOBODY);
        return Ok(next.run(request).await);
    }
    let key = presented(&app, &request)?;
    if !key.allows(scope) {
        return Err(ApiError::forbidden(scope));
    }
    let identity = key.identity();
    tracing::Span::current().record("key", identity.key);
    let admitted = match app.accounts.admit(identity.key, key.limits()) {
        Ok(admitted) => admitted,
        Err(refused) => {
            let response = ApiError::over_limit(&refused).into_response();
            let left = match refused {
                Refused::Rate { left, .. } => Some(left),
                Refused::Concurrency { .. } => app.accounts.requests_left(identity.key),
            };
            return Ok(with_limits(&app, identity.key, left, response));
        }
    };
    let place = Arc::new(admitted.place);
    request.extensions_mut().insert(identity);
    // For work that goes on when its client has left.
    request.extensions_mut().insert(Arc::clone(&place));
    let response = next.run(request).await;
    // A long answer takes its place until its end.
    let response = response.map(|body| held::hold(body, place));
    Ok(with_limits(&app, identity.key, admitted.left, response))
}

/// An answer with what is left of a key's limits: of its requests as this one has left them, of its items as the last that
/// asked for any.
fn with_limits(app: &App, key: &str, requests: Option<Left>, response: Response) -> Response {
    let told_of = |response, (left, headers): (Option<Left>, Told)| match left {
        Some(left) => told(left, response, headers),
        None => response,
    };
    [(requests, REQUESTS), (app.accounts.items_left(key), ITEMS)].into_iter().fold(response, told_of)
}

/// Headers that say what is left of a limit, in the manner of the OpenAI API: the limit, what remains, until all of it does.
type Told = [HeaderName; 3];

const REQUESTS: Told = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];

const ITEMS: Told = [
    HeaderName::from_static("x-ratelimit-limit-items"),
    HeaderName::from_static("x-ratelimit-remaining-items"),
    HeaderName::from_static("x-ratelimit-reset-items"),
];

/// Tells what is left of a key's limit.
fn told(left: Left, mut response: Response, [limit, remaining, reset]: Told) -> Response {
    let headers = response.headers_mut();
    headers.insert(limit, HeaderValue::from(left.limit));
    headers.insert(remaining, HeaderValue::from(left.remaining));
    if let Ok(time) = HeaderValue::from_str(&format!("{:.3}s", left.reset.as_secs_f64())) {
        headers.insert(reset, time);
    }
    response
}

/// The key that a request presents.
fn presented(app: &App, request: &Request) -> Result<ApiKey, ApiError> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = header
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim());
    let Some(presented) = presented else {
        return Err(ApiError::unauthorised("no API key: send it as `Authorization: Bearer KEY`"));
    };
    match app.keys.find(presented, now_ms()) {
        Found::Key(key) => Ok(key),
        Found::Expired => Err(ApiError::unauthorised("the API key has expired")),
        Found::Unknown => Err(ApiError::unauthorised("the API key is not known")),
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

/// Refuses changes while the server starts: which backbones there are, and so which names are free, is not known before.
pub(crate) async fn loaded_for_changes(
    state: State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if request.method().is_safe() { Ok(next.run(request).await) } else { ready(state, request, next).await }
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
