//! Classifiers without a job: made of labels, grown by examples, each change a version that answers at once.

use std::sync::Arc;

use headstart_methods::artifact::{self, Artifact};
use headstart_methods::few_shot::{self, Changes, Content, Example, FewShot, Rung, Shown, Wording};
use headstart_methods::head::{Backbone, Head};
use headstart_methods::{MethodError, prototype};
use headstart_store::{Expected, PageRequest, Published, Store, StoreError, StoredAnswer, Ticket, When};
use headstart_tasks::few_shot::Seen;
use headstart_types::classifier::{ClassifierId, ClassifierVersion, NewVersion, Origin, Reason};
use headstart_types::ids::Sha256;
use ndarray::Array2;
use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::rollout::LARGEST_ARTIFACT;

/// Versions that examples made and nothing points to, kept to go back to.
const KEPT: usize = 20;

/// Versions read to find those that are not kept.
const LATEST: u32 = 500;

/// Tries to add to a classifier that others add to as well.
const TRIES: usize = 16;

/// Why labels and examples make no version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FewShotError {
    /// A job fitted the version that answers, by a method that takes no examples in.
    #[error(
        "version `{version}` was fitted by `{method}` in a job, and its examples are those of the job's file: change the file and start another job"
    )]
    Closed {
        /// The version.
        version: String,
        /// The method.
        method: String,
    },
    /// A version that took examples in and keeps only their means.
    #[error(
        "version `{version}` keeps the means of its examples and not the examples: none can be taken out again; roll back to a version that has not learned from it, or train one without it"
    )]
    MeansOnly {
        /// The version.
        version: String,
    },
    /// Nothing answers to the name.
    #[error("classifier `{0}` has no version in production")]
    NoProduction(String),
    /// A label the classifier does not have.
    #[error("`examples[{place}]`: `{label}` is none of the labels {labels}")]
    UnknownLabel {
        /// The example.
        place: usize,
        /// The label.
        label: String,
        /// Those there are.
        labels: String,
    },
    /// An example with labels of the other kind.
    #[error("`examples[{place}]` {problem}")]
    Labels {
        /// The example.
        place: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The examples do not fit what is there.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that did it.
    #[error("the examples were not learned from")]
    CutOff,
}

/// What the production version of a classifier is made of.
pub(crate) enum Base {
    /// Labels and examples.
    FewShot {
        /// As it answers.
        few_shot: FewShot,
        /// What it has learned from.
        shown: Box<Shown>,
    },
    /// A prototype head.
    Head(Arc<Head>),
}

/// A version to build on, and the revision of its classifier before it was read.
pub(crate) struct Grounds {
    pub(crate) version: ClassifierVersion,
    pub(crate) base: Base,
    revision: u64,
    /// The last version that was made by then: the next one's number is known.
    last: u32,
}

/// The right to answer a request, and what it is answered when it comes to an outcome.
pub(crate) type Answering<'a> = (&'a Ticket, &'a (dyn Fn(&Outcome) -> Option<StoredAnswer> + Sync));

/// What an example is looked at with before it joins.
#[derive(PartialEq)]
struct Eyes {
    backbone: Backbone,
    names: Vec<String>,
    wording: Option<Arc<Wording>>,
}

/// An example that was looked at.
pub(crate) struct Labelled {
    pub(crate) seen: Seen,
    pub(crate) labels: Vec<String>,
}

/// How a classifier is to change.
pub(crate) enum Change {
    /// Examples join, or take other labels.
    Learn(Vec<Labelled>),
    /// Examples go.
    Forget(Vec<Content>),
}

/// What came of a change.
pub(crate) struct Outcome {
    pub(crate) version: u32,
    pub(crate) changes: Changes,
    pub(crate) rung: Rung,
    /// Labels and how many examples each has; nothing where only their means are known.
    pub(crate) counts: Vec<(String, usize)>,
}

impl Base {
    /// The backbone whose features it is made of.
    pub(crate) fn backbone(&self) -> &Backbone {
        match self {
            Self::FewShot { few_shot, .. } => &few_shot.wording().backbone,
            Self::Head(head) => &head.parts().backbone,
        }
    }

    fn eyes(&self) -> Eyes {
        let wording = match self {
            Self::FewShot { few_shot, .. } => Some(Arc::clone(few_shot.wording())),
            Self::Head(_) => None,
        };
        Eyes { backbone: self.backbone().clone(), names: self.names().to_vec(), wording }
    }

    fn names(&self) -> &[String] {
        match self {
            Self::FewShot { few_shot, .. } => few_shot.names(),
            Self::Head(head) => head.classes(),
        }
    }

    fn multi_label(&self) -> bool {
        match self {
            Self::FewShot { few_shot, .. } => few_shot.wording().multi_label,
            Self::Head(head) => head.parts().multi_label,
        }
    }

    /// The places of an example's labels, ascending.
    pub(crate) fn places(&self, place: usize, labels: &[String]) -> Result<Vec<u32>, FewShotError> {
        let names = self.names();
        let problem = match (self.multi_label(), labels.len()) {
            (false, 0) => Some("has no label"),
            (false, 2..) => Some("has several labels; the classifier gives one an item"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(FewShotError::Labels { place, problem });
        }
        let mut places = Vec::with_capacity(labels.len());
        for label in labels {
            let Some(at) = names.iter().position(|name| name == label) else {
                let some: Vec<String> = names.iter().take(20).map(|name| format!("`{name}`")).collect();
                let more = if names.len() > 20 { ", …" } else { "" };
                let labels = format!("{}{more}", some.join(", "));
                return Err(FewShotError::UnknownLabel { place, label: label.clone(), labels });
            };
            places.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }
}

/// Writes the first version of a new classifier.
pub(crate) async fn create(
    store: &Store,
    id: &ClassifierId,
    few_shot: &FewShot,
    reason: &Reason,
) -> Result<Published, FewShotError> {
    let shown = Shown::none(few_shot.names().len());
    let bytes = few_shot::save(few_shot, &shown)?;
    let metrics = metrics(few_shot, &shown);
    let backbone = few_shot.wording().backbone.clone();
    publish(store, id, backbone, bytes, metrics, (Expected::New, reason), None).await
}

/// Whether that was done at some time or later, with the same labels: a request that was cut off did it.
pub(crate) async fn was_created(
    store: &Store,
    id: &ClassifierId,
    few_shot: &FewShot,
    since: i64,
) -> Result<bool, FewShotError> {
    let artifact = artifact::address(&few_shot::save(few_shot, &Shown::none(few_shot.names().len()))?);
    let versions = store.versions(id, &PageRequest::newest(LATEST)).await?;
    Ok(versions.data.iter().any(|version| {
        version.artifact.as_str() == artifact
            && version.origin == Origin::Examples
            && version.created_at >= since
    }))
}

/// The version in production, to be built on.
pub(crate) async fn grounds(store: &Store, id: &ClassifierId) -> Result<Grounds, FewShotError> {
    let mut tries = 0;
    loop {
        let classifier = store.classifier(id).await?;
        let number = classifier.production.ok_or_else(|| FewShotError::NoProduction(id.name.clone()))?;
        let version = store.version(id, number).await?;
        match read(store, &version).await {
            // A purge has given the version other bytes and erased these.
            Err(FewShotError::Store(StoreError::NotFound { what: "blob", .. })) if tries < TRIES => {
                tries += 1
            }
            base => {
                let (revision, last) = (classifier.revision, classifier.last_version);
                return Ok(Grounds { version, base: base?, revision, last });
            }
        }
    }
}

async fn read(store: &Store, version: &ClassifierVersion) -> Result<Base, FewShotError> {
    let bytes = store.blobs().read(&version.artifact, LARGEST_ARTIFACT).await?;
    parsed(bytes, version.model_name()).await
}

/// An artifact on a thread that may take its time: it has megabytes where there are many examples.
async fn parsed(bytes: Vec<u8>, version: String) -> Result<Base, FewShotError> {
    let work = move || match Artifact::load(&bytes)? {
        Artifact::FewShot(_) => {
            let (few_shot, shown) = few_shot::load(&bytes)?;
            Ok(Base::FewShot { few_shot, shown: Box::new(shown) })
        }
        Artifact::Head(head) if prototype::is(&head) => Ok(Base::Head(head)),
        Artifact::Head(head) => Err(closed(version, &head)),
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| FewShotError::CutOff)?
}

fn closed(version: String, head: &Head) -> FewShotError {
    FewShotError::Closed { version, method: head.parts().method.clone() }
}

/// Makes a change: a version with it becomes production. Where it comes to nothing, the version at hand stays. What a request
/// under an `Idempotency-Key` is answered is written with the version: who asks again does not make the change again.
pub(crate) async fn change(
    store: &Store,
    id: &ClassifierId,
    mut grounds: Grounds,
    change: Change,
    reason: &Reason,
    answering: Option<Answering<'_>>,
) -> Result<Outcome, FewShotError> {
    let change = Arc::new(change);
    let mut tries = 0;
    loop {
        let (version, eyes) = (grounds.version.clone(), grounds.base.eyes());
        let (revision, last) = (grounds.revision, grounds.last);
        let asked = Arc::clone(&change);
        let work = move || changed(grounds, &asked);
        let changed = tokio::task::spawn_blocking(work).await.map_err(|_| FewShotError::CutOff)??;
        tries += 1;
        match keep(store, id, (&version, revision, last), changed, (reason, answering)).await {
            // Somebody else was quicker: what they changed is there to be built on. A purge is such a change: what it took out
            // of the version at hand must not come back with another.
            Err(FewShotError::Store(StoreError::Conflict(message))) if tries < TRIES => {
                grounds = self::grounds(store, id).await?;
                if grounds.base.eyes() != eyes {
                    // What was seen with the old labels or the old backbone says nothing to the new.
                    return Err(StoreError::Conflict(message).into());
                }
            }
            done => return done,
        }
    }
}

/// The versions that still know an example.
pub(crate) async fn knowing(
    store: &Store,
    id: &ClassifierId,
    contents: &[Content],
) -> Result<Vec<String>, FewShotError> {
    let mut knowing = Vec::new();
    for version in store.versions(id, &PageRequest::newest(LATEST)).await?.data {
        if version.origin == Origin::Examples
            && let Base::FewShot { shown, .. } = read(store, &version).await?
            && contents.iter().any(|content| shown.has(content))
        {
            knowing.push(version.model_name());
        }
    }
    Ok(knowing)
}

/// A version with a change, as it is kept: nothing where the change came to nothing.
enum Changed {
    FewShot { few_shot: FewShot, shown: Box<Shown>, changes: Changes, artifact: Option<Vec<u8>> },
    Head { head: Box<Head>, added: usize, artifact: Vec<u8> },
}

fn changed(grounds: Grounds, change: &Change) -> Result<Changed, FewShotError> {
    let labels = match change {
        // Also of what was checked before it was looked at: the version may be another by now.
        Change::Learn(examples) => {
            let examples = examples.iter().enumerate();
            examples
                .map(|(place, example)| grounds.base.places(place, &example.labels))
                .collect::<Result<Vec<_>, _>>()?
        }
        Change::Forget(_) => Vec::new(),
    };
    match (grounds.base, change) {
        (Base::FewShot { few_shot, mut shown }, Change::Learn(examples)) => {
            let examples = examples.iter().zip(labels).map(|(example, labels)| Example {
                features: example.seen.features.clone(),
                zero_shot: example.seen.zero_shot.clone(),
                labels,
                content: example.seen.content,
            });
            let changes = shown.add(examples.collect())?;
            refitted(few_shot, shown, changes)
        }
        (Base::FewShot { few_shot, mut shown }, Change::Forget(contents)) => {
            let changes = shown.forget(contents);
            refitted(few_shot, shown, changes)
        }
        (Base::Head(head), Change::Learn(examples)) => {
            let rows = examples.len();
            let features: Vec<f32> =
                examples.iter().flat_map(|example| example.seen.features.iter().copied()).collect();
            let features = Array2::from_shape_vec((rows, features.len() / rows.max(1)), features)
                .map_err(|_| MethodError::Unsuitable("examples of different widths".to_owned()))?;
            let head = prototype::add_examples(&head, features.view(), &prototype::targets(&head, labels))?;
            Ok(Changed::Head { artifact: artifact::save(&head)?, head: Box::new(head), added: rows })
        }
        (Base::Head(_), Change::Forget(_)) => {
            Err(FewShotError::MeansOnly { version: grounds.version.model_name() })
        }
    }
}

fn refitted(few_shot: FewShot, shown: Box<Shown>, changes: Changes) -> Result<Changed, FewShotError> {
    if changes.is_empty() {
        return Ok(Changed::FewShot { few_shot, shown, changes, artifact: None });
    }
    let few_shot = few_shot.fitted(&shown)?;
    let artifact = Some(few_shot::save(&few_shot, &shown)?);
    Ok(Changed::FewShot { few_shot, shown, changes, artifact })
}

async fn keep(
    store: &Store,
    id: &ClassifierId,
    (before, revision, last): (&ClassifierVersion, u64, u32),
    changed: Changed,
    (reason, answering): (&Reason, Option<Answering<'_>>),
) -> Result<Outcome, FewShotError> {
    let (outcome, backbone, bytes, metrics) = match changed {
        Changed::FewShot { few_shot, shown, changes, artifact } => {
            let counts = few_shot.names().iter().cloned().zip(shown.counts()).collect();
            let (version, rung) = (last + 1, few_shot.rung());
            let Some(bytes) = artifact else {
                return Ok(Outcome { version: before.number, changes, rung, counts });
            };
            let backbone = few_shot.wording().backbone.clone();
            (Outcome { version, changes, rung, counts }, backbone, bytes, metrics(&few_shot, &shown))
        }
        Changed::Head { head, added, artifact } => {
            let backbone = head.parts().backbone.clone();
            let (from, root, rung) = (before.model_name(), root(before), Rung::Prototype);
            let metrics = json!({"rung": rung, "from": from, "root": root, "added": added});
            let changes = Changes { added, ..Changes::default() };
            let outcome = Outcome { version: last + 1, changes, rung, counts: Vec::new() };
            (outcome, backbone, artifact, metrics)
        }
    };
    let answer = answering.and_then(|(ticket, answer)| Some((ticket, answer(&outcome)?)));
    let answered = answer.as_ref().map(|(ticket, answer)| (*ticket, answer));
    // At this revision the next number is the one that was told.
    let expected = (Expected::Revision(revision), reason);
    publish(store, id, backbone, bytes, metrics, expected, answered).await?;
    prune(store, id, reason).await;
    Ok(outcome)
}

/// The version that a version grew out of, however many lie between, which may be pruned.
fn root(version: &ClassifierVersion) -> String {
    let known = ["root", "from"].iter().find_map(|field| version.metrics.get(field)?.as_str());
    known.map_or_else(|| version.model_name(), str::to_owned)
}

/// Numbers worth listing of a version.
pub(crate) fn metrics(few_shot: &FewShot, shown: &Shown) -> Value {
    json!({"rung": few_shot.rung(), "examples": shown.len(), "weight": few_shot.weight()})
}

async fn publish(
    store: &Store,
    id: &ClassifierId,
    backbone: Backbone,
    bytes: Vec<u8>,
    metrics: Value,
    (expected, reason): (Expected, &Reason),
    answered: Option<(&Ticket, &StoredAnswer)>,
) -> Result<Published, FewShotError> {
    let artifact: Sha256 = store.blobs().put(&bytes).await?.sha256;
    let version = NewVersion {
        origin: Origin::Examples,
        artifact,
        report: None,
        evidence: None,
        metrics,
        backbone: backbone.id,
        backbone_sha256: backbone.sha256,
    };
    let now = now_ms();
    Ok(match answered {
        Some(answered) => store.publish_answered(id, &version, expected, answered, reason, now).await?,
        None => store.publish(id, &version, When::Always, expected, reason, now).await?,
    })
}

/// Deletes all but the latest versions that examples made; those that something points to stay.
async fn prune(store: &Store, id: &ClassifierId, reason: &Reason) {
    let Ok(versions) = store.versions(id, &PageRequest::newest(LATEST)).await else { return };
    let grown = versions.data.iter().filter(|version| version.origin == Origin::Examples);
    for version in grown.skip(KEPT) {
        let words = format!("version {} made room", version.number);
        let reason = Reason { who: reason.who.clone(), reason: words, gate: None };
        match store.delete_version(id, version.number, &reason, now_ms()).await {
            Ok(_) | Err(StoreError::Conflict(_) | StoreError::NotFound { .. }) => {}
            Err(error) => tracing::warn!(%error, "an old version stays"),
        }
    }
}

#[cfg(test)]
#[path = "few_shot_test.rs"]
mod tests;
