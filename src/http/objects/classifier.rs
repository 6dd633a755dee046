//! Classifiers and their versions as clients read them.

use std::collections::{BTreeMap, BTreeSet};

use headstart_types::classifier::{AuditRow, Classifier, ClassifierVersion, Origin, untuned};
use headstart_types::gate::Comparison;
use headstart_types::ids::JobId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::objects::seconds;

/// A classifier: a name, and which of its versions answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClassifierObject {
    /// The name requests use; another key's, as an administrator sees it, is `owner/name`.
    #[schema(example = "support")]
    id: String,
    /// Always `classifier`.
    #[schema(example = "classifier")]
    object: &'static str,
    /// When its first version was made, seconds since the epoch.
    created_at: i64,
    /// Name of the API key it belongs to; empty where no keys are set.
    owned_by: String,
    /// The highest version given so far.
    last_version: u32,
    /// The version the bare name means.
    #[schema(required = true)]
    production: Option<u32>,
    /// Versions that were production before, the latest last.
    history: Vec<u32>,
    /// Percent of requests by version; empty when production answers all.
    #[schema(value_type = BTreeMap<String, u8>, example = json!({"1": 90, "2": 10}))]
    traffic: BTreeMap<u32, u8>,
    /// Names of versions, as in `name@alias`.
    #[schema(example = json!({"champion": 1}))]
    aliases: BTreeMap<String, u32>,
    /// The version that scores along without being heard.
    #[schema(required = true)]
    shadow: Option<ShadowObject>,
    /// Its versions, newest first, at most a hundred; a list leaves them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<VersionObject>>,
    /// What was done to it, newest first, at most a hundred; a list leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<Vec<AuditObject>>,
    /// What the gate found of the version that it has just let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<Comparison>,
}

impl ClassifierObject {
    /// A classifier as an entry of a list. `counts` are the items of which its shadow said the same as the version that
    /// answered, and those of which it said something else.
    pub(crate) fn brief(id: String, classifier: Classifier, counts: Option<(u64, u64)>) -> Self {
        Self {
            id,
            object: "classifier",
            created_at: seconds(classifier.created_at),
            owned_by: classifier.id.key,
            last_version: classifier.last_version,
            production: classifier.production,
            history: classifier.history,
            traffic: classifier.traffic,
            aliases: classifier.aliases,
            shadow: classifier.shadow.map(|version| ShadowObject {
                version,
                items: counts.map_or(0, |(agreed, differed)| agreed + differed),
                disagreements: counts.map_or(0, |(_, differed)| differed),
            }),
            versions: None,
            audit: None,
            gate: None,
        }
    }

    /// The classifier with what a gate found.
    pub(crate) fn with_gate(self, gate: Option<Comparison>) -> Self {
        Self { gate, ..self }
    }

    /// A classifier with its versions and what was done to it; `jobs` are those of its versions that are still there.
    pub(crate) fn new(
        id: String,
        classifier: Classifier,
        counts: Option<(u64, u64)>,
        (versions, jobs): (Vec<ClassifierVersion>, &BTreeSet<JobId>),
        audit: Vec<AuditRow>,
    ) -> Self {
        Self {
            versions: Some(versions.into_iter().map(|version| VersionObject::new(version, jobs)).collect()),
            audit: Some(audit.into_iter().map(AuditObject::new).collect()),
            ..Self::brief(id, classifier, counts)
        }
    }
}

/// A version that scores the items of requests to the bare name along, while another answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShadowObject {
    /// The version.
    version: u32,
    /// Items it has scored along in this process, since it became the shadow or the process started; each of several counts its own.
    items: u64,
    /// Those of which it says something else than the version that answered.
    disagreements: u64,
}

/// A version, which never changes but where a purge takes examples out of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionObject {
    /// The name that requests for exactly this version use.
    #[schema(example = "support@1")]
    id: String,
    /// Always `classifier.version`.
    #[schema(example = "classifier.version")]
    object: &'static str,
    /// From 1.
    version: u32,
    /// When it was made, seconds since the epoch.
    created_at: i64,
    /// Where it comes from.
    origin: Origin,
    /// The backbone.
    backbone: String,
    /// SHA-256 of the backbone's graph.
    backbone_sha256: String,
    /// The job that made it.
    #[schema(required = true)]
    job: Option<String>,
    /// Whether that job has been deleted.
    job_deleted: bool,
    /// The file it was trained on.
    #[schema(required = true)]
    training_file: Option<String>,
    /// The file it was tuned on.
    #[schema(required = true)]
    validation_file: Option<String>,
    /// Numbers worth listing.
    metrics: Value,
    /// Whether there is a report.
    report: bool,
    /// Whether it is stored what the version says of its held-out rows: without it no gate lets it through.
    evidence: bool,
}

impl VersionObject {
    fn new(version: ClassifierVersion, jobs: &BTreeSet<JobId>) -> Self {
        Self {
            id: version.model_name(),
            object: "classifier.version",
            job_deleted: version.job.as_ref().is_some_and(|job| !jobs.contains(job)),
            version: version.number,
            created_at: seconds(version.created_at),
            origin: version.origin,
            backbone: untuned(&version.backbone).to_owned(),
            backbone_sha256: version.backbone_sha256,
            job: version.job.map(String::from),
            training_file: version.training_file.map(String::from),
            validation_file: version.validation_file.map(String::from),
            metrics: version.metrics,
            report: version.report.is_some(),
            evidence: version.evidence.is_some(),
        }
    }
}

/// One change of a classifier.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditObject {
    /// From 1 within the classifier.
    number: u64,
    /// When, seconds since the epoch.
    created_at: i64,
    /// What was done; `refuse` where a gate kept a version from production.
    #[schema(example = "promote")]
    action: String,
    /// Who did it: an API key's name, empty where no keys are set, or a part of the service.
    who: String,
    /// Production before.
    #[schema(required = true)]
    from: Option<u32>,
    /// Production after.
    #[schema(required = true)]
    to: Option<u32>,
    /// In words.
    reason: String,
    /// What a gate found.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<Value>,
}

impl AuditObject {
    fn new(row: AuditRow) -> Self {
        Self {
            number: row.number,
            created_at: seconds(row.created_at),
            action: row.action,
            who: row.who,
            from: row.from,
            to: row.to,
            reason: row.reason,
            gate: row.gate,
        }
    }
}

/// Something that is gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deleted {
    /// Its id.
    #[schema(example = "support@1")]
    pub(crate) id: String,
    /// What it was: `classifier`, `classifier.version` or `model`.
    #[schema(example = "classifier.version")]
    pub(crate) object: &'static str,
    /// Always true.
    pub(crate) deleted: bool,
}

impl Deleted {
    pub(crate) fn new(id: String, object: &'static str) -> Self {
        Self { id, object, deleted: true }
    }
}
