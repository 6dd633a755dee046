//! What a client asks of a new job, checked field by field before there is a row.

use std::collections::BTreeMap;

use headstart_datasets::Inspection;
use headstart_engine::Folder;
use headstart_methods::tune::Plan;
use headstart_methods::{METHODS, Method, MethodError, Params, method};
use headstart_types::file::FileRow;
use headstart_types::ids::JobId;
use headstart_types::job::{JobParams, NewJob, Promote, ReportParams};
use headstart_types::object;
use headstart_types::payload::Modality;
use headstart_types::webhook::Webhook;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::config::Config;
use crate::http::error::ApiError;
use crate::http::objects::file::inspection;
use crate::http::routes::{files, upload};
use crate::http::visible::Visible;
use crate::{intake, names, precision};

/// Most pairs of metadata, and the longest key and value in characters.
const METADATA: (usize, usize, usize) = (16, 64, 512);
/// OpenAI's names, which mean nothing here; clients send them as `auto`.
const IGNORED: [&str; 3] = ["batch_size", "learning_rate_multiplier", "n_epochs"];

/// A job that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(crate) struct JobRequest {
    /// The backbone.
    #[schema(required = true, nullable = false, example = "all-minilm-l6-v2")]
    model: Option<String>,
    /// Id of a processed file with the examples.
    #[schema(required = true, nullable = false)]
    training_file: Option<String>,
    /// Id of a file for tuning and stopping. It needs no more than right rows, and no class that `training_file` has not.
    validation_file: Option<String>,
    /// How the classifier is fitted: `{"type": T, T: {"hyperparameters": {…}}}`, where `T` is `auto`, `linear_probe`, `mlp` or
    /// `prototype`, or, to train the backbone itself, `full`, `partial`, `lora` or `setfit`. `supervised` means `auto`, which
    /// trains the backbone only within its hyperparameter `tune_seconds`, 0 unless given. The page on methods lists the
    /// hyperparameters of each.
    #[schema(value_type = Option<Object>)]
    method: Option<Map<String, Value>>,
    /// In place of `method.supervised.hyperparameters`, for older clients.
    #[schema(value_type = Option<Object>)]
    hyperparameters: Option<Map<String, Value>>,
    /// All chance of the job follows from it; drawn when absent.
    #[schema(minimum = 0)]
    seed: Option<i64>,
    /// The classifier's name: letters, digits, `-` and `_`; others become `-`. Made up when absent.
    #[schema(max_length = 64, example = "support")]
    suffix: Option<String>,
    /// What is asked of its report.
    #[serde(default, deserialize_with = "object::optional")]
    report: Option<ReportRequest>,
    /// Whether its version becomes production where another is already: `always`, `if_not_worse` as the gate of `promote`
    /// finds, or `never` unless given, so that it waits. The first version of a name is production in any case.
    promote: Option<Promote>,
    /// Who is told of its end: the operator's own receiver where it is absent and there is one.
    #[serde(default, deserialize_with = "object::optional")]
    webhook: Option<WebhookRequest>,
    /// The client's own notes: at most 16 pairs.
    metadata: Option<BTreeMap<String, String>>,
}

/// What is asked of a job's report.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(crate) struct ReportRequest {
    /// Seconds for zero-shot labels and the learning curve together, 60 unless given; points left out for time are named
    /// in the report.
    #[schema(minimum = 0, maximum = 3600, example = 60)]
    budget_seconds: Option<i64>,
}

/// Who is told of a job's end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(crate) struct WebhookRequest {
    /// Gets a signed POST once the job has succeeded, failed or been cancelled. Its host is one that the operator allows.
    #[schema(
        required = true,
        nullable = false,
        max_length = 2048,
        example = "https://hooks.example.com/headstart"
    )]
    url: Option<String>,
}

/// Checks everything and makes the row.
pub(crate) async fn resolve(visible: &Visible, request: JobRequest, id: JobId) -> Result<NewJob, ApiError> {
    let missing = |name: &str| ApiError::invalid(name, format!("`{name}` is missing"));
    let model = request.model.ok_or_else(|| missing("model"))?;
    let folder = backbone(visible, &model).await?;
    let training = request.training_file.ok_or_else(|| missing("training_file"))?;
    let asked = fit(folder.manifest().backbone.modality, request.method, request.hyperparameters)?;
    let seed = match request.seed {
        Some(seed) if seed < 0 => {
            return Err(ApiError::invalid("seed", "`seed` must be a whole number of at least 0"));
        }
        Some(seed) => seed,
        // Every JSON reader takes 31 bits.
        None => i64::from(u32::from_le_bytes(upload::chance()?) >> 1),
    };
    let metadata = request.metadata.unwrap_or_default();
    check_metadata(&metadata)?;
    let report = report(request.report)?;
    let webhook = webhook(&visible.app.config, request.webhook)?;
    let classifier = name(visible, &model, request.suffix.as_deref())?;

    let (training, learned) = usable(visible, "training_file", &training, Inspection::is_usable).await?;
    let reads = folder.manifest().modalities();
    let check = |field: &str, found: &Inspection| {
        if found.modality.is_some_and(|modality| reads.contains(&modality)) {
            return Ok(());
        }
        let has = found.modality.map_or("nothing", |modality| modality.as_str());
        let reads: Vec<&str> = reads.iter().map(|modality| modality.as_str()).collect();
        let problem = format!("`{field}` holds {has}; `{model}` reads {}", reads.join(" and "));
        Err(ApiError::invalid(field, problem))
    };
    check("training_file", &learned)?;
    let plan = asked.method.plan(&asked.params, seed.cast_unsigned());
    let plan = plan.map_err(|error| refused(&asked.prefix, error))?;
    trainable(visible, (&folder, &model), (asked.method, plan.as_ref()), &learned).await?;
    let classes: Vec<String> = learned.summary.classes.iter().map(|class| class.label.clone()).collect();
    let named = asked.method.check_classes(&asked.params, &classes);
    named.map_err(|error| refused(&asked.prefix, error))?;
    let validation = match request.validation_file {
        None => None,
        Some(file) => {
            let (file, tuned) = usable(visible, "validation_file", &file, Inspection::is_readable).await?;
            check("validation_file", &tuned)?;
            if learned.multi_label != tuned.multi_label {
                let problem =
                    "`validation_file` and `training_file` must both have one label a row, or both lists";
                return Err(ApiError::invalid("validation_file", problem));
            }
            fits(&intake::together(&visible.app, &visible.store, &training, &file).await?)?;
            Some(file.id)
        }
    };
    Ok(NewJob {
        id,
        key: visible.identity.key.to_owned(),
        model,
        method: asked.method.name().to_owned(),
        classifier,
        suffix: request.suffix,
        training_file: training.id,
        validation_file: validation,
        seed,
        metadata,
        params: JobParams::new(asked.params.as_map().clone(), report)
            .with_promote(request.promote.unwrap_or_default()),
        webhook,
        traceparent: None,
        validate_first: false,
    })
}

/// The folder of a backbone that gives features. It is not held any longer: what is trained in its place need not fit beside it.
async fn backbone(visible: &Visible, model: &str) -> Result<Folder, ApiError> {
    let tasks = &visible.app.tasks;
    let served = tasks.explain_unknown_model(tasks.catalog.get(model).await, visible.identity.key).await?;
    served.check_features("model")?;
    Ok(served.folder().clone())
}

/// Whether a method that trains the backbone itself can train this one on what the file holds.
async fn trainable(
    visible: &Visible,
    (asked, model): (&Folder, &str),
    (method, plan): (&dyn Method, Option<&Plan>),
    learned: &Inspection,
) -> Result<(), ApiError> {
    let Some(plan) = plan else { return Ok(()) };
    let refused = |field: &str, problem: String| {
        ApiError::invalid(field, format!("`{}` cannot train `{model}`: {problem}", method.name()))
    };
    let trained = visible.app.tasks.trained(asked.manifest()).await?;
    let trained = trained.map(|trained| trained.folder().clone());
    let trained = trained.map_err(|problem| refused("method", problem))?;
    let checked = precision::check(&visible.app, asked, &trained, plan.recipe.embeddings).await;
    checked.map_err(|problem| refused("model", problem))?;
    let reads = trained.manifest().backbone.modality;
    if learned.modality == Some(reads) {
        return Ok(());
    }
    let problem = format!("`{}` trains what reads {}", method.name(), reads.as_str());
    Err(ApiError::invalid("training_file", problem))
}

/// A file that serves its purpose, and what was found in it.
async fn usable(
    visible: &Visible,
    field: &str,
    id: &str,
    serves: impl Fn(&Inspection) -> bool,
) -> Result<(FileRow, Inspection), ApiError> {
    let row = files::row(visible, id).await.map_err(|error| error.about(field))?;
    let found = inspection(&row)?;
    if !serves(&found) {
        let why = row.status_details.unwrap_or_default();
        return Err(ApiError::invalid(field, format!("`{field}`: file `{id}` has problems: {why}")));
    }
    Ok((row, found))
}

/// Whether nothing stands in the way once both files are looked at as one: each for itself is right by then, so that all
/// problems are the validation file's.
fn fits(joint: &Inspection) -> Result<(), ApiError> {
    let Some(first) = joint.problems.first() else { return Ok(()) };
    let place = match (first.line, &first.path) {
        (Some(line), _) => format!(", line {line}"),
        (None, Some(path)) => format!(", `{path}`"),
        (None, None) => String::new(),
    };
    let more = match joint.problem_total() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let message = format!("`validation_file`{place}: {}{more}", first.message);
    Err(ApiError::invalid("validation_file", message))
}

/// The method and its resolved hyperparameters.
struct Asked {
    method: &'static dyn Method,
    params: Params,
    /// The path of the hyperparameters in the request.
    prefix: String,
}

fn fit(
    reads: Modality,
    given: Option<Map<String, Value>>,
    older: Option<Map<String, Value>>,
) -> Result<Asked, ApiError> {
    let older = without_auto(older.unwrap_or_default());
    let Some(given) = given else {
        let method = method("auto").ok_or_else(ApiError::internal)?;
        return resolved((method, reads), "", &older);
    };
    if !older.is_empty() {
        let problem = "`hyperparameters` belongs into `method` where there is one";
        return Err(ApiError::invalid("hyperparameters", problem));
    }
    let kind = match given.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(_) | None => return Err(ApiError::invalid("method.type", "`method.type` must be a text")),
    };
    let found = method(kind);
    let found = found.ok_or_else(|| {
        let names: Vec<&str> = METHODS.iter().map(|method| method.name()).collect();
        let problem = format!("`method.type` is `{kind}`; methods are supervised, {}", names.join(", "));
        ApiError::invalid("method.type", problem)
    })?;
    let object = |path: String, value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields.clone()),
        Some(_) => Err(ApiError::invalid(path.clone(), format!("`{path}` must be an object"))),
    };
    let body = object(format!("method.{kind}"), given.get(kind))?;
    let fields = object(format!("method.{kind}.hyperparameters"), body.get("hyperparameters"))?;
    let fields = if kind == "supervised" { without_auto(fields) } else { fields };
    resolved((found, reads), &format!("method.{kind}."), &fields)
}

fn without_auto(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.retain(|name, value| {
        !(IGNORED.contains(&name.as_str()) && (value.is_null() || value.as_str() == Some("auto")))
    });
    fields
}

fn resolved(
    (method, reads): (&'static dyn Method, Modality),
    prefix: &str,
    fields: &Map<String, Value>,
) -> Result<Asked, ApiError> {
    let params = method.check_for(reads, fields).map_err(|error| refused(prefix, error))?;
    Ok(Asked { method, params, prefix: prefix.to_owned() })
}

fn refused(prefix: &str, error: MethodError) -> ApiError {
    if let MethodError::Hyperparameter { path, problem } = error {
        let path = format!("{prefix}{path}");
        let message = format!("`{path}`: {problem}");
        return ApiError::invalid(path, message);
    }
    ApiError::invalid("method", format!("`method`: {error}"))
}

fn report(asked: Option<ReportRequest>) -> Result<ReportParams, ApiError> {
    let Some(seconds) = asked.and_then(|report| report.budget_seconds) else {
        return Ok(ReportParams::default());
    };
    match u32::try_from(seconds) {
        Ok(budget_seconds) if budget_seconds <= ReportParams::MOST_SECONDS => {
            Ok(ReportParams { budget_seconds })
        }
        Ok(_) | Err(_) => {
            let most = ReportParams::MOST_SECONDS;
            let problem = format!("`report.budget_seconds` must be a whole number from 0 to {most}");
            Err(ApiError::invalid("report.budget_seconds", problem))
        }
    }
}

/// Where the job's end is told: where the client asks, else where the operator says.
fn webhook(config: &Config, asked: Option<WebhookRequest>) -> Result<Option<Webhook>, ApiError> {
    let Some(asked) = asked else { return Ok(config.webhook_url.as_ref().map(|_| Webhook::Default)) };
    let refuse = |problem: String| ApiError::invalid("webhook.url", format!("`webhook.url` {problem}"));
    let url = asked.url.ok_or_else(|| refuse("is missing".into()))?;
    config.webhook_hosts.target(&url).map_err(|error| refuse(error.to_string()))?;
    Ok(Some(Webhook::Url(url)))
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let (pairs, key, value) = METADATA;
    let long = |text: &str, most: usize| text.chars().count() > most;
    let problem = if metadata.len() > pairs {
        format!("has more than {pairs} pairs")
    } else if metadata.keys().any(|name| long(name, key)) {
        format!("has a key of more than {key} characters")
    } else if metadata.values().any(|text| long(text, value)) {
        format!("has a value of more than {value} characters")
    } else {
        return Ok(());
    };
    Err(ApiError::invalid("metadata", format!("`metadata` {problem}")))
}

/// The classifier's name: from the suffix, or made up.
fn name(visible: &Visible, model: &str, suffix: Option<&str>) -> Result<String, ApiError> {
    let Some(suffix) = suffix else {
        let chance: [u8; 4] = upload::chance()?;
        return Ok(format!("{}-{:08x}", names::sanitised(model), u32::from_le_bytes(chance)));
    };
    names::of(suffix, &visible.app.tasks.catalog)
        .map_err(|problem| ApiError::invalid("suffix", format!("`suffix` {problem}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(method: Value, older: Value) -> Result<&'static str, String> {
        let object = |value: Value| value.as_object().cloned();
        fit(Modality::Text, object(method), object(older))
            .map(|asked| asked.method.name())
            .map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn the_official_clients_autos_are_ignored_wherever_they_stand() {
        let autos = json!({"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"});
        let method = json!({"type": "supervised", "supervised": {"hyperparameters": autos}});
        assert_eq!(asked(method, Value::Null), asked(Value::Null, Value::Null));
        assert_eq!(asked(Value::Null, autos), asked(Value::Null, Value::Null));
        let refused = asked(Value::Null, json!({"n_epochs": 3})).unwrap_err();
        assert!(refused.contains("Some(\"hyperparameters.n_epochs\")"), "{refused}");
    }

    #[test]
    fn a_wrong_hyperparameter_is_named_by_its_whole_path() {
        let method = json!({"type": "linear_probe", "linear_probe": {"hyperparameters": {"c": -1}}});
        let refused = asked(method, Value::Null).unwrap_err();
        assert!(refused.contains("Some(\"method.linear_probe.hyperparameters.c\")"), "{refused}");
        let refused = asked(json!({"type": "dpo"}), Value::Null).unwrap_err();
        assert!(refused.contains("method.type") && refused.contains("linear_probe"), "{refused}");
    }
}
