//! Fine-tuning jobs: asked for, listed, stopped, resumed, reported on.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use headstart_store::{JobFilter, Page, StoreError};
use headstart_types::ids::JobId;
use headstart_types::job::{Job, JobState, NewJob};

use crate::app::App;
use crate::clock;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract;
use crate::http::idempotent::{Sent, once};
use crate::http::listing::{List, Query};
use crate::http::objects::job::{JobDeleted, JobObject};
use crate::http::openapi::RowErrors;
use crate::http::path::Path;
use crate::http::routes::job_request::{JobRequest, resolve};
use crate::http::routes::reports::{ReportAnswer, stored_report};
use crate::http::routes::tasks::within;
use crate::http::routes::upload;
use crate::http::visible::Visible;
use crate::traces::TraceParent;

/// Jobs of a page.
const LIMITS: (u32, u32) = (20, 100);
/// Largest body of a request here.
pub(crate) const BODY_BYTES: usize = 256 * 1024;
/// Asks for a job.
#[utoipa::path(
    post,
    path = "/v1/fine_tuning/jobs",
    operation_id = "create_fine_tuning_job",
    tag = "Fine-tuning",
    summary = "Train a classifier",
    description = "Puts a job into the queue. Sent again with the same `Idempotency-Key` and body, the answer is the \
                   first one's.",
    request_body(
        content = JobRequest,
        example = json!({
            "model": "all-minilm-l6-v2",
            "training_file": "file-0199b6a3c0a11f2e3d4c5b6a79880123",
            "suffix": "support",
            "seed": 7,
            "method": {"type": "linear_probe", "linear_probe": {"hyperparameters": {"c": 1.0}}}
        }),
    ),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes sending again harmless")),
    responses(
        (status = 200, description = "The job.", body = JobObject),
        (status = 413, description = "The body is larger than allowed.", body = ErrorBody),
        (status = 415, description = "The body is not JSON.", body = ErrorBody),
        (status = 504, description = "The backbone was not loaded, or the files not compared, within the request's time; there is no job.", body = ErrorBody),
        RowErrors,
    ),
    security((), ("key" = []))
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    visible: Visible,
    request: Request,
) -> Result<Response, ApiError> {
    if !app.is_loaded() {
        // Which backbones there are is not known before.
        return Err(ApiError::not_ready());
    }
    let caller = extract::caller(&app, &request)?;
    let headers = request.headers().clone();
    let trace = TraceParent::of(&request);
    let body = within(caller, extract::json_bytes(request, BODY_BYTES)).await?;
    let sent = Sent { headers: &headers, route: "POST /v1/fine_tuning/jobs", place: "", body: &body };
    let id = JobId::new(clock::now_ms(), upload::chance()?);
    let asked = body.clone();
    once(&visible, sent, id.into(), move |visible, id| async move {
        let id: JobId = id.parse().map_err(|_| ApiError::internal())?;
        let request: JobRequest = extract::parse_json(&asked)?;
        let new = within(caller, resolve(&visible, request, id)).await?;
        let new = NewJob { traceparent: trace.map(|TraceParent(text)| text), ..new };
        let now = clock::now_ms();
        let made = visible.store.create_job(&new, visible.app.config.key_queued_jobs, now).await;
        let job = match made {
            // An earlier try made the row, and was cut off before it could answer.
            Err(StoreError::Conflict(message)) => match visible.store.job(visible.scope(), &new.id).await {
                Ok(job) => job,
                Err(_) => return Err(ApiError::conflict(message)),
            },
            made => made?,
        };
        Ok(written(&visible, job).await)
    })
    .await
}

/// A job with its place in the queue.
async fn object(visible: &Visible, job: Job) -> Result<JobObject, ApiError> {
    let position = match job.state {
        // Every queued job has a place: one without has been taken since its row was read, as the next.
        JobState::Queued => visible.store.position(&job.id, clock::now_ms()).await?.or(Some(1)),
        JobState::ValidatingFiles
        | JobState::Running
        | JobState::Paused
        | JobState::Succeeded
        | JobState::Failed
        | JobState::Cancelled => None,
    };
    Ok(JobObject::new(job, position))
}

/// The same of one that was just written: where its place cannot be read it is told without, as it is there all the same.
async fn written(visible: &Visible, job: Job) -> JobObject {
    object(visible, job.clone()).await.unwrap_or_else(|_| JobObject::new(job, None))
}

/// The id in a path.
pub(crate) fn parsed(id: &str) -> Result<JobId, ApiError> {
    id.parse().map_err(|_| ApiError::not_found(format!("job `{id}` does not exist")))
}

/// The job of a path, if the caller may see it.
pub(crate) async fn row(visible: &Visible, id: &str) -> Result<Job, ApiError> {
    Ok(visible.store.job(visible.scope(), &parsed(id)?).await?)
}

/// Lists jobs.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs",
    operation_id = "list_fine_tuning_jobs",
    tag = "Fine-tuning",
    summary = "List the jobs",
    description = "Newest first. `metadata[k]=v`, repeatable, keeps only jobs with that pair.",
    params(
        ("after" = Option<String>, Query, description = "Id of the last job of the page before"),
        ("limit" = Option<u32>, Query, description = "Most jobs, 1 to 100; 20 unless given"),
    ),
    responses((status = 200, description = "A page of jobs.", body = List<JobObject>), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn list(visible: Visible, uri: Uri) -> Result<Json<List<JobObject>>, ApiError> {
    let query = Query::of(&uri);
    let filter = JobFilter { state: None, metadata: query.pairs("metadata")? };
    let found = visible.store.jobs(visible.scope(), &filter, &query.page(LIMITS)?).await?;
    let mut data = Vec::with_capacity(found.data.len());
    for job in found.data {
        data.push((job.id.to_string(), object(&visible, job).await?));
    }
    let page = Page { data, has_more: found.has_more };
    Ok(Json(List::of(page, |(id, _)| id.clone(), |(_, object)| object)))
}

/// One job.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{job}",
    operation_id = "retrieve_fine_tuning_job",
    tag = "Fine-tuning",
    summary = "One job",
    params(("job" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job.", body = JobObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn retrieve(visible: Visible, Path(id): Path<String>) -> Result<Json<JobObject>, ApiError> {
    let job = row(&visible, &id).await?;
    object(&visible, job).await.map(Json)
}

/// Deletes a job.
#[utoipa::path(
    delete,
    path = "/v1/fine_tuning/jobs/{job}",
    operation_id = "delete_fine_tuning_job",
    tag = "Fine-tuning",
    summary = "Delete a job that is over",
    description = "Its events, checkpoints and report go with it. Versions that it made stay, with a report of their own, and \
                   say that their job is gone. Refused while it is not over: cancel it first.",
    params(("job" = String, Path, description = "The job's id")),
    responses((status = 200, description = "It is gone.", body = JobDeleted), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn delete(visible: Visible, Path(id): Path<String>) -> Result<Json<JobDeleted>, ApiError> {
    let id = parsed(&id)?;
    let versions =
        visible.store.delete_job(visible.scope(), &id, &visible.reason(None), clock::now_ms()).await?;
    Ok(Json(JobDeleted::new(id, &versions)))
}

/// What an owner does to a job.
#[derive(Clone, Copy)]
enum Move {
    Cancel,
    Pause,
    Resume,
}

async fn moved(visible: Visible, id: String, request: Request, step: Move) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let body = extract::read(request, BODY_BYTES).await?;
    let route = match step {
        Move::Cancel => "POST /v1/fine_tuning/jobs/{job}/cancel",
        Move::Pause => "POST /v1/fine_tuning/jobs/{job}/pause",
        Move::Resume => "POST /v1/fine_tuning/jobs/{job}/resume",
    };
    let sent = Sent { headers: &headers, route, place: &id, body: &body };
    let job = id.clone();
    once(&visible, sent, id.clone(), move |visible, _| async move {
        let (scope, id, now) = (visible.scope(), parsed(&job)?, clock::now_ms());
        let job = match step {
            Move::Cancel => visible.store.cancel(scope, &id, now).await?,
            Move::Pause => visible.store.pause(scope, &id, now).await?,
            Move::Resume => visible.store.resume(scope, &id, visible.app.config.key_queued_jobs, now).await?,
        };
        Ok(written(&visible, job).await)
    })
    .await
}

/// Ends a job.
#[utoipa::path(
    post,
    path = "/v1/fine_tuning/jobs/{job}/cancel",
    operation_id = "cancel_fine_tuning_job",
    tag = "Fine-tuning",
    summary = "End a job",
    description = "Its worker stops at its next sign of life.",
    params(
        ("job" = String, Path, description = "The job's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes sending again harmless"),
    ),
    responses((status = 200, description = "The job, cancelled.", body = JobObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn cancel(
    visible: Visible,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    moved(visible, id, request, Move::Cancel).await
}

/// Stops a job for a while.
#[utoipa::path(
    post,
    path = "/v1/fine_tuning/jobs/{job}/pause",
    operation_id = "pause_fine_tuning_job",
    tag = "Fine-tuning",
    summary = "Stop a job for a while",
    description = "What it has done so far is kept.",
    params(
        ("job" = String, Path, description = "The job's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes sending again harmless"),
    ),
    responses((status = 200, description = "The job, paused.", body = JobObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn pause(
    visible: Visible,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    moved(visible, id, request, Move::Pause).await
}

/// Lets a paused job go on.
#[utoipa::path(
    post,
    path = "/v1/fine_tuning/jobs/{job}/resume",
    operation_id = "resume_fine_tuning_job",
    tag = "Fine-tuning",
    summary = "Let a paused job go on",
    description = "It waits at the end of the queue.",
    params(
        ("job" = String, Path, description = "The job's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes sending again harmless"),
    ),
    responses((status = 200, description = "The job, queued.", body = JobObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn resume(
    visible: Visible,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    moved(visible, id, request, Move::Resume).await
}

/// A job's report.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{job}/report",
    operation_id = "fine_tuning_job_report",
    tag = "Fine-tuning",
    summary = "A job's report",
    params(("job" = String, Path, description = "The job's id")),
    responses(ReportAnswer, RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn report(
    visible: Visible,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let job = row(&visible, &id).await?;
    let report = (job.report.as_ref(), job.fine_tuned_model.clone());
    stored_report(&visible, &headers, report, || format!("job `{id}` has no report")).await
}
