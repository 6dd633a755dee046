//! Classifiers without a job: made of labels, and grown by examples as they come.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Request;
use axum::response::Response;
use headstart_methods::few_shot::Rung;
use headstart_store::{StoreError, Ticket};
use headstart_tasks::few_shot::{Words, contents, create as from_words, look_at};
use headstart_tasks::{Caller, LabelForm, Labels, TaskError, required};
use headstart_types::classifier::ClassifierId;
use headstart_types::{Media, Modality, Payload, object};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock;
use crate::few_shot::{self, Base, Change, FewShotError, Grounds, Labelled, Outcome};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::idempotent::{Sent, once, once_under, stored};
use crate::http::objects::classifier::ClassifierObject;
use crate::http::openapi::RowErrors;
use crate::http::path::Path;
use crate::http::routes::classifiers::whole;
use crate::http::routes::jobs::BODY_BYTES;
use crate::http::routes::tasks::within;
use crate::http::visible::Visible;
use crate::http::{body_memory, extract};
use crate::names::{self, sanitised};

/// A classifier that is to answer by its labels' names.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(expecting = "an object")]
#[schema(title = "NewClassifier")]
pub(crate) struct NewClassifier {
    /// Its name: small letters, digits, `-` and `_`.
    #[schema(required = true, nullable = false, max_length = 64, example = "support")]
    name: Option<String>,
    /// The backbone.
    #[schema(required = true, nullable = false, example = "all-minilm-l6-v2")]
    model: Option<String>,
    /// The labels: words, or objects that say more about each. They stay as they are.
    #[schema(required = true, nullable = false, value_type = Vec<LabelForm>, min_items = 1)]
    labels: Option<Labels>,
    /// A sentence with `{}` where the label goes; replaces the model's own.
    template: Option<String>,
    /// Whether an item may have several labels. Default false.
    multi_label: Option<bool>,
}

/// An example: one text, one picture or one sound, and its label or labels.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(expecting = "an example: an object with `text`, `image` or `audio`, and `label` or `labels`")]
#[schema(title = "Example")]
pub(crate) struct ExampleForm {
    /// The text.
    #[schema(example = "I want my money back.")]
    text: Option<String>,
    /// The picture in base64, or as a data URL.
    image: Option<String>,
    /// The sound in base64, or as a data URL.
    audio: Option<String>,
    /// Its label.
    #[schema(example = "refund")]
    label: Option<String>,
    /// Its labels, where an item may have several.
    labels: Option<Vec<String>>,
}

/// Examples to learn from.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(expecting = "an object")]
#[schema(title = "NewExamples")]
pub(crate) struct NewExamples {
    /// Texts, pictures or sounds with their labels, as many as a request may have items.
    #[serde(default, deserialize_with = "object::list")]
    #[schema(required = true, nullable = false, value_type = Vec<ExampleForm>, min_items = 1)]
    examples: Option<Vec<ExampleForm>>,
}

/// What came of examples.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "ExamplesAnswer")]
pub(crate) struct ExamplesAnswer {
    /// Always `classifier.examples`.
    #[schema(example = "classifier.examples")]
    object: &'static str,
    /// The classifier.
    #[schema(example = "support")]
    classifier: String,
    /// The version that answers now.
    #[schema(example = 2)]
    version: u32,
    /// What its answers rest on: `zero_shot`, `few_shot` or `prototype`.
    #[schema(value_type = String, example = "few_shot")]
    rung: Rung,
    /// Examples that are new.
    added: usize,
    /// Examples that were there with another label.
    replaced: usize,
    /// Examples that were there already.
    unchanged: usize,
    /// How many examples each label has; empty for a classifier that a job made, of which only means are known.
    labels: Vec<LabelCount>,
}

/// How many examples a label has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "LabelCount")]
pub(crate) struct LabelCount {
    /// The label.
    label: String,
    /// Its examples.
    examples: usize,
}

/// What came of examples that were to be left out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "ForgottenExamples")]
pub(crate) struct ForgottenExamples {
    /// Always `classifier.examples`.
    #[schema(example = "classifier.examples")]
    object: &'static str,
    /// The classifier.
    #[schema(example = "support")]
    classifier: String,
    /// The version that answers now.
    version: u32,
    /// What its answers rest on.
    #[schema(value_type = String, example = "few_shot")]
    rung: Rung,
    /// How many of them were there.
    forgotten: usize,
    /// Earlier versions that still know some of them; they go when they are deleted.
    #[schema(example = json!(["support@2"]))]
    still_in: Vec<String>,
}

/// Makes a classifier of labels.
#[utoipa::path(
    post,
    path = "/v1/classifiers",
    operation_id = "create_classifier",
    tag = "Classifiers",
    summary = "Make a classifier of labels, without a job",
    description = "It answers at once by what its labels' names say, and better with every example that is added. Where there are enough examples for a \
                   file, a job under the same name goes on from there.",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes sending again harmless")),
    request_body(content = NewClassifier, example = json!({"name": "support", "model": "all-minilm-l6-v2", "labels": ["refund", "delivery", "praise"]})),
    responses(
        (status = 200, description = "The classifier, whose first version answers.", body = ClassifierObject),
        (status = 504, description = "The backbone was not loaded within the request's time; nothing was made.", body = ErrorBody),
        RowErrors,
    ),
    security((), ("key" = []))
)]
pub(crate) async fn create(visible: Visible, request: Request) -> Result<Response, ApiError> {
    let caller = extract::caller(&visible.app, &request)?;
    let headers = request.headers().clone();
    let body = within(caller, extract::json_bytes(request, BODY_BYTES)).await?;
    let sent = Sent { headers: &headers, route: "POST /v1/classifiers", place: "", body: &body };
    let asked = body.clone();
    let now = clock::now_ms().to_string();
    once(&visible, sent, now.clone(), move |visible, since| async move {
        let asked: NewClassifier = extract::parse_json(&asked)?;
        let name = required(asked.name, "name")?;
        check_name(&visible, &name)?;
        let words = Words {
            model: required(asked.model, "model")?,
            labels: required(asked.labels, "labels")?,
            template: asked.template,
            multi_label: asked.multi_label.unwrap_or(false),
        };
        let tasks = &visible.app.tasks;
        let few_shot = within(caller, async {
            Ok(tasks.explain_unknown_model(from_words(tasks, words).await, visible.identity.key).await?)
        })
        .await?;
        let id = visible.classifier(&name)?;
        let reason = visible.reason(Some("made of labels".into()));
        if let Err(error) = few_shot::create(&visible.store, &id, &few_shot, &reason).await {
            if matches!(error, FewShotError::Store(StoreError::Conflict(_))) {
                // An earlier try may have made it, and been cut off before it could answer.
                let tried = since.parse::<i64>().ok().filter(|_| since != now);
                if let Some(tried) = tried
                    && few_shot::was_created(&visible.store, &id, &few_shot, tried).await?
                {
                    return whole(&visible, &id).await;
                }
                let message = format!("there is a classifier `{name}`: add examples to it, or delete it");
                return Err(ApiError::conflict(message));
            }
            return Err(error.into());
        }
        whole(&visible, &id).await
    })
    .await
}

/// Adds examples to a classifier.
#[utoipa::path(
    post,
    path = "/v1/classifiers/{name}/examples",
    operation_id = "add_classifier_examples",
    tag = "Classifiers",
    summary = "Add examples, and answer better at once",
    description = "Makes a new version and promotes it; a traffic split ends. An example that is there already counts once; with another label it takes \
                   that. Also taken by versions that a `prototype` job fitted: they keep no examples but the means of all, so that they count \
                   every example they are given, say no counts, and none can be taken out again.",
    params(
        ("name" = String, Path, description = "The classifier's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes sending again harmless"),
    ),
    request_body(content = NewExamples, example = json!({"examples": [{"text": "I want my money back.", "label": "refund"}]})),
    responses(
        (status = 200, description = "What came of them.", body = ExamplesAnswer),
        (status = 504, description = "They were not looked at within the request's time; nothing has changed.", body = ErrorBody),
        RowErrors,
    ),
    security((), ("key" = []))
)]
pub(crate) async fn add(
    visible: Visible,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = extract::caller(&visible.app, &request)?;
    let headers = request.headers().clone();
    let (memory, body) = within(caller, async {
        let (request, memory) = body_memory::hold(&visible.app, request).await?;
        Ok((memory, extract::json_bytes(request, visible.app.config.max_body_bytes).await?))
    })
    .await?;
    let route = "POST /v1/classifiers/{name}/examples";
    let sent = Sent { headers: &headers, route, place: &name, body: &body };
    let (of, shown) = (name.clone(), body.clone());
    once_under(&visible, sent, String::new(), move |visible, under| async move {
        let _memory = memory;
        learn(&visible, (&of, &shown), caller, under.ticket.as_ref()).await
    })
    .await
}

async fn learn(
    visible: &Visible,
    (name, body): (&str, &Bytes),
    caller: Caller,
    ticket: Option<&Ticket>,
) -> Result<ExamplesAnswer, ApiError> {
    let Posted { id, grounds, payload, labels } = within(caller, read(visible, name, body)).await?;
    // Before anything is computed.
    for (place, labels) in labels.iter().enumerate() {
        grounds.base.places(place, labels)?;
    }
    let wording = match &grounds.base {
        Base::FewShot { few_shot, .. } => Some(&**few_shot.wording()),
        Base::Head(_) => None,
    };
    let (tasks, backbone) = (&visible.app.tasks, grounds.base.backbone());
    let seen = within(caller, async {
        let seen = look_at(tasks, backbone, wording, payload, caller).await;
        Ok(seen.map_err(|error| in_its_place(visible, &backbone.id, error))?)
    })
    .await?;
    // What was computed is written: cut off here, nobody could tell whether it was.
    let examples = seen.into_iter().zip(labels).map(|(seen, labels)| Labelled { seen, labels });
    let change = Change::Learn(examples.collect());
    let reason = visible.reason(Some("examples were added".into()));
    let classifier = visible.name_of(&id);
    let answer = |outcome: &Outcome| stored(&learned(&classifier, outcome)).ok();
    let answering = ticket.map(|ticket| (ticket, &answer as &(dyn Fn(&Outcome) -> _ + Sync)));
    let outcome = few_shot::change(&visible.store, &id, grounds, change, &reason, answering).await?;
    Ok(learned(&classifier, &outcome))
}

fn learned(classifier: &str, outcome: &Outcome) -> ExamplesAnswer {
    let Outcome { version, changes, rung, counts } = outcome;
    let count =
        |(label, examples): &(String, usize)| LabelCount { label: label.clone(), examples: *examples };
    ExamplesAnswer {
        object: "classifier.examples",
        classifier: classifier.to_owned(),
        version: *version,
        rung: *rung,
        added: changes.added,
        replaced: changes.replaced,
        unchanged: changes.unchanged,
        labels: counts.iter().map(count).collect(),
    }
}

/// The error with the whole name of the field: an example's text, picture or sound.
fn in_its_place(visible: &Visible, model: &str, mut error: TaskError) -> TaskError {
    let Ok(served) = visible.app.tasks.catalog.at_hand(model) else { return error };
    let whole = |param: String| match param.strip_prefix("examples") {
        Some("") => format!("examples[0].{}", served.modality().as_str()),
        Some(_) => format!("{param}.{}", served.modality().as_str()),
        None => param,
    };
    if let TaskError::Invalid { param, .. } | TaskError::Media { param, .. } = &mut error {
        *param = whole(std::mem::take(param));
    }
    error
}

/// Leaves examples out of a classifier.
#[utoipa::path(
    post,
    path = "/v1/classifiers/{name}/examples/forget",
    operation_id = "forget_classifier_examples",
    tag = "Classifiers",
    summary = "Leave examples out again",
    description = "Makes a new version without them and promotes it; a traffic split ends. Refused by versions that a `prototype` job fitted, which keep \
                   only the means of their examples. They are sent again, since only numbers of them are kept; labels need not be.",
    params(("name" = String, Path, description = "The classifier's name")),
    request_body(content = NewExamples, example = json!({"examples": [{"text": "I want my money back."}]})),
    responses(
        (status = 200, description = "What came of it.", body = ForgottenExamples),
        (status = 504, description = "They were not looked at within the request's time; nothing has changed.", body = ErrorBody),
        RowErrors,
    ),
    security((), ("key" = []))
)]
pub(crate) async fn forget(
    visible: Visible,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<ForgottenExamples>, ApiError> {
    let caller = extract::caller(&visible.app, &request)?;
    let (id, grounds, contents) = within(caller, async {
        let (request, _memory) = body_memory::hold(&visible.app, request).await?;
        let body = extract::json_bytes(request, visible.app.config.max_body_bytes).await?;
        let Posted { id, grounds, payload, .. } = read(&visible, &name, &body).await?;
        let model = &grounds.base.backbone().id;
        let contents = contents(&visible.app.tasks, model, payload, caller).await;
        let contents = contents.map_err(|error| in_its_place(&visible, model, error))?;
        Ok((id, grounds, contents))
    })
    .await?;
    // As above: nobody could tell what came of it.
    let reason = visible.reason(Some("examples were left out".into()));
    let change = Change::Forget(contents.clone());
    let outcome = few_shot::change(&visible.store, &id, grounds, change, &reason, None).await?;
    let still_in = few_shot::knowing(&visible.store, &id, &contents).await?;
    Ok(Json(ForgottenExamples {
        object: "classifier.examples",
        classifier: visible.name_of(&id),
        version: outcome.version,
        rung: outcome.rung,
        forgotten: outcome.changes.forgotten,
        still_in,
    }))
}

/// Examples that were sent, and the classifier they are for.
struct Posted {
    id: ClassifierId,
    grounds: Grounds,
    payload: Payload,
    /// The labels of each, in the payload's order.
    labels: Vec<Vec<String>>,
}

async fn read(visible: &Visible, name: &str, body: &Bytes) -> Result<Posted, ApiError> {
    let asked: NewExamples = extract::parse_json(body)?;
    let examples = required(asked.examples, "examples")?;
    let id = visible.classifier(name)?;
    let grounds = few_shot::grounds(&visible.store, &id).await?;
    let (payload, labels) = parted(visible, &grounds, examples).await?;
    Ok(Posted { id, grounds, payload, labels })
}

/// What is to be looked at, and the labels, in one order.
async fn parted(
    visible: &Visible,
    grounds: &Grounds,
    examples: Vec<ExampleForm>,
) -> Result<(Payload, Vec<Vec<String>>), ApiError> {
    let tasks = &visible.app.tasks;
    let model = &grounds.base.backbone().id;
    let modality = tasks.catalog.of_version(model).await?.modality();
    if examples.is_empty() {
        return Err(TaskError::invalid("examples", "is empty").into());
    }
    let (mut texts, mut files) = (Vec::new(), Vec::new());
    let mut all = Vec::with_capacity(examples.len());
    for (place, example) in examples.into_iter().enumerate() {
        let refuse =
            |problem: String| ApiError::from(TaskError::invalid(format!("examples[{place}]"), problem));
        match (modality, example.text, example.image, example.audio) {
            (Modality::Text, Some(text), None, None) => texts.push(text),
            (Modality::Image, None, Some(file), None) | (Modality::Audio, None, None, Some(file)) => {
                files.push(Media::Base64(file));
            }
            _ => {
                let word = modality.as_str();
                return Err(refuse(format!(
                    "must have `{word}` and nothing else to look at: `{model}` reads {word}"
                )));
            }
        }
        all.push(match (example.label, example.labels) {
            (Some(label), None) => vec![label],
            (None, labels) => labels.unwrap_or_default(),
            (Some(_), Some(_)) => return Err(refuse("has both `label` and `labels`".into())),
        });
    }
    let payload = if modality == Modality::Text { Payload::texts(texts) } else { Payload::files(files) };
    Ok((payload, all))
}

fn check_name(visible: &Visible, name: &str) -> Result<(), ApiError> {
    let refuse = |problem: String| Err(ApiError::invalid("name", format!("`name` {problem}")));
    let plain = sanitised(name);
    if plain != name || name.is_empty() {
        let instead = if plain.is_empty() { String::new() } else { format!(", such as `{plain}`") };
        return refuse(format!("must be of small letters, digits, `-` and `_`{instead}"));
    }
    names::of(name, &visible.app.tasks.catalog).map(drop).or_else(refuse)
}
