//! Requests that a client sends again under one `Idempotency-Key`: done once, answered alike.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use headstart_store::{Begun, RequestKey, StoredAnswer};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use crate::clock;
use crate::http::error::ApiError;
use crate::http::visible::Visible;

const HEADER: &str = "idempotency-key";
/// Longest token taken.
const TOKEN_BYTES: usize = 256;
/// How long a request that does not end keeps others of its key out.
const HOLD_MS: i64 = 60_000;
/// How long an answer is kept.
const KEEP_MS: i64 = 24 * 60 * 60 * 1000;

/// What a request is known by.
pub(crate) struct Sent<'a> {
    pub(crate) headers: &'a HeaderMap,
    /// Method and route.
    pub(crate) route: &'static str,
    /// What the route's placeholders stand for.
    pub(crate) place: &'a str,
    pub(crate) body: &'a Bytes,
}

/// Does the work, unless it was done under the same `Idempotency-Key`; then the answer is the first one's. `work` is
/// given the id its row is to have, which is that of an earlier try that was cut off. Under a key it goes on when whoever
/// asked has left: they ask again, and are to find it done or not done. A deadline is the work's own affair.
pub(crate) async fn once<A, F>(
    visible: &Visible,
    sent: Sent<'_>,
    resource: String,
    work: impl FnOnce(Visible, String) -> F + Send + 'static,
) -> Result<Response, ApiError>
where
    A: Serialize,
    F: Future<Output = Result<A, ApiError>> + Send,
{
    let Some(token) = sent.headers.get(HEADER) else {
        return Ok(answer(json(&work(visible.clone(), resource).await?)?));
    };
    let token = token.to_str().ok().filter(|token| (1..=TOKEN_BYTES).contains(&token.len()));
    let token = token.ok_or_else(|| {
        ApiError::invalid(
            "Idempotency-Key",
            format!("`Idempotency-Key` must have 1 to {TOKEN_BYTES} ASCII characters"),
        )
    })?;
    let request = RequestKey {
        key: visible.identity.key.to_owned(),
        route: sent.route.to_owned(),
        token: token.to_owned(),
    };
    let (visible, fingerprint) = (visible.clone(), fingerprint(&sent));
    let doing = async move { first(visible, &request, &fingerprint, &resource, work).await };
    tokio::spawn(doing.in_current_span()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request under an `Idempotency-Key` was cut off");
        Err(ApiError::internal())
    })
}

/// Does the work if this is the first request of its key, and keeps its answer for the others.
async fn first<A, F>(
    visible: Visible,
    request: &RequestKey,
    fingerprint: &str,
    resource: &str,
    work: impl FnOnce(Visible, String) -> F,
) -> Result<Response, ApiError>
where
    A: Serialize,
    F: Future<Output = Result<A, ApiError>>,
{
    let store = visible.store.clone();
    let now = clock::now_ms();
    let ticket = match store.begin(request, fingerprint, resource, HOLD_MS, KEEP_MS, now).await? {
        Begun::Answered(stored) => return Ok(answer(stored.body)),
        Begun::InProgress => {
            return Err(ApiError::conflict("a request with this `Idempotency-Key` is being worked on"));
        }
        Begun::Fresh(ticket) => ticket,
    };
    let done = match work(visible, ticket.resource.clone()).await {
        Ok(done) => json(&done),
        Err(error) => Err(error),
    };
    match done {
        Ok(body) => {
            let stored = StoredAnswer { status: StatusCode::OK.as_u16(), body };
            store.complete(&ticket, &stored).await?;
            Ok(answer(stored.body))
        }
        Err(error) => {
            // What was refused may be put right and sent again.
            store.abandon(&ticket).await?;
            Err(error)
        }
    }
}

fn fingerprint(sent: &Sent<'_>) -> String {
    let mut digest = Sha256::new();
    digest.update(sent.place);
    digest.update([0]);
    digest.update(sent.body);
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json<A: Serialize>(done: &A) -> Result<String, ApiError> {
    serde_json::to_string(done).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        ApiError::internal()
    })
}

fn answer(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
