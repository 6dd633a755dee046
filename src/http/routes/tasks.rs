//! A route for every task: read the fields, ask, write the answer.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use headstart_tasks::{Caller, Done, Task, TaskError, TaskVisitor, Timings, visit_all};
use serde::Serialize;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::extract;

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
    let done = within(caller, async {
        let _memory = extract::body_memory(&app, request.headers()).await?;
        let params = extract::params::<T>(&app, request).await?;
        Ok(T::run(&app.tasks, params, caller).await?)
    })
    .await?;
    Ok(answer(done))
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

/// An answer as JSON, with its times in `Server-Timing`.
pub(crate) fn answer<T: Serialize>(done: Done<T>) -> Response {
    match serde_json::to_vec(&done.answer) {
        Ok(json) => {
            let mut response = ([(header::CONTENT_TYPE, "application/json")], json).into_response();
            if let Ok(value) = HeaderValue::from_str(&server_timing(done.timings)) {
                response.headers_mut().insert("server-timing", value);
            }
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            ApiError::from(TaskError::Bug("an answer could not be written")).into_response()
        }
    }
}

fn server_timing(timings: Timings) -> String {
    let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    format!(
        "preprocess;dur={:.3}, queue;dur={:.3}, inference;dur={:.3}",
        milliseconds(timings.preprocess),
        milliseconds(timings.queue),
        milliseconds(timings.inference)
    )
}
