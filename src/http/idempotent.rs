//! Requests that a client sends again under one `Idempotency-Key`: done once, answered alike.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use headstart_store::{Begun, NewRequest, RequestKey, Store, StoredAnswer, Ticket};
use headstart_types::hex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use crate::clock;
use crate::http::error::ApiError;
use crate::http::visible::Visible;

pub(crate) const HEADER: &str = "idempotency-key";
/// Longest token taken.
const TOKEN_BYTES: usize = 256;
/// How long a request that does not end keeps others of its key out.
const HOLD_MS: i64 = 60_000;
/// How often a request that is worked on says so.
const RENEW: Duration = Duration::from_secs(20);
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

/// What work that is done once is given.
pub(crate) struct Under {
    /// The id that its row is to have, which is that of an earlier try that was cut off.
    pub(crate) resource: String,
    /// The right to answer, under a key: for work that writes its answer with what it does.
    pub(crate) ticket: Option<Ticket>,
}

/// Does the work, unless it was done under the same `Idempotency-Key`; then the answer is the first one's. `work` is
/// given the id its row is to have, which is that of an earlier try that was cut off. Under a key it goes on when whoever
/// asked has left: they ask again, and are to find it done or not done. Until then it is one of its key's open requests. A
/// deadline is the work's own affair.
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
    once_under(visible, sent, resource, |visible, under| work(visible, under.resource)).await
}

/// The same for work that may write its answer itself; it has to be the one that it gives.
pub(crate) async fn once_under<A, F>(
    visible: &Visible,
    sent: Sent<'_>,
    resource: String,
    work: impl FnOnce(Visible, Under) -> F + Send + 'static,
) -> Result<Response, ApiError>
where
    A: Serialize,
    F: Future<Output = Result<A, ApiError>> + Send,
{
    let Some(token) = sent.headers.get(HEADER) else {
        let under = Under { resource, ticket: None };
        return Ok(answer(json(&work(visible.clone(), under).await?)?));
    };
    let token = token.to_str().ok().filter(|token| (1..=TOKEN_BYTES).contains(&token.len()));
    let token = token.ok_or_else(|| {
        ApiError::invalid(
            "Idempotency-Key",
            format!("`Idempotency-Key` must have 1 to {TOKEN_BYTES} ASCII characters"),
        )
    })?;
    let key = RequestKey {
        key: visible.identity.key.to_owned(),
        route: sent.route.to_owned(),
        token: token.to_owned(),
    };
    let (visible, fingerprint) = (visible.clone(), fingerprint(&sent));
    let doing = async move {
        let _place = visible.place.clone();
        first(visible, &key, &fingerprint, &resource, work).await
    };
    tokio::spawn(doing.in_current_span()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request under an `Idempotency-Key` was cut off");
        Err(ApiError::internal())
    })
}

/// Does the work if this is the first request of its key, and keeps its answer for the others.
async fn first<A, F>(
    visible: Visible,
    key: &RequestKey,
    fingerprint: &str,
    resource: &str,
    work: impl FnOnce(Visible, Under) -> F,
) -> Result<Response, ApiError>
where
    A: Serialize,
    F: Future<Output = Result<A, ApiError>>,
{
    let store = visible.store.clone();
    let new = NewRequest { key, fingerprint, resource, hold_ms: HOLD_MS, keep_ms: KEEP_MS };
    let ticket = match store.begin(new, clock::now_ms()).await? {
        Begun::Answered(stored) => return Ok(answer(stored.body)),
        Begun::InProgress => {
            return Err(ApiError::conflict("a request with this `Idempotency-Key` is being worked on"));
        }
        Begun::Fresh(ticket) => ticket,
    };
    let under = Under { resource: ticket.resource.clone(), ticket: Some(ticket.clone()) };
    let done = match held((&store, &ticket), RENEW, work(visible, under)).await {
        Ok(done) => stored(&done),
        Err(error) => Err(error),
    };
    match done {
        Ok(stored) => {
            store.complete(&ticket, &stored).await?;
            Ok(answer(stored.body))
        }
        Err(error) => {
            if error.status.is_server_error() {
                // What was asked for may be done: whoever sends it again is to find it by its id, not to make another.
                store.let_go(&ticket).await?;
            } else {
                // What was refused may be put right and sent again.
                store.abandon(&ticket).await?;
            }
            Err(error)
        }
    }
}

/// Does the work and renews the right to it meanwhile, so that nobody else takes it for dead.
async fn held<T>((store, ticket): (&Store, &Ticket), every: Duration, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        if let Ok(done) = tokio::time::timeout(every, &mut work).await {
            return done;
        }
        match store.renew(ticket, clock::now_ms()).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!("another request with the same `Idempotency-Key` took over"),
            Err(error) => tracing::warn!(%error, "the right to an `Idempotency-Key` was not renewed"),
        }
    }
}

fn fingerprint(sent: &Sent<'_>) -> String {
    let mut digest = Sha256::new();
    digest.update(sent.place);
    digest.update([0]);
    digest.update(sent.body);
    hex(&digest.finalize())
}

/// An answer as it is kept.
pub(crate) fn stored<A: Serialize>(done: &A) -> Result<StoredAnswer, ApiError> {
    Ok(StoredAnswer { status: StatusCode::OK.as_u16(), body: json(done)? })
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use axum::middleware::from_fn_with_state;
    use axum::routing::{get, post};
    use tokio::sync::Notify;
    use tower::ServiceExt as _;

    use super::*;
    use crate::app::App;
    use crate::auth::{Identity, Scope};
    use crate::config::{Config, Options};
    use crate::http::layers;

    /// Asks under one key, for what ends as it is given; the id that the work was given.
    async fn asked(visible: &Visible, new: &str, outcome: Result<(), ApiError>) -> Option<String> {
        let headers = HeaderMap::from_iter([(header::HeaderName::from_static(HEADER), "t".parse().unwrap())]);
        let sent = Sent { headers: &headers, route: "POST /", place: "", body: &Bytes::new() };
        let (given, taken) = std::sync::mpsc::channel();
        let failed = outcome.is_err();
        let answered = once(visible, sent, new.to_owned(), move |_, id| async move {
            given.send(id.clone()).unwrap();
            outcome.map(|()| id)
        });
        assert_eq!(answered.await.is_err(), failed);
        taken.try_recv().ok()
    }

    #[tokio::test]
    async fn what_failed_is_done_again_under_its_id_and_what_was_refused_under_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { data: Some(folder.path().to_owned()), ..Options::default() };
        let app = Arc::new(App::new(Config::resolve(options).unwrap()).unwrap());
        app.open_store().await.unwrap();
        let store = app.store().unwrap().clone();
        let visible = Visible { app, store, identity: Identity::NOBODY, place: None };
        let refused = Err(ApiError::invalid("suffix", "is wrong"));
        assert_eq!(asked(&visible, "job-1", refused).await.unwrap(), "job-1");
        // The row was made, and what is told of it could not be read.
        assert_eq!(asked(&visible, "job-2", Err(ApiError::internal())).await.unwrap(), "job-2");
        assert_eq!(asked(&visible, "job-3", Err(ApiError::not_ready())).await.unwrap(), "job-2");
        assert_eq!(asked(&visible, "job-4", Ok(())).await.unwrap(), "job-2");
        assert_eq!(asked(&visible, "job-5", Ok(())).await, None, "it was answered");
    }

    /// A route of work under a key that says when it has begun and ends when it may, and a quick one.
    fn routes(app: &Arc<App>, begun: &Arc<Notify>, may_end: &Arc<Notify>) -> Router {
        let (begun, may_end) = (Arc::clone(begun), Arc::clone(may_end));
        let slow = move |visible: Visible, headers: HeaderMap| {
            let (begun, may_end) = (Arc::clone(&begun), Arc::clone(&may_end));
            async move {
                let sent = Sent { headers: &headers, route: "POST /slow", place: "", body: &Bytes::new() };
                once(&visible, sent, "row".to_owned(), move |_, _| async move {
                    begun.notify_one();
                    may_end.notified().await;
                    Ok(())
                })
                .await
            }
        };
        Router::new()
            .route("/slow", post(slow))
            .route("/quick", get(|| async {}))
            .route_layer(from_fn_with_state((Arc::clone(app), Scope::Infer), layers::authorise))
            .with_state(Arc::clone(app))
    }

    #[tokio::test]
    async fn work_that_its_client_left_is_one_of_its_keys_requests_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            data: Some(folder.path().to_owned()),
            api_keys: Some("anna:infer:key-of-anna".into()),
            key_concurrency: Some(1),
            ..Options::default()
        };
        let app = Arc::new(App::new(Config::resolve(options).unwrap()).unwrap());
        app.open_store().await.unwrap();
        let (begun, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let routes = routes(&app, &begun, &may_end);
        let ask = |request: axum::http::request::Builder| {
            let request = request.header("authorization", "Bearer key-of-anna").header(HEADER, "t");
            routes.clone().oneshot(request.body(Body::empty()).unwrap())
        };
        tokio::select! {
            _ = ask(Request::post("/slow")) => panic!("it may not end yet"),
            () = begun.notified() => {}
        }
        let status = async || ask(Request::get("/quick")).await.unwrap().status().as_u16();
        assert_eq!(status().await, 429, "whoever asked has left, and the work goes on");
        may_end.notify_one();
        let ended = async {
            while status().await != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("its place is free at its end");
    }

    #[tokio::test]
    async fn work_that_outlasts_its_hold_keeps_others_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let key = RequestKey { key: "anna".into(), route: "r".into(), token: "t".into() };
        let (fingerprint, resource) = ("f", "row");
        let new = NewRequest { key: &key, fingerprint, resource, hold_ms: HOLD_MS, keep_ms: KEEP_MS };
        let begin = async |now| store.begin(new, now).await.unwrap();
        let started = clock::now_ms();
        let Begun::Fresh(ticket) = begin(started).await else { panic!("it is new") };
        let work = tokio::time::sleep(Duration::from_millis(200));
        held((&store, &ticket), Duration::from_millis(20), work).await;
        // Without a renewal the first hold would be over by then.
        assert_eq!(begin(started + HOLD_MS).await, Begun::InProgress);
        let later = clock::now_ms() + HOLD_MS;
        assert!(matches!(begin(later).await, Begun::Fresh(_)), "nobody renews it any more");
    }
}
