//! Jobs, their events and checkpoints as clients read them: OpenAI's objects, and what we add.

use std::collections::BTreeMap;

use headstart_types::classifier::ClassifierVersion;
use headstart_types::ids::JobId;
use headstart_types::job::{
    Checkpoint, Job, JobError, JobEvent, JobState, Level, Progress, Promote, ReportParams,
};
use headstart_types::webhook::Webhook;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::objects::seconds;

/// A job. All fields are OpenAI's but `classifier`, `position`, `progress`, `promote`, `report` and `webhook`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobObject {
    /// Its id.
    #[schema(example = "ftjob-0199b6a3c0a11f2e3d4c5b6a79880123")]
    id: String,
    /// Always `fine_tuning.job`.
    #[schema(example = "fine_tuning.job")]
    object: &'static str,
    /// When it was made, seconds since the epoch.
    created_at: i64,
    /// Why it failed; `null` on a healthy job.
    #[schema(required = true)]
    error: Option<JobError>,
    /// `name@version` once it succeeded.
    #[schema(required = true, example = "support@1")]
    fine_tuned_model: Option<String>,
    /// When it ended, seconds since the epoch.
    #[schema(required = true)]
    finished_at: Option<i64>,
    /// Always `auto`: what counts is in `method`.
    hyperparameters: Deprecated,
    /// The backbone.
    #[schema(example = "all-minilm-l6-v2")]
    model: String,
    /// Name of the API key that made it; empty where no keys are set.
    organization_id: String,
    /// Always empty: the report has a route of its own.
    result_files: Vec<String>,
    /// All chance of the job follows from it.
    seed: i64,
    /// Where it stands; `paused` is ours.
    status: JobState,
    /// Always `null`: nothing is counted by tokens.
    #[schema(required = true)]
    trained_tokens: Option<u64>,
    /// Id of the file with the examples.
    training_file: String,
    /// Id of the file for tuning and stopping.
    #[schema(required = true)]
    validation_file: Option<String>,
    /// When it is expected to end, seconds since the epoch.
    #[schema(required = true)]
    estimated_finish: Option<i64>,
    /// Always empty.
    integrations: Vec<Value>,
    /// The client's own notes.
    metadata: BTreeMap<String, String>,
    /// The method with all its hyperparameters resolved.
    #[schema(example = json!({"type": "linear_probe", "linear_probe": {"hyperparameters": {"c": 1.0}}}))]
    method: Value,
    /// The suffix as it was given.
    #[schema(required = true)]
    user_provided_suffix: Option<String>,
    /// The classifier's name.
    #[schema(example = "support")]
    classifier: String,
    /// What is asked of its report.
    report: ReportParams,
    /// Whether its version becomes production where another is already.
    promote: Promote,
    /// Who is told of its end, where the job names somebody.
    #[schema(required = true)]
    webhook: Option<WebhookObject>,
    /// How far it is.
    #[schema(required = true)]
    progress: Option<Progress>,
    /// Place in the queue, from 1, while it waits. Keys take turns, so that jobs that come later can stand before it.
    #[schema(required = true)]
    position: Option<u64>,
}

/// Who is told of a job's end.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookObject {
    /// Where the signed POST goes.
    #[schema(example = "https://hooks.example.com/headstart")]
    url: String,
}

/// Hyperparameters of other kinds of training, which clients expect to be there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deprecated {
    /// Always `auto`.
    n_epochs: &'static str,
    /// Always `auto`.
    batch_size: &'static str,
    /// Always `auto`.
    learning_rate_multiplier: &'static str,
}

impl JobObject {
    pub(crate) fn new(job: Job, position: Option<u64>) -> Self {
        let progress = job.progress.map(|progress| as_of(job.state, progress));
        let eta = progress.and_then(|progress| progress.eta_seconds);
        let eta = eta.filter(|_| job.state == JobState::Running).and_then(|eta| i64::try_from(eta).ok());
        let (hyperparameters, report) = (job.params.hyperparameters(), job.params.report());
        let promote = job.params.promote();
        let mut method = json!({ "type": job.method });
        if let Some(fields) = method.as_object_mut() {
            fields.insert(job.method, json!({ "hyperparameters": hyperparameters }));
        }
        let webhook = match job.webhook {
            Some(Webhook::Url(url)) => Some(WebhookObject { url }),
            // The operator's own receiver is the operator's own business.
            Some(Webhook::Default) | None => None,
        };
        Self {
            id: job.id.into(),
            object: "fine_tuning.job",
            created_at: seconds(job.created_at),
            error: job.error,
            fine_tuned_model: job.fine_tuned_model,
            finished_at: job.finished_at.map(seconds),
            hyperparameters: Deprecated {
                n_epochs: "auto",
                batch_size: "auto",
                learning_rate_multiplier: "auto",
            },
            model: job.model,
            organization_id: job.key,
            result_files: Vec::new(),
            seed: job.seed,
            status: job.state,
            trained_tokens: None,
            training_file: job.training_file.into(),
            validation_file: job.validation_file.map(String::from),
            estimated_finish: eta.map(|eta| seconds(job.updated_at).saturating_add(eta)),
            integrations: Vec::new(),
            metadata: job.metadata,
            method,
            user_provided_suffix: job.suffix,
            classifier: job.classifier,
            report,
            promote,
            webhook,
            progress,
            position,
        }
    }
}

/// What a worker told last, as the job's state has it.
fn as_of(state: JobState, told: Progress) -> Progress {
    match state {
        JobState::Running => told,
        JobState::Succeeded => Progress { step: told.total, eta_seconds: Some(0), ..told },
        JobState::ValidatingFiles
        | JobState::Queued
        | JobState::Paused
        | JobState::Failed
        | JobState::Cancelled => Progress { eta_seconds: None, ..told },
    }
}

/// What happened to a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventObject {
    /// Its id.
    #[schema(example = "ftevent-0199b6a3c0a11f2e3d4c5b6a79880123-0000000000000001")]
    pub(crate) id: String,
    /// Always `fine_tuning.job.event`.
    #[schema(example = "fine_tuning.job.event")]
    object: &'static str,
    /// When, seconds since the epoch.
    created_at: i64,
    /// Its weight.
    level: Level,
    /// One sentence.
    message: String,
    /// `metrics` where `data` holds numbers, else `message`.
    #[serde(rename = "type")]
    #[schema(example = "message")]
    kind: &'static str,
    /// Numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl EventObject {
    pub(crate) fn new(event: JobEvent) -> Self {
        Self {
            id: event.id.into(),
            object: "fine_tuning.job.event",
            created_at: seconds(event.created_at),
            level: event.level,
            message: event.message,
            kind: if event.data.is_some() { "metrics" } else { "message" },
            data: event.data,
        }
    }
}

/// A state of training.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointObject {
    /// Its id.
    id: String,
    /// Always `fine_tuning.job.checkpoint`.
    #[schema(example = "fine_tuning.job.checkpoint")]
    object: &'static str,
    /// When it was taken, seconds since the epoch.
    created_at: i64,
    /// The name that requests use.
    #[schema(example = "support:01k3v6m2q8r4t5w7x9y0z1a2b3:ckpt-step-40")]
    fine_tuned_model_checkpoint: String,
    /// The job.
    fine_tuning_job_id: String,
    /// The step it was taken after.
    step_number: u64,
    /// Numbers at that step: the method's own, and those that OpenAI has a name for under it as well. An example is as a
    /// token there: its label is the one thing said of it.
    metrics: Value,
}

/// Figures by OpenAI's name and by ours. Validation always looks at all its rows.
const OPENAI_METRICS: [(&str, &str); 4] = [
    ("valid_loss", "loss"),
    ("valid_mean_token_accuracy", "accuracy"),
    ("full_valid_loss", "loss"),
    ("full_valid_mean_token_accuracy", "accuracy"),
];

impl CheckpointObject {
    pub(crate) fn new(checkpoint: Checkpoint, classifier: &str) -> Self {
        Self {
            fine_tuned_model_checkpoint: checkpoint.model_name(classifier),
            id: checkpoint.id.into(),
            object: "fine_tuning.job.checkpoint",
            created_at: seconds(checkpoint.created_at),
            fine_tuning_job_id: checkpoint.job.into(),
            step_number: checkpoint.step,
            metrics: with_openai_names(checkpoint.metrics, checkpoint.step),
        }
    }
}

fn with_openai_names(metrics: Value, step: u64) -> Value {
    let Value::Object(mut metrics) = metrics else { return metrics };
    for (name, ours) in OPENAI_METRICS {
        if let Some(value) = metrics.get(ours).cloned() {
            metrics.entry(name).or_insert(value);
        }
    }
    metrics.entry("step").or_insert_with(|| step.into());
    Value::Object(metrics)
}

/// A job that is gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobDeleted {
    /// Its id.
    id: String,
    /// Always `fine_tuning.job`.
    #[schema(example = "fine_tuning.job")]
    object: &'static str,
    /// Always true.
    deleted: bool,
    /// Versions that it made and that still answer.
    #[schema(example = json!(["support@1"]))]
    versions: Vec<String>,
}

impl JobDeleted {
    pub(crate) fn new(id: JobId, versions: &[ClassifierVersion]) -> Self {
        let versions = versions.iter().map(ClassifierVersion::model_name).collect();
        Self { id: id.into(), object: "fine_tuning.job", deleted: true, versions }
    }
}
