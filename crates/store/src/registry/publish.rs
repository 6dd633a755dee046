//! New versions: written whole, with their job's success or alone.

use headstart_types::classifier::{Classifier, ClassifierId, ClassifierVersion, NewVersion, Reason};
use headstart_types::ids::{FileId, JobId, Sha256};
use headstart_types::job::{Job, Lease, NewEvent};

use super::rows::{VERSION_COLUMNS, check_name, decode_version, named};
use crate::backend::{Batch, Row, Value, to_json};
use crate::error::StoreError;
use crate::idempotency::{StoredAnswer, Ticket, taken_over, with_answer};
use crate::jobs::{FENCE, TRIES, fence, with_event};
use crate::store::Store;
use crate::webhooks::with_webhook;

/// When a new version becomes production.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When the classifier has none.
    First,
    /// At once.
    Always,
}

/// The classifier as whoever made a version read it: nothing is written when it has changed since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    #[default]
    Any,
    /// There is none of that name.
    New,
    /// This revision of it, which every change moves on: also a pointer's, and what a purge takes out of a version.
    Revision(u64),
}

/// What a job's end means for production, where another version is that already.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ending {
    /// Whether the version takes its place.
    pub promote: bool,
    /// The classifier that a gate looked at.
    pub expected: Expected,
    /// What the gate found; of a version that is not promoted, the audit says that it was refused.
    pub gate: Option<serde_json::Value>,
    /// What is told before the job's success.
    pub event: Option<NewEvent>,
}

impl Expected {
    pub(super) fn check(self, id: &ClassifierId, known: Option<&Classifier>) -> Result<(), StoreError> {
        let is_so = match self {
            Self::Any => true,
            Self::New => known.is_none(),
            Self::Revision(revision) => known.is_some_and(|known| known.revision == revision),
        };
        let changed = || StoreError::Conflict(format!("classifier `{}` has changed meanwhile", id.name));
        if is_so { Ok(()) } else { Err(changed()) }
    }
}

/// A version that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The version.
    pub version: ClassifierVersion,
    /// Whether it became production.
    pub promoted: bool,
}

/// What a version was made from.
#[derive(Default)]
struct Made<'a> {
    job: Option<&'a JobId>,
    training_file: Option<&'a FileId>,
    validation_file: Option<&'a FileId>,
}

/// How the classifier's row changes with a new version.
struct Change {
    promote: bool,
    /// Production before, when it is left behind.
    before: Option<u32>,
    /// The history after, when it changes.
    history: Option<String>,
    /// The revision that must still be, when the change was computed from a row.
    revision: Option<i64>,
}

impl Store {
    /// Ends a job with its version: version row, state and event in one transaction, or nothing. The first version of
    /// a name becomes production. Artifact and report must be durable before.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] also when the job was paused, cancelled or finished meanwhile.
    pub async fn finish(
        &self,
        lease: &Lease,
        version: &NewVersion,
        report: Option<&Sha256>,
        now: i64,
    ) -> Result<Published, StoreError> {
        self.finish_with(lease, version, report, &Ending::default(), now).await
    }

    /// As [`Store::finish`], with a say in what becomes production: all of it in the same transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the classifier has changed since the gate looked at it; as [`Store::finish`].
    pub async fn finish_with(
        &self,
        lease: &Lease,
        version: &NewVersion,
        report: Option<&Sha256>,
        ending: &Ending,
        now: i64,
    ) -> Result<Published, StoreError> {
        let job = self.leased_job(lease).await?;
        let id = ClassifierId { key: job.key.clone(), name: job.classifier.clone() };
        for _ in 0..TRIES {
            let change = self.change_by(&id, ending).await?;
            let (batch, place) = finishing(lease, &job, &id, version, report, (ending, &change), now)?;
            match self.write(batch).await? {
                Ok(rows) => return published(rows, place),
                // The first statement is the one that asks for the lease.
                Err(0) => return Err(StoreError::LeaseLost(lease.id.clone())),
                Err(_) => {}
            }
        }
        Err(StoreError::Conflict(format!("classifier `{}` changes too fast", id.name)))
    }

    /// How a classifier's row changes with a job's version.
    async fn change_by(&self, id: &ClassifierId, ending: &Ending) -> Result<Change, StoreError> {
        let stays = Change { promote: false, before: None, history: None, revision: None };
        if !ending.promote && ending.expected == Expected::Any {
            return Ok(stays);
        }
        let known = self.known(id).await?;
        ending.expected.check(id, known.as_ref())?;
        match known {
            Some(known) if ending.promote => after(known, true),
            // The first version of a name is production in any case.
            known => Ok(Change { revision: Some(revision(known.as_ref())), ..stays }),
        }
    }

    /// The classifier as it is, if it is.
    async fn known(&self, id: &ClassifierId) -> Result<Option<Classifier>, StoreError> {
        match self.classifier(id).await {
            Ok(known) => Ok(Some(known)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a version that no job made, as when labels or examples change.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the classifier is not as expected, [`StoreError::Invalid`] for a name.
    pub async fn publish(
        &self,
        id: &ClassifierId,
        version: &NewVersion,
        when: When,
        expected: Expected,
        reason: &Reason,
        now: i64,
    ) -> Result<Published, StoreError> {
        self.publish_with(id, version, (when, expected), None, reason, now).await
    }

    /// As [`Store::publish`], at once, with what the request that asked for it is answered: both are written, or neither.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] also when the right to answer was lost; as [`Store::publish`].
    pub async fn publish_answered(
        &self,
        id: &ClassifierId,
        version: &NewVersion,
        expected: Expected,
        answered: (&Ticket, &StoredAnswer),
        reason: &Reason,
        now: i64,
    ) -> Result<Published, StoreError> {
        self.publish_with(id, version, (When::Always, expected), Some(answered), reason, now).await
    }

    async fn publish_with(
        &self,
        id: &ClassifierId,
        version: &NewVersion,
        (when, expected): (When, Expected),
        answered: Option<(&Ticket, &StoredAnswer)>,
        reason: &Reason,
        now: i64,
    ) -> Result<Published, StoreError> {
        check_name("name", &id.name)?;
        for _ in 0..TRIES {
            let known = self.known(id).await?;
            expected.check(id, known.as_ref())?;
            let change = match known {
                Some(known) => after(known, when == When::Always)?,
                None => Change { promote: true, before: None, history: None, revision: Some(revision(None)) },
            };
            let batch = match answered {
                Some((ticket, answer)) => with_answer(Batch::new(), ticket, answer),
                None => Batch::new(),
            };
            let (batch, place) = add_version(batch, id, version, &Made::default(), &change, reason, now)?;
            match self.write(batch).await? {
                Ok(rows) => return published(rows, place),
                Err(0) if answered.is_some() => return Err(taken_over()),
                Err(_) => {}
            }
        }
        Err(StoreError::Conflict(format!("classifier `{}` changes too fast", id.name)))
    }
}

/// How a classifier's row changes that was read as `known`.
fn after(known: Classifier, promote: bool) -> Result<Change, StoreError> {
    let revision = Some(revision(Some(&known)));
    let before = known.production.filter(|_| promote);
    let mut history = known.history;
    history.extend(before);
    let history = Some(to_json(&super::pointers::recent(history))?);
    Ok(Change { promote, before, history, revision })
}

/// The revision of a row that was read; of none, what [`add_version`] takes for that.
fn revision(known: Option<&Classifier>) -> i64 {
    known.map_or(-1, |known| i64::try_from(known.revision).unwrap_or(i64::MAX))
}

/// The statements that end a job with its version; also the place of the version's first.
fn finishing(
    lease: &Lease,
    job: &Job,
    id: &ClassifierId,
    version: &NewVersion,
    report: Option<&Sha256>,
    (ending, change): (&Ending, &Change),
    now: i64,
) -> Result<(Batch, usize), StoreError> {
    let mut values = fence(lease);
    values.extend([now.into(), report.into()]);
    let sql = format!(
        "UPDATE jobs SET state = 'succeeded', finished_at = $4, updated_at = $4, report = $5 \
         WHERE {FENCE} AND state = 'running'"
    );
    let batch = Batch::new().must(sql, values);
    let made = Made {
        job: Some(&job.id),
        training_file: Some(&job.training_file),
        validation_file: job.validation_file.as_ref(),
    };
    let words = format!("job {} succeeded", job.id);
    let reason = Reason { who: job.key.clone(), reason: words, gate: ending.gate.clone() };
    let (mut batch, place) = add_version(batch, id, version, &made, change, &reason, now)?;
    if ending.gate.is_some() && !ending.promote {
        batch = refused(batch, id, &reason, now)?;
    }
    batch = batch.then(
        "UPDATE jobs SET fine_tuned_model = classifier || '@' || \
         (SELECT number FROM versions WHERE versions.job = jobs.id) WHERE id = $1",
        vec![(&job.id).into()],
    );
    batch = with_webhook(batch, &job.id);
    for event in ending.event.iter().chain([&NewEvent::info("job succeeded, its classifier is ready")]) {
        batch = with_event(batch, &job.id, event, now)?;
    }
    Ok((batch, place))
}

/// Adds that a gate kept a version from production.
fn refused(batch: Batch, id: &ClassifierId, reason: &Reason, now: i64) -> Result<Batch, StoreError> {
    let counted = "UPDATE classifiers SET audit_count = audit_count + 1 WHERE key = $1 AND name = $2";
    let mut values = named(id);
    values.extend([now.into(), reason.who.as_str().into(), reason.reason.as_str().into()]);
    values.push(reason.gate.as_ref().map(to_json).transpose()?.into());
    Ok(batch.then(counted, named(id)).then(
        "INSERT INTO audits (key, name, number, created_at, action, who, before, after, reason, gate) \
         SELECT key, name, audit_count, $3, 'refuse', $4, production, production, $5, $6 FROM classifiers \
         WHERE key = $1 AND name = $2",
        values,
    ))
}

/// Adds a version to a batch; also the place of the first of its statements.
fn add_version(
    batch: Batch,
    id: &ClassifierId,
    version: &NewVersion,
    made: &Made<'_>,
    change: &Change,
    reason: &Reason,
    now: i64,
) -> Result<(Batch, usize), StoreError> {
    let place = batch.steps.len();
    let with_name = |more: Vec<Value>| named(id).into_iter().chain(more).collect::<Vec<_>>();
    // Revision -1 stands for a classifier that is not there: a deleted one counts as that.
    let batch = batch
        .must(
            "INSERT INTO classifiers (key, name, created_at, last_version, production) VALUES ($1, $2, $3, 1, 1) \
             ON CONFLICT (key, name) DO UPDATE SET last_version = classifiers.last_version + 1, \
             created_at = CASE WHEN classifiers.deleted_at IS NULL THEN classifiers.created_at ELSE $3 END, \
             production = CASE WHEN classifiers.production IS NULL OR $4 = 1 \
             THEN classifiers.last_version + 1 ELSE classifiers.production END, \
             traffic = CASE WHEN $4 = 1 THEN '{}' ELSE classifiers.traffic END, \
             history = COALESCE($5, classifiers.history), deleted_at = NULL, revision = classifiers.revision + 1 \
             WHERE $6 IS NULL OR $6 = classifiers.revision OR ($6 = -1 AND classifiers.deleted_at IS NOT NULL)",
            with_name(vec![
                now.into(),
                i64::from(change.promote).into(),
                change.history.clone().into(),
                change.revision.into(),
            ]),
        )
        .must(
            format!(
                "INSERT INTO versions (key, name, number, origin, artifact, report, evidence, metrics, \
                 backbone, backbone_sha256, job, training_file, validation_file, created_at) \
                 SELECT key, name, last_version, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 FROM classifiers \
                 WHERE key = $1 AND name = $2 RETURNING {VERSION_COLUMNS}"
            ),
            with_name(vec![
                version.origin.as_str().into(),
                (&version.artifact).into(),
                version.report.as_ref().into(),
                version.evidence.as_ref().into(),
                to_json(&version.metrics)?.into(),
                version.backbone.as_str().into(),
                version.backbone_sha256.as_str().into(),
                made.job.into(),
                made.training_file.into(),
                made.validation_file.into(),
                now.into(),
            ]),
        )
        .then(
            "UPDATE classifiers SET audit_count = audit_count + 1 \
             WHERE key = $1 AND name = $2 AND production = last_version",
            with_name(Vec::new()),
        )
        .then(
            "INSERT INTO audits (key, name, number, created_at, action, who, before, after, reason, gate) \
             SELECT key, name, audit_count, $3, 'publish', $4, $5, production, $6, $7 FROM classifiers \
             WHERE key = $1 AND name = $2 AND production = last_version RETURNING number",
            with_name(vec![
                now.into(),
                reason.who.as_str().into(),
                change.before.into(),
                reason.reason.as_str().into(),
                reason.gate.as_ref().map(to_json).transpose()?.into(),
            ]),
        );
    Ok((batch, place))
}

/// The version that the statements from `place` on wrote.
fn published(rows: Vec<Vec<Row>>, place: usize) -> Result<Published, StoreError> {
    let mut rows = rows.into_iter().skip(place + 1);
    let row = rows.next().and_then(|rows| rows.into_iter().next());
    let version = decode_version(row.ok_or(StoreError::Bug("a new version was not returned"))?)?;
    let promoted = rows.nth(1).is_some_and(|audits| !audits.is_empty());
    Ok(Published { version, promoted })
}
