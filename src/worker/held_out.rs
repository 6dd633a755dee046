//! What a job's version says of its held-out rows, beside what production says of them: stored for the gate, and asked by
//! it where the job is to promote its version.

use std::collections::HashMap;
use std::sync::Arc;

use headstart_datasets::{Content, Place};
use headstart_methods::artifact::Artifact;
use headstart_methods::few_shot;
use headstart_methods::gate::{Answered, Evidence, Rival, Versions};
use headstart_store::{Ending, Expected, Store};
use headstart_tasks::few_shot::{image_content, sound_content, text_content};
use headstart_types::classifier::{ClassifierId, ClassifierVersion};
use headstart_types::gate::Comparison;
use headstart_types::job::{Job, Level, NewEvent, Promote};
use serde_json::json;

use crate::app::App;
use crate::gate::{self, GateError, Standing};
use crate::rollout::LARGEST_ARTIFACT;
use crate::variants;
use crate::worker::control::{Halt, Stop};
use crate::worker::rival::{self, Rows, Said};

/// Examples read at a time.
const BATCH: usize = 256;

/// A fitted version and its held-out rows.
pub(super) struct Answers {
    version: Arc<Artifact>,
    rows: Arc<Rows>,
    /// What the version says of them; nobody is its rival yet.
    evidence: Evidence,
}

/// How a job ends for its classifier.
pub(super) struct Ended {
    pub(super) evidence: Vec<u8>,
    /// What the gate found, where it was asked.
    pub(super) comparison: Option<Comparison>,
    pub(super) ending: Ending,
}

impl Answers {
    /// Asks a version about its held-out rows. The files are read once more, for what their rows are known by.
    ///
    /// # Errors
    /// The job's stop, or when a file changed since it was inspected.
    pub(super) async fn of(version: Artifact, rows: Rows, halt: &Halt) -> Result<Self, Stop> {
        let contents = contents(&rows, halt).await?;
        let asking = tokio::task::spawn_blocking(move || {
            let evidence = own_answers(&version, &rows, &contents)?;
            Ok(Self { version: Arc::new(version), rows: Arc::new(rows), evidence })
        });
        asking.await.map_err(|_| Stop::Broken("the version's own answers panicked".into()))?
    }

    /// What becomes of production as things stand. What it says of the held-out rows is part of the evidence, also where
    /// nobody asks the gate yet.
    ///
    /// # Errors
    /// The job's stop, or what the store said.
    pub(super) async fn end(
        &self,
        (store, app): (&Store, &Arc<App>),
        job: &Job,
        halt: &Halt,
    ) -> Result<Ended, Stop> {
        let id = ClassifierId { key: job.key.clone(), name: job.classifier.clone() };
        let Standing { expected, last, production } = gate::standing(store, &id).await?;
        let mut evidence = self.evidence.clone();
        let mut theirs = None;
        if let Some(production) = &production {
            theirs = match gate::evidence_of(store, production).await {
                Err(GateError::Store(error)) if !error.is_lasting() => return Err(error.into()),
                found => known(found).flatten(),
            };
            // Without it nobody knows which of the rows production learned from.
            if theirs.is_some() {
                let said = self.production_says(store, app, production, halt).await?;
                evidence.rival = said.map(|said| Rival { version: production.number, said });
            }
        }
        let bytes = evidence.to_bytes()?;
        let mut ended = Ended { evidence: bytes, comparison: None, ending: Ending::default() };
        match (job.params.promote(), production) {
            (Promote::Never, _) => {}
            (Promote::Always, _) => ended.ending.promote = true,
            // Where another job's version becomes production meanwhile, it is to be compared with that.
            (Promote::IfNotWorse, None) => ended.ending.expected = expected,
            (Promote::IfNotWorse, Some(production)) => {
                let versions = Versions { candidate: last + 1, production: production.number };
                let judged = gate::judge(versions, (Some(evidence), theirs), Comparison::ALPHA).await;
                let comparison = judged.map_err(|error| Stop::Broken(error.to_string()))?;
                ended.ending = gated(&comparison, expected);
                ended.comparison = Some(comparison);
            }
        }
        Ok(ended)
    }

    async fn production_says(
        &self,
        store: &Store,
        app: &Arc<App>,
        production: &ClassifierVersion,
        halt: &Halt,
    ) -> Result<Option<Said>, Stop> {
        let bytes = match store.blobs().read(&production.artifact, LARGEST_ARTIFACT).await {
            Err(error) if !error.is_lasting() => return Err(error.into()),
            found => known(found),
        };
        let loaded = bytes.and_then(|bytes| known(Artifact::load(&bytes)));
        let Some(artifact) = loaded.map(Arc::new) else { return Ok(None) };
        let same_features = artifact.backbone() == self.version.backbone();
        if matches!(*artifact, Artifact::FewShot(_)) || !same_features {
            let backbone = &artifact.backbone().id;
            // A worker alone follows no registry, and knows of no backbone that other jobs tuned.
            let _held = variants::base(backbone).map(|_| variants::hold(app, backbone, &production.artifact));
            let version = (production.model_name(), artifact);
            return Ok(known(self.rows.ask(&app.tasks, halt, &version).await?));
        }
        let rows = Arc::clone(&self.rows);
        let asking = tokio::task::spawn_blocking(move || rival::by_features(&artifact, &rows.scored));
        let said = known(asking.await.map_err(|_| Stop::Broken("production's answers panicked".into()))?);
        Ok(said.flatten().map(|said| said.into_iter().map(Some).collect()))
    }
}

/// What was found out about production; a version there that is damaged or gone is no reason to lose another.
fn known<T, E: std::fmt::Display>(found: Result<T, E>) -> Option<T> {
    found.inspect_err(|error| tracing::error!(%error, "the version in production cannot be asked")).ok()
}

fn own_answers(
    version: &Artifact,
    rows: &Rows,
    contents: &[Option<few_shot::Content>],
) -> Result<Evidence, Stop> {
    let Rows { table, parts, .. } = rows;
    let said = rival::by_features(version, &rows.scored)?;
    let said = said.ok_or_else(|| Stop::Broken("a job made a version without a head".into()))?;
    let content = |row: &usize| contents.get(*row).copied().flatten();
    let missing = || Stop::Broken("a held-out row is not in its file any more".into());
    let mut held_out = Vec::with_capacity(said.len());
    for (row, said) in parts.score.iter().zip(said) {
        let labels = table.head.labels.get(*row).cloned().unwrap_or_default();
        held_out.push(Answered { content: content(row).ok_or_else(missing)?, labels, said });
    }
    Ok(Evidence {
        labels: version.labels().to_vec(),
        multi_label: version.multi_label(),
        held_out,
        learned: parts.learn.iter().chain(&parts.tune).filter_map(content).collect(),
        rival: None,
    })
}

fn gated(comparison: &Comparison, expected: Expected) -> Ending {
    let (level, outcome) = if comparison.passes() {
        (Level::Info, "it becomes production")
    } else {
        (Level::Warn, "it waits to be promoted")
    };
    let message = format!("{}; {outcome}", comparison.message);
    let gate = json!(comparison);
    Ending {
        promote: comparison.passes(),
        expected,
        gate: Some(gate.clone()),
        event: Some(NewEvent { level, message, data: Some(gate) }),
    }
}

/// What the examples of a table's rows are known by.
async fn contents(rows: &Rows, halt: &Halt) -> Result<Vec<Option<few_shot::Content>>, Stop> {
    let places = &rows.table.head.places;
    let mut contents = vec![None; places.len()];
    for (number, file) in rows.files.iter().enumerate() {
        let row_of: HashMap<&Place, usize> =
            rows.table.of_file(number).filter_map(|row| Some((places.get(row)?, row))).collect();
        let mut reading = file.read(&rows.limits, BATCH, None);
        while let Some(batch) = reading.next().await? {
            halt.check()?;
            for example in batch {
                if let Some(slot) = row_of.get(&example.place).and_then(|row| contents.get_mut(*row)) {
                    *slot = Some(match &example.content {
                        Content::Text(text) => text_content(text),
                        Content::Image(bytes) => image_content(bytes),
                        Content::Audio(bytes) => sound_content(bytes),
                    });
                }
            }
        }
    }
    Ok(contents)
}
