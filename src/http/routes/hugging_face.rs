//! Hugging Face's task bodies on the same engine: what the body asks for decides the task.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use headstart_tasks::features::{Features, FeaturesParams};
use headstart_tasks::zero_shot::{ZeroShotLabels, ZeroShotParams};
use headstart_tasks::{Caller, Labels, Task as _, TaskError};
use headstart_types::payload::{Modality, Truncate};
use headstart_types::{Media, Payload};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract;
use crate::http::routes::tasks::within;

/// A body of Hugging Face's inference clients.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(title = "HuggingFaceRequest")]
pub(crate) struct HuggingFaceBody {
    /// A text, a list of texts, or a picture in base64.
    #[schema(required = true, nullable = false)]
    inputs: Option<Payload>,
    /// What is asked; `candidate_labels` makes it zero-shot, otherwise features come back.
    parameters: Option<HuggingFaceParameters>,
    /// Keep this many leading values and normalise again.
    #[schema(minimum = 1)]
    dimensions: Option<usize>,
    /// Whether a text may be cut. Default true.
    truncate: Option<bool>,
    /// Which end is kept when it is cut: `Right` cuts the end.
    truncation_direction: Option<Direction>,
    /// A prefix by its name in the model's manifest.
    prompt_name: Option<String>,
}

/// Parameters of Hugging Face's zero-shot tasks.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(crate) struct HuggingFaceParameters {
    /// The labels.
    #[schema(value_type = Option<Vec<String>>, min_items = 1)]
    candidate_labels: Option<Labels>,
    /// A sentence with `{}` where the label goes.
    hypothesis_template: Option<String>,
    /// Whether several labels can be right at once.
    multi_label: Option<bool>,
}

/// Which end of a long text is cut.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) enum Direction {
    /// The start.
    #[serde(alias = "left")]
    Left,
    /// The end.
    #[serde(alias = "right")]
    Right,
}

#[utoipa::path(
    post,
    path = "/hf/{model}",
    tag = "Other clients' bodies",
    summary = "Hugging Face's feature extraction and zero-shot classification",
    description = "JSON, or the raw bytes of a picture for its features.",
    params(("model" = String, Path, description = "The model's name", example = "all-minilm-l6-v2")),
    request_body(content(
        (HuggingFaceBody = "application/json", example = json!({
            "inputs": "I want my money back.", "parameters": { "candidate_labels": ["refund", "delivery"] }
        })),
        (String = "image/*"),
    )),
    responses(
        (status = 200, description = "Vectors or labels.", body = serde_json::Value),
        (status = 400, description = "A field is missing, wrong or too long.", body = ErrorBody),
        (status = 401, description = "Missing or unknown key.", body = ErrorBody),
        (status = 403, description = "The key lacks the scope.", body = ErrorBody),
        (status = 404, description = "No model of that name.", body = ErrorBody),
        (status = 413, description = "The body or a picture is larger than allowed.", body = ErrorBody),
        (status = 415, description = "The body's type, or a picture's format, is not taken.", body = ErrorBody),
        (status = 429, description = "The model's queue is full.", body = ErrorBody),
        (status = 500, description = "Something broke.", body = ErrorBody),
        (status = 503, description = "The server starts or stops.", body = ErrorBody),
        (status = 504, description = "The request's deadline passed.", body = ErrorBody),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn infer(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = extract::caller(&app, &request)?;
    within(caller, async {
        let limit = app.config.max_body_bytes;
        let _memory = extract::body_memory(&app, request.headers()).await?;
        let body: HuggingFaceBody = if extract::is_media(&extract::content_type(request.headers())) {
            let bytes = extract::read(request, limit).await?;
            HuggingFaceBody::picture(Payload::images(vec![Media::Bytes(bytes)]))
        } else {
            extract::json(request, limit).await?
        };
        answer(&app, model, body, caller).await
    })
    .await
}

/// Our names of fields and those of this body.
const NAMES: [(&str, &str); 4] = [
    ("input", "inputs"),
    ("labels", "parameters.candidate_labels"),
    ("template", "parameters.hypothesis_template"),
    ("prompt", "prompt_name"),
];

async fn answer(
    app: &App,
    model: String,
    body: HuggingFaceBody,
    caller: Caller,
) -> Result<Response, ApiError> {
    let served = app.tasks.catalog.get(&model)?;
    let modality = Some(served.modality());
    let inputs = body.inputs.ok_or_else(|| ApiError::invalid("inputs", "`inputs` is missing"))?;
    let single = inputs.is_single();
    let truncate = match (body.truncate, body.truncation_direction) {
        (Some(false), _) => Truncate::None,
        (_, Some(Direction::Left)) => Truncate::Start,
        (_, _) => Truncate::End,
    };
    let parameters = body.parameters.unwrap_or_default();
    if let Some(labels) = parameters.candidate_labels {
        let params = ZeroShotParams {
            model: Some(model),
            input: Some(inputs),
            labels: Some(labels),
            template: parameters.hypothesis_template,
            multi_label: parameters.multi_label,
            top_k: Some(app.config.max_labels),
            modality,
            truncate: Some(truncate),
            ..ZeroShotParams::default()
        };
        let done = ZeroShotLabels::run(&app.tasks, params, caller).await.map_err(in_their_words)?;
        let mut scores: Vec<_> = done.answer.data.into_iter().map(|labelled| labelled.scores).collect();
        return Ok(match (single, scores.len()) {
            (true, 1) => Json(scores.remove(0)).into_response(),
            _ => Json(scores).into_response(),
        });
    }
    let params = FeaturesParams {
        model: Some(model),
        input: Some(inputs),
        dimensions: body.dimensions,
        modality: modality.filter(|modality| *modality == Modality::Image),
        truncate: Some(truncate),
        prompt: body.prompt_name,
        ..FeaturesParams::default()
    };
    let done = Features::run(&app.tasks, params, caller).await.map_err(in_their_words)?;
    let vectors: Vec<_> = done.answer.data.into_iter().map(|embedding| embedding.embedding).collect();
    Ok(Json(vectors).into_response())
}

fn in_their_words(error: TaskError) -> ApiError {
    error.renamed(&NAMES).into()
}

impl HuggingFaceBody {
    fn picture(inputs: Payload) -> Self {
        Self {
            inputs: Some(inputs),
            parameters: None,
            dimensions: None,
            truncate: None,
            truncation_direction: None,
            prompt_name: None,
        }
    }
}
