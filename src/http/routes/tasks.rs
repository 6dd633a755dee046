//! A route for every task: read the fields, ask, write the answer.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use headstart_tasks::{Caller, Done, Task, TaskError, TaskVisitor, Timings, visit_all};
use serde::Serialize;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::{body_memory, extract};
use crate::traces::{Stages, Watch};

/// One route a task: `POST /v1/<name>`.
pub(crate) fn routes(_: &Arc<App>) -> Router<Arc<App>> {
    struct AddRoute(Router<Arc<App>>);
    impl TaskVisitor for AddRoute {
        fn visit<T: Task>(&mut self) {
            let router = std::mem::take(&mut self.0);
            self.0 = router.route(&format!("/v1/{}", T::NAME), post(handle::<T>));
        }
    }
    let mut routes = AddRoute(Router::new());
    visit_all(&mut routes);
    routes.0
}

async fn handle<T: Task>(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let caller = extract::caller(&app, &request)?;
    let mut watch = Watch::start();
    let done = within(caller, async {
        let (request, _memory) = body_memory::hold(&app, request).await?;
        let params = extract::params::<T>(&app, request).await?;
        watch.decoded();
        Ok(T::run(&app.tasks, params, caller).await?)
    })
    .await?;
    Ok(answer(done, watch))
}

/// Ends a request at its deadline; what it was waiting for is dropped, and so cancelled.
pub(crate) async fn within<T>(
    caller: Caller,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    match caller.deadline {
        None => work.await,
        Some(deadline) => {
            tokio::time::timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(ApiError::deadline()))
        }
    }
}

/// An answer as JSON, with its stages.
fn answer<T: Serialize>(done: Done<T>, watch: Watch) -> Response {
    match serde_json::to_vec(&done.answer) {
        Ok(json) => {
            let response = ([(header::CONTENT_TYPE, "application/json")], json).into_response();
            stamp(response, watch, done.timings)
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            ApiError::from(TaskError::Bug("an answer could not be written")).into_response()
        }
    }
}

/// Says of an answer where its time went, to its client and to its trace.
pub(crate) fn stamp(mut response: Response, watch: Watch, timings: Timings) -> Response {
    let stages = Stages::new(watch, timings, Instant::now());
    if let Ok(value) = HeaderValue::from_str(&stages.header()) {
        response.headers_mut().insert("server-timing", value);
    }
    response.extensions_mut().insert(stages);
    response
}
