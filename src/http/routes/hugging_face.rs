//! Hugging Face's task bodies on the same engine: what the body asks for decides the task.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use headstart_tasks::classify::{ClassifyParams, Turn};
use headstart_tasks::features::{Features, FeaturesParams};
use headstart_tasks::rerank::{Cutting, Direction, truncation};
use headstart_tasks::similarity::Similarity;
use headstart_tasks::zero_shot::{ZeroShotLabels, ZeroShotParams};
use headstart_tasks::{Caller, Labels, Task as _, TaskError, Timings};
use headstart_types::payload::{Modality, Truncate};
use headstart_types::{Media, Payload, object};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::path::Path;
use crate::http::routes::hugging_face_inputs::{HuggingFaceInputs, Inputs, SENTENCE_NAMES};
use crate::http::routes::tasks::{stamp, within};
use crate::http::{body_memory, extract, form};
use crate::traces::Watch;

/// A body of Hugging Face's inference clients.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(title = "HuggingFaceRequest")]
pub(crate) struct HuggingFaceBody {
    /// A text, a list of texts, a picture or a sound in base64, or a sentence with those it is compared with.
    #[schema(required = true, nullable = false, value_type = HuggingFaceInputs)]
    inputs: Option<Inputs>,
    /// What is asked; `candidate_labels` makes it zero-shot. Otherwise a classifier gives labels, a backbone features.
    #[serde(default, deserialize_with = "object::optional")]
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

/// Parameters of Hugging Face's classification tasks.
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
    /// For classifiers: most scores listed.
    #[schema(minimum = 1)]
    top_k: Option<usize>,
    /// For classifiers: what makes scores of logits. A classifier has its own: another one is refused.
    function_to_apply: Option<Function>,
}

/// What makes scores of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Function {
    /// Scores add up to 1.
    Softmax,
    /// Scores are independent.
    Sigmoid,
    /// Scores are the logits.
    None,
}

#[utoipa::path(
    post,
    path = "/hf/{model}",
    tag = "Other clients' bodies",
    summary = "Hugging Face's feature extraction, sentence similarity, zero-shot, text, image and audio classification",
    description = "The model decides: a classifier gives its labels with scores, a backbone zero-shot scores when \
                   `candidate_labels` are given, cosines when `inputs` has a `source_sentence`, and features otherwise. JSON, or the raw bytes of a picture or a sound with the other fields, those of \
                   `parameters` among them, as query parameters.",
    params(("model" = String, Path, description = "The model's name", example = "all-minilm-l6-v2")),
    request_body(content(
        (HuggingFaceBody = "application/json", example = json!({
            "inputs": "I want my money back.", "parameters": { "candidate_labels": ["refund", "delivery"] }
        })),
        (String = "image/*"),
        (String = "audio/*"),
    )),
    responses(
        (status = 200, description = "Vectors, labels or cosines.", body = serde_json::Value),
        (status = 400, description = "A field is missing, wrong or too long.", body = ErrorBody),
        (status = 401, description = "Missing or unknown key.", body = ErrorBody),
        (status = 403, description = "The key lacks the scope, or no keys are asked for and a page of another origin sent it.", body = ErrorBody),
        (status = 404, description = "No model of that name.", body = ErrorBody),
        (status = 413, description = "The body, a picture or a sound is larger than allowed.", body = ErrorBody),
        (status = 415, description = "The body's type, or the format of a picture or sound, is not taken.", body = ErrorBody),
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
    let mut watch = Watch::start();
    within(caller, async {
        let limit = app.config.max_body_bytes;
        let (request, _memory) = body_memory::hold(&app, request).await?;
        let body: HuggingFaceBody = if extract::is_media(&extract::content_type(request.headers())) {
            let fields = HuggingFaceBody::of_query(request.uri().query().unwrap_or_default())?;
            let bytes = extract::read(request, limit).await?;
            HuggingFaceBody {
                inputs: Some(Inputs::Items(Payload::files(vec![Media::Bytes(bytes)]))),
                ..fields
            }
        } else {
            let takes = "application/json or the bytes of a picture or a sound";
            extract::parse_json(&extract::bytes_of(request, limit, takes).await?)?
        };
        watch.decoded();
        let (response, timings) = answer(&app, model, body, caller).await?;
        Ok(stamp(response, watch, timings))
    })
    .await
}

/// Our names of fields and those of this body.
const NAMES: [(&str, &str); 5] = [
    ("top_k", "parameters.top_k"),
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
) -> Result<(Response, Timings), ApiError> {
    if app.tasks.catalog.named(&model).is_none() {
        return classified(app, model, body, caller).await;
    }
    let served = app.tasks.catalog.get(&model).await?;
    let (modality, both) = (Some(served.modality()), served.modalities().len() > 1);
    let truncate = body.truncation();
    let inputs = match body.inputs {
        Some(Inputs::Items(inputs)) => inputs,
        Some(Inputs::Sentences(sentences)) => {
            let params = sentences.compared(model, truncate);
            let done = Similarity::run(&app.tasks, params, caller).await;
            let done = done.map_err(|error| ApiError::from(error.renamed(&SENTENCE_NAMES)))?;
            let scores: Vec<_> = done.answer.data.iter().map(|score| score.score).collect();
            return Ok((Json(scores).into_response(), done.timings));
        }
        None => return Err(ApiError::invalid("inputs", "`inputs` is missing")),
    };
    let single = inputs.is_single();
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
        let response = match (single, scores.len()) {
            (true, 1) => Json(scores.remove(0)).into_response(),
            _ => Json(scores).into_response(),
        };
        return Ok((response, done.timings));
    }
    let params = FeaturesParams {
        model: Some(model),
        input: Some(inputs),
        dimensions: body.dimensions,
        // With two towers a string is a text unless it is a data URL.
        modality: modality.filter(|modality| *modality != Modality::Text && !both),
        truncate: Some(truncate),
        prompt: body.prompt_name,
        ..FeaturesParams::default()
    };
    let done = Features::run(&app.tasks, params, caller).await.map_err(in_their_words)?;
    let vectors: Vec<_> = done.answer.data.into_iter().map(|embedding| embedding.embedding).collect();
    Ok((Json(vectors).into_response(), done.timings))
}

fn in_their_words(error: TaskError) -> ApiError {
    error.renamed(&NAMES).into()
}

/// A classifier's labels: for a text within one more list, as Hugging Face's own servers answer.
async fn classified(
    app: &App,
    model: String,
    body: HuggingFaceBody,
    caller: Caller,
) -> Result<(Response, Timings), ApiError> {
    let turn = Turn::of(&app.tasks, model.clone(), caller).await?;
    let found = turn.described()?;
    let truncate = body.truncation();
    let inputs = match body.inputs {
        Some(Inputs::Items(inputs)) => inputs,
        Some(Inputs::Sentences(_)) => {
            let problem =
                format!("`inputs`: the classifier `{model}` compares no sentences: name a backbone");
            return Err(ApiError::invalid("inputs", problem));
        }
        None => return Err(ApiError::invalid("inputs", "`inputs` is missing")),
    };
    let single = inputs.is_single();
    let parameters = body.parameters.unwrap_or_default();
    if parameters.candidate_labels.is_some() {
        let problem =
            format!("`parameters.candidate_labels`: the classifier `{model}` has labels of its own");
        return Err(ApiError::invalid("parameters.candidate_labels", problem));
    }
    let own = if found.multi_label { Function::Sigmoid } else { Function::Softmax };
    if parameters.function_to_apply.is_some_and(|function| function != own) {
        let name = if found.multi_label { "sigmoid" } else { "softmax" };
        let problem = format!("`parameters.function_to_apply`: the scores of `{model}` are those of {name}");
        return Err(ApiError::invalid("parameters.function_to_apply", problem));
    }
    // Not held: where memory is short it may have to go before the classifier's turn comes.
    let (modality, modalities) = {
        let served = app.tasks.catalog.of_version(&found.answering).await;
        let served = served.map_err(|error| error.behind(&model, "its backbone"))?;
        (served.modality(), served.modalities().len())
    };
    let params = ClassifyParams {
        input: Some(inputs),
        top_k: parameters.top_k,
        modality: Some(modality).filter(|_| modalities == 1),
        truncate: Some(truncate),
        ..ClassifyParams::default()
    };
    let done = turn.answer(&app.tasks, params, caller).await.map_err(in_their_words)?;
    let mut scores: Vec<_> = done.answer.data.into_iter().map(|one| one.labelled.scores).collect();
    let response = match (single && modality != Modality::Text, scores.len()) {
        (true, 1) => Json(scores.remove(0)).into_response(),
        _ => Json(scores).into_response(),
    };
    Ok((response, done.timings))
}

impl HuggingFaceBody {
    fn truncation(&self) -> Truncate {
        truncation(self.truncate.map(Cutting::Whether), self.truncation_direction)
    }

    /// The fields beside a raw picture: the parameters stand among the others, or as JSON in one.
    fn of_query(query: &str) -> Result<Self, ApiError> {
        let fields = form::query(query)?;
        let mut body: Self = form::read(fields.clone())?;
        if body.inputs.is_some() {
            return Err(ApiError::invalid("inputs", "`inputs` is given beside the body: send one of them"));
        }
        if body.parameters.is_none() {
            body.parameters = Some(form::read(fields)?);
        }
        Ok(body)
    }
}
