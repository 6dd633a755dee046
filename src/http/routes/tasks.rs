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
        Ok(app.tasks.explain_unknown_model(T::run(&app.tasks, params, caller).await, caller.key).await?)
    })
    .await?;
    answer(done, watch).await
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

/// Bytes that are written on the thread that serves the network, in about a millisecond; more would hold up everybody else.
const INLINE_BYTES: usize = 256 << 10;

/// An answer as JSON, with its stages.
async fn answer<T: Serialize + Send + 'static>(done: Done<T>, watch: Watch) -> Result<Response, ApiError> {
    let Done { answer, timings } = done;
    let mut short = Short(Vec::new());
    let json = match serde_json::to_writer(&mut short, &answer) {
        Ok(()) => Ok(short.0),
        Err(error) if error.is_io() => {
            let written = tokio::task::spawn_blocking(move || serde_json::to_vec(&answer)).await;
            written.map_err(|_| ApiError::internal())?
        }
        Err(error) => Err(error),
    };
    let json = json.map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        ApiError::from(TaskError::Bug("an answer could not be written"))
    })?;
    let response = ([(header::CONTENT_TYPE, "application/json")], json).into_response();
    Ok(stamp(response, watch, timings))
}

/// Takes so many bytes and no more: how long an answer is shows only as it is written.
struct Short(Vec<u8>);

impl std::io::Write for Short {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > INLINE_BYTES {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread::{self, ThreadId};

    use http_body_util::BodyExt as _;
    use serde::ser::{SerializeSeq as _, Serializer};

    use super::*;

    /// Ones, which tell whoever writes them all by its thread.
    struct Ones(usize, Arc<Mutex<Option<ThreadId>>>);

    impl Serialize for Ones {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut list = serializer.serialize_seq(Some(self.0))?;
            (0..self.0).try_for_each(|_| list.serialize_element(&1))?;
            *self.1.lock().unwrap() = Some(thread::current().id());
            list.end()
        }
    }

    #[tokio::test]
    async fn a_long_answer_is_written_whole_and_by_a_thread_that_serves_no_network() {
        for (ones, here) in [(1, true), (1000, true), (INLINE_BYTES, false), (3 * INLINE_BYTES, false)] {
            let writer = Arc::default();
            let done = Done { answer: Ones(ones, Arc::clone(&writer)), timings: Timings::default() };
            let response = answer(done, Watch::start()).await.unwrap();
            assert!(response.headers().contains_key("server-timing"));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Vec<u8>>(&body).unwrap(), vec![1; ones]);
            assert_eq!(writer.lock().unwrap().unwrap() == thread::current().id(), here, "{ones} numbers");
        }
    }
}
