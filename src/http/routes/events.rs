//! What happened to a job: as pages, as a stream that goes on until the job is over, and its checkpoints.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, stream};
use headstart_store::{Order, PageRequest};
use headstart_types::ids::{CheckpointId, EventId, JobId};
use tokio::sync::watch;

use crate::http::error::ApiError;
use crate::http::listing::{List, Query};
use crate::http::objects::job::{CheckpointObject, EventObject};
use crate::http::openapi::RowErrors;
use crate::http::path::Path;
use crate::http::routes::jobs::row;
use crate::http::visible::Visible;

/// Events of a page.
const EVENTS: (u32, u32) = (20, 100);
/// Checkpoints of a page.
const CHECKPOINTS: (u32, u32) = (10, 100);
/// How often a stream looks for what other processes wrote, and for the end of this one.
const LOOK: Duration = Duration::from_secs(1);
/// The header of a stream that goes on.
const LAST_EVENT: &str = "last-event-id";

/// A job's events.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{job}/events",
    operation_id = "list_fine_tuning_events",
    tag = "Fine-tuning",
    summary = "What happened to a job",
    description = "A page, newest first. With `Accept: text/event-stream` a stream, oldest first, that goes on until \
                   the job is over and ends with `data: [DONE]`; `Last-Event-ID` takes it up behind that event.",
    params(
        ("job" = String, Path, description = "The job's id"),
        ("after" = Option<String>, Query, description = "Id of the last event of the page before"),
        ("limit" = Option<u32>, Query, description = "Most events, 1 to 100; 20 unless given"),
        ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event that a stream brought"),
    ),
    responses(
        (status = 200, description = "A page or a stream of events.", content(
            (List<EventObject> = "application/json"),
            (String = "text/event-stream"),
        )),
        RowErrors,
    ),
    security((), ("key" = []))
)]
pub(crate) async fn events(
    visible: Visible,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let job = row(&visible, &id).await?;
    if wants_stream(&headers) {
        let after = headers.get(LAST_EVENT).map(|value| last_event(value, &job.id)).transpose()?;
        let follow = Follow {
            changes: visible.store.changes(),
            visible,
            job: job.id,
            after,
            ready: VecDeque::new(),
            stage: Stage::Reading,
        };
        return Ok(Sse::new(follow.stream()).keep_alive(KeepAlive::default()).into_response());
    }
    let page = visible.store.events(&job.id, &Query::of(&uri).page(EVENTS)?).await?;
    Ok(Json(List::of(page, |event| event.id.to_string(), EventObject::new)).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}

fn last_event(value: &axum::http::HeaderValue, job: &JobId) -> Result<EventId, ApiError> {
    let id: Option<EventId> = value.to_str().ok().and_then(|text| text.parse().ok());
    id.filter(|id| id.number(job).is_some())
        .ok_or_else(|| ApiError::invalid("Last-Event-ID", "`Last-Event-ID` is no event of this job"))
}

/// Where a stream stands.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// Events may follow at once.
    Reading,
    /// All events so far are out.
    Waiting,
    /// The job is over: the closing line follows.
    Closing,
    /// Nothing follows.
    Ended,
}

/// A reader of a job's events.
struct Follow {
    changes: watch::Receiver<u64>,
    visible: Visible,
    job: JobId,
    after: Option<EventId>,
    ready: VecDeque<EventObject>,
    stage: Stage,
}

impl Follow {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follow| async move {
            let event = follow.next().await?;
            Some((Ok(event), follow))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                let id = event.id.clone();
                return Event::default().id(id).json_data(event).ok();
            }
            match self.stage {
                Stage::Reading => self.read().await?,
                Stage::Waiting => self.wait().await?,
                Stage::Closing => {
                    self.stage = Stage::Ended;
                    return Some(Event::default().data("[DONE]"));
                }
                Stage::Ended => return None,
            }
        }
    }

    /// Reads what came since; `None` when the job is gone or the store fails.
    async fn read(&mut self) -> Option<()> {
        let store = &self.visible.store;
        self.changes.borrow_and_update();
        // The state first: an event that comes with the last state is then among those read.
        let job = store.job(self.visible.scope(), &self.job).await.ok()?;
        let request = PageRequest { after: self.after.clone(), limit: EVENTS.1, order: Order::Ascending };
        let page = store.events(&self.job, &request).await.ok()?;
        if let Some(last) = page.data.last() {
            self.after = Some(last.id.clone());
        }
        self.ready.extend(page.data.into_iter().map(EventObject::new));
        self.stage = match (page.has_more, job.state.is_final()) {
            (true, _) => Stage::Reading,
            (false, true) => Stage::Closing,
            (false, false) => Stage::Waiting,
        };
        Some(())
    }

    /// Waits until something changed; `None` when this process is about to end: the client takes up elsewhere.
    async fn wait(&mut self) -> Option<()> {
        if self.visible.app.is_stopping() {
            return None;
        }
        tokio::select! {
            changed = self.changes.changed() => changed.ok()?,
            () = tokio::time::sleep(LOOK) => {
                let known = *self.changes.borrow();
                if self.visible.store.changed_since(known).await.ok()?.is_none() {
                    return Some(());
                }
            }
        }
        self.stage = Stage::Reading;
        Some(())
    }
}

/// A job's checkpoints.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{job}/checkpoints",
    operation_id = "list_fine_tuning_checkpoints",
    tag = "Fine-tuning",
    summary = "A job's checkpoints",
    description = "Newest first.",
    params(
        ("job" = String, Path, description = "The job's id"),
        ("after" = Option<String>, Query, description = "Id of the last checkpoint of the page before"),
        ("limit" = Option<u32>, Query, description = "Most checkpoints, 1 to 100; 10 unless given"),
    ),
    responses((status = 200, description = "A page of checkpoints.", body = List<CheckpointObject>), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn checkpoints(
    visible: Visible,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<List<CheckpointObject>>, ApiError> {
    let job = row(&visible, &id).await?;
    let request = Query::of(&uri).page::<CheckpointId>(CHECKPOINTS)?;
    let page = visible.store.checkpoints(&job.id, &request).await?;
    let object = |checkpoint| CheckpointObject::new(checkpoint, &job.classifier);
    Ok(Json(List::of(page, |checkpoint| checkpoint.id.to_string(), object)))
}
