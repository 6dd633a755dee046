//! Reranking in the body of Hugging Face's text-embeddings-inference, whose clients name no model: the path does.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use headstart_tasks::rerank::{BareResult, Cutting, Direction, Rerank, RerankAnswer, RerankParams};
use headstart_tasks::{Task as _, TaskError};
use headstart_types::Payload;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::path::Path;
use crate::http::routes::tasks::{stamp, within};
use crate::http::{body_memory, extract};
use crate::traces::Watch;

/// A rerank body of text-embeddings-inference.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(title = "HuggingFaceRerankRequest")]
pub(crate) struct HuggingFaceRerankBody {
    /// What is looked for.
    #[schema(required = true, nullable = false)]
    query: Option<Payload>,
    /// What is searched.
    #[schema(required = true, nullable = false)]
    texts: Option<Payload>,
    /// Whether a cross-encoder's scores are its logits. Default false: they lie between 0 and 1.
    raw_scores: Option<bool>,
    /// Whether results carry their texts. Default false.
    return_text: Option<bool>,
    /// Whether a text may be cut. Default true.
    truncate: Option<bool>,
    /// Which end is kept when it is cut: `Right` cuts the end.
    truncation_direction: Option<Direction>,
}

#[utoipa::path(
    post,
    path = "/hf/{model}/rerank",
    tag = "Other clients' bodies",
    summary = "Rerank in the body of text-embeddings-inference",
    description = "For clients of text-embeddings-inference, whose base URL is then `/hf/{model}`.",
    params(("model" = String, Path, description = "The model's name", example = "all-minilm-l6-v2")),
    request_body(content(
        (HuggingFaceRerankBody = "application/json", example = json!({
            "query": "How do I get my money back?", "texts": ["Refunds take five days.", "We deliver on Mondays."]
        })),
    )),
    responses(
        (status = 200, description = "The texts, best first.", body = Vec<BareResult>),
        (status = 400, description = "A field is missing, wrong or too long.", body = ErrorBody),
        (status = 401, description = "Missing or unknown key.", body = ErrorBody),
        (status = 403, description = "The key lacks the scope, or no keys are asked for and a page of another origin sent it.", body = ErrorBody),
        (status = 404, description = "No model of that name.", body = ErrorBody),
        (status = 413, description = "The body is larger than allowed.", body = ErrorBody),
        (status = 415, description = "The body's type is not taken.", body = ErrorBody),
        (status = 429, description = "The model's queue is full.", body = ErrorBody),
        (status = 500, description = "Something broke.", body = ErrorBody),
        (status = 503, description = "The server starts or stops.", body = ErrorBody),
        (status = 504, description = "The request's deadline passed.", body = ErrorBody),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn rerank(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = extract::caller(&app, &request)?;
    let mut watch = Watch::start();
    within(caller, async {
        let (request, _memory) = body_memory::hold(&app, request).await?;
        let body: HuggingFaceRerankBody = extract::json(request, app.config.max_body_bytes).await?;
        // Missing is what this body's own field is, not that of the other body.
        let texts = body.texts.ok_or_else(|| ApiError::invalid("texts", "`texts` is missing"))?;
        let params = RerankParams {
            model: Some(model),
            query: body.query,
            texts: Some(texts),
            raw_scores: body.raw_scores,
            return_text: body.return_text,
            truncate: body.truncate.map(Cutting::Whether),
            truncation_direction: body.truncation_direction,
            ..RerankParams::default()
        };
        watch.decoded();
        let done = Rerank::run(&app.tasks, params, caller).await;
        let done = app.tasks.explain_unknown_model(done, caller.key).await?;
        match done.answer {
            RerankAnswer::Bare(results) => Ok(stamp(Json(results).into_response(), watch, done.timings)),
            RerankAnswer::Ranked(_) => Err(TaskError::Bug("texts were answered as documents").into()),
        }
    })
    .await
}
