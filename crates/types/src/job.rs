//! Jobs: what is asked for, how far it is, what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::ids::{CheckpointId, EventId, FileId, JobId, Sha256};
use crate::webhook::Webhook;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Its files are being looked at.
    ValidatingFiles,
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// Stopped by its owner until it is resumed.
    Paused,
    /// Its classifier exists.
    Succeeded,
    /// It ended without a classifier.
    Failed,
    /// Its owner ended it.
    Cancelled,
}

impl JobState {
    /// Every state, in the order a job passes them.
    pub const ALL: [Self; 7] = [
        Self::ValidatingFiles,
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The name in answers and rows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidatingFiles => "validating_files",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// Whether the version that a job makes becomes production where another is already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Promote {
    /// At once.
    Always,
    /// If it passes the gate: where held-out rows show that it is not worse.
    IfNotWorse,
    /// It waits to be promoted.
    #[default]
    Never,
}

/// A job's parameters, as JSON with the version of their format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobParams {
    /// Version of the format, so that old rows stay readable: 1 is the hyperparameters alone.
    pub version: u32,
    /// The parameters.
    pub value: Value,
}

/// What is asked of a job's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportParams {
    /// Seconds for zero-shot labels and the learning curve together; points left out for time are named in the report.
    #[schema(minimum = 0, maximum = 3600, example = 60)]
    pub budget_seconds: u32,
}

impl ReportParams {
    /// Most seconds of the budget.
    pub const MOST_SECONDS: u32 = 3600;
}

impl Default for ReportParams {
    fn default() -> Self {
        Self { budget_seconds: 60 }
    }
}

impl JobParams {
    /// Parameters in the form of today.
    #[must_use]
    pub fn new(hyperparameters: Map<String, Value>, report: ReportParams) -> Self {
        let value = json!({
            "hyperparameters": hyperparameters,
            "report": {"budget_seconds": report.budget_seconds},
        });
        Self { version: 2, value }
    }

    /// Parameters of a job that promotes its version like this.
    #[must_use]
    pub fn with_promote(mut self, promote: Promote) -> Self {
        if let Some(fields) = self.value.as_object_mut() {
            fields.insert("promote".to_owned(), json!(promote));
        }
        self
    }

    /// Whether the version becomes production.
    #[must_use]
    pub fn promote(&self) -> Promote {
        let asked = self.value.get("promote").filter(|_| self.version > 1);
        asked.and_then(|asked| Promote::deserialize(asked).ok()).unwrap_or_default()
    }

    /// The method's hyperparameters.
    #[must_use]
    pub fn hyperparameters(&self) -> Map<String, Value> {
        let fields = if self.version == 1 { Some(&self.value) } else { self.value.get("hyperparameters") };
        fields.and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// What is asked of the report.
    #[must_use]
    pub fn report(&self) -> ReportParams {
        let asked = self.value.get("report").filter(|_| self.version > 1);
        asked.and_then(|asked| ReportParams::deserialize(asked).ok()).unwrap_or_default()
    }
}

/// A job that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Name of the API key that asks.
    pub key: String,
    /// The backbone.
    pub model: String,
    /// How the classifier is fitted.
    pub method: String,
    /// The classifier's name.
    pub classifier: String,
    /// The name as the client gave it, if it did.
    pub suffix: Option<String>,
    /// The examples.
    pub training_file: FileId,
    /// Examples for tuning and stopping.
    pub validation_file: Option<FileId>,
    /// All chance of the job follows from it.
    pub seed: i64,
    /// The client's own notes.
    pub metadata: BTreeMap<String, String>,
    /// The method's parameters.
    pub params: JobParams,
    /// Where its end is told, if anywhere.
    pub webhook: Option<Webhook>,
    /// The trace of the request that asks, as W3C's `traceparent` has it: it goes with what is told.
    pub traceparent: Option<String>,
    /// Whether its files must be looked at before it may be claimed.
    pub validate_first: bool,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// How many of the steps are done; never fewer than before.
    pub step: u64,
    /// Steps in all, from the first row read to the classifier that answers. Each stands for about the same time.
    pub total: u64,
    /// Time to the end in seconds, as the rates measured so far let it be estimated; null while the job does not run.
    pub eta_seconds: Option<u64>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// The parameter at fault, where there is one.
    pub param: Option<String>,
}

/// A job. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Name of the API key that made it.
    pub key: String,
    /// Where it stands.
    pub state: JobState,
    /// The backbone.
    pub model: String,
    /// How the classifier is fitted.
    pub method: String,
    /// The classifier's name.
    pub classifier: String,
    /// The name as the client gave it, if it did.
    pub suffix: Option<String>,
    /// The examples.
    pub training_file: FileId,
    /// Examples for tuning and stopping.
    pub validation_file: Option<FileId>,
    /// All chance of the job follows from it.
    pub seed: i64,
    /// The client's own notes.
    pub metadata: BTreeMap<String, String>,
    /// The method's parameters.
    pub params: JobParams,
    /// How far it is; `None` before the first report.
    pub progress: Option<Progress>,
    /// Why it failed; `None` on a healthy job.
    pub error: Option<JobError>,
    /// `name@version` once it succeeded.
    pub fine_tuned_model: Option<String>,
    /// The report's blob.
    pub report: Option<Sha256>,
    /// How often a worker took it.
    pub attempt: u32,
    /// How often a worker was lost, or the service failed, while it had it.
    pub lost: u32,
    /// When it was made.
    pub created_at: i64,
    /// When a worker first took it.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// When it last changed; heartbeats do not count.
    pub updated_at: i64,
    /// Where its end is told, if anywhere.
    pub webhook: Option<Webhook>,
}

/// A worker's hold on a job. Whatever it writes names all three; once another holds the job, nothing is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub id: JobId,
    /// The worker.
    pub owner: String,
    /// Which attempt at the job this is, from 1.
    pub attempt: u32,
}

/// Weight of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    Info,
    /// Something to look at.
    Warn,
    /// Something went wrong.
    Error,
}

impl Level {
    /// The name in answers and rows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// The level of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Info, Self::Warn, Self::Error].into_iter().find(|level| level.as_str() == name)
    }
}

/// An event to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its weight.
    pub level: Level,
    /// One sentence.
    pub message: String,
    /// Numbers, for an event that carries metrics.
    pub data: Option<Value>,
}

impl NewEvent {
    /// A sentence without numbers.
    #[must_use]
    pub fn info(message: impl Into<String>) -> Self {
        Self { level: Level::Info, message: message.into(), data: None }
    }
}

/// An event of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEvent {
    /// Its id.
    pub id: EventId,
    /// When it was written, milliseconds since the epoch.
    pub created_at: i64,
    /// Its weight.
    pub level: Level,
    /// One sentence.
    pub message: String,
    /// Numbers, for an event that carries metrics.
    pub data: Option<Value>,
}

/// A state of training that can be served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its id.
    pub id: CheckpointId,
    /// The job it belongs to.
    pub job: JobId,
    /// The step it was taken after.
    pub step: u64,
    /// The artifact's blob.
    pub artifact: Sha256,
    /// Numbers at that step.
    pub metrics: Value,
    /// When it was taken, milliseconds since the epoch.
    pub created_at: i64,
}

/// What stands before the step in a checkpoint's name.
const STEP: &str = ":ckpt-step-";

impl Checkpoint {
    /// The name under which it answers: `classifier:job:ckpt-step-40`. Jobs of one classifier take the same steps, so
    /// the job is part of it.
    #[must_use]
    pub fn model_name(&self, classifier: &str) -> String {
        format!("{classifier}:{}{STEP}{}", self.job.tail(), self.step)
    }

    /// Classifier, job and step of such a name.
    #[must_use]
    pub fn parse_name(name: &str) -> Option<(&str, JobId, u64)> {
        let (name, step) = name.rsplit_once(STEP)?;
        let (classifier, job) = name.rsplit_once(':')?;
        Some((classifier, format!("{}{job}", JobId::PREFIX).parse().ok()?, step.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_first_format_are_still_read() {
        let old = JobParams { version: 1, value: json!({"c": 2.0, "report": "a hyperparameter"}) };
        assert_eq!(Value::Object(old.hyperparameters()), old.value);
        assert_eq!(old.report(), ReportParams::default());
        let new = JobParams::new(old.hyperparameters(), ReportParams { budget_seconds: 7 });
        assert_eq!((new.hyperparameters(), new.report().budget_seconds), (old.hyperparameters(), 7));
        assert_eq!((old.promote(), new.promote()), (Promote::Never, Promote::Never));
        assert_eq!(new.with_promote(Promote::IfNotWorse).promote(), Promote::IfNotWorse);
    }

    #[test]
    fn a_checkpoints_name_says_whose_it_is() {
        let job = JobId::new(1_700_000_000_000, [7; 10]);
        let checkpoint = Checkpoint {
            id: CheckpointId::of(&job, 40),
            job: job.clone(),
            step: 40,
            artifact: Sha256::from_bytes([0; 32]),
            metrics: Value::Null,
            created_at: 0,
        };
        let name = checkpoint.model_name("a:b");
        assert_eq!(Checkpoint::parse_name(&name), Some(("a:b", job, 40)));
        for wrong in ["a:b", "a:ckpt-step-40", "a:../x:ckpt-step-40", ":ckpt-step-"] {
            assert_eq!(Checkpoint::parse_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_state_has_one_name_in_rows_and_in_answers() {
        for state in JobState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
            assert_eq!(JobState::of(state.as_str()), Some(state));
        }
        assert_eq!(JobState::of("pending"), None);
    }
}
