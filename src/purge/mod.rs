//! A person's rows taken out of everything that is kept: found in files and among the examples of classifiers, made up
//! without them, written down all at once, and then erased. Until it is written nothing has changed; from then on whoever
//! sweeps next finishes it.

mod evidence;
mod examples;
mod files;
mod reports;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use headstart_datasets::{DatasetError, Place, Wanted};
use headstart_methods::MethodError;
use headstart_methods::few_shot::Content;
use headstart_store::{NewPurge, Scope, Store, StoreError};
use headstart_types::classifier::{ClassifierId, ClassifierVersion, Reason};
use headstart_types::ids::{FileId, PurgeId, Sha256};
use headstart_types::job::Checkpoint;
use headstart_types::purge::{NamedBy, PurgeDetails, PurgeNamed, PurgeRow, PurgedFile, PurgedVersion};
use sha2::Digest as _;

use crate::app::App;
use crate::clock::now_ms;
use crate::intake::IntakeError;
use files::Looked;

/// How often a purge is made up anew when something changed before it was written.
const TRIES: usize = 5;

/// Why a purge did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PurgeError {
    /// A file that cannot be written again.
    #[error(
        "rows cannot be taken out of file `{file}` ({reason}): delete it instead, and upload one without them"
    )]
    CannotRewrite {
        /// The file.
        file: FileId,
        /// Why.
        reason: String,
    },
    /// A file could not be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// What is left of a file could not be looked at.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// What is left of a classifier's examples could not be learned from.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A report could not be read.
    #[error("a report cannot be read: {0}")]
    Report(#[from] serde_json::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that did it.
    #[error("a purge was cut off")]
    CutOff,
}

/// Rows as they are named.
#[derive(Debug, Clone)]
pub(crate) enum Named {
    /// Those at these places of a file.
    Rows { file: FileId, places: HashSet<Place> },
    /// Those of a group, in one file or in all.
    Group { group: String, file: Option<FileId> },
    /// Those with a text, in one file or in all.
    Text { text: String, file: Option<FileId> },
}

/// A purge that somebody asks for.
pub(crate) struct Asked<'a> {
    pub(crate) app: &'a App,
    pub(crate) store: &'a Store,
    /// Whose rows.
    pub(crate) scope: Scope<'a>,
    /// Name of the key that asks.
    pub(crate) who: &'a str,
    pub(crate) named: &'a Named,
    /// What whoever asks calls a classifier.
    pub(crate) name_of: &'a (dyn Fn(&ClassifierId) -> String + Send + Sync),
}

impl Named {
    fn wanted(&self) -> Wanted {
        match self {
            Self::Rows { places, .. } => Wanted::Places(places.clone()),
            Self::Group { group, .. } => Wanted::Group(group.clone()),
            Self::Text { text, .. } => Wanted::Text(text.clone()),
        }
    }

    fn file(&self) -> Option<&FileId> {
        match self {
            Self::Rows { file, .. } => Some(file),
            Self::Group { file, .. } | Self::Text { file, .. } => file.as_ref(),
        }
    }

    fn kept(&self) -> PurgeNamed {
        let digest = |text: &str| Some(Sha256::from_bytes(sha2::Sha256::digest(text).into()).into());
        let (by, rows, sha256) = match self {
            Self::Rows { places, .. } => (NamedBy::Rows, Some(places.len() as u64), None),
            Self::Group { group, .. } => (NamedBy::Group, None, digest(group)),
            Self::Text { text, .. } => (NamedBy::Text, None, digest(text)),
        };
        PurgeNamed { by, file: self.file().map(ToString::to_string), rows, sha256 }
    }
}

impl Asked<'_> {
    /// What a purge would do.
    ///
    /// # Errors
    /// [`PurgeError`].
    pub(crate) async fn tell(&self) -> Result<PurgeDetails, PurgeError> {
        let found = self.find().await?;
        let versions = examples::holding(self.store, self.scope, &found.contents, false).await?;
        self.details(&found, &versions).await
    }

    /// Does it.
    ///
    /// # Errors
    /// [`PurgeError`]; nothing has changed then.
    pub(crate) async fn carry_out(&self, id: &PurgeId) -> Result<PurgeRow, PurgeError> {
        for _ in 0..TRIES {
            // What is made up here has no name until all of it is: no sweep may take it for left over.
            let frozen = self.store.blobs().freeze().await?;
            let found = self.find().await?;
            let versions = examples::holding(self.store, self.scope, &found.contents, true).await?;
            let mut files = Vec::new();
            for looked in found.files.iter().filter(|looked| !looked.found.places.is_empty()) {
                let row = files::without(self.app, self.store, looked).await?;
                files.push((looked.row.sha256.clone(), row));
            }
            let purge = NewPurge {
                id: id.clone(),
                reason: Reason {
                    who: self.who.to_owned(),
                    reason: format!("examples were taken out by {id}"),
                    gate: None,
                },
                details: self.details(&found, &versions).await?,
                reports: self.reports(&found).await?,
                evidence: self.evidence(&found).await?,
                files,
                versions: versions.changes,
            };
            let written = self.store.purge(&purge, now_ms()).await?;
            drop(frozen);
            if written {
                tracing::info!(purge.id = %id, rows = purge.details.rows, "rows were purged");
                if let Err(error) = self.store.finish_purge(id, now_ms()).await {
                    tracing::error!(purge.id = %id, %error, "the old bytes of a purge stay until the next sweep");
                }
                return Ok(self.store.purge_row(Scope::All, id).await?);
            }
        }
        Err(StoreError::Conflict("files or classifiers change too fast to be purged".into()).into())
    }

    /// Looks into every file that may hold such rows.
    async fn find(&self) -> Result<Search, PurgeError> {
        let mut search = Search::default();
        if let Named::Text { text, .. } = self.named {
            search.contents.insert(headstart_tasks::few_shot::text_content(text));
        }
        let wanted = Arc::new(self.named.wanted());
        for row in files::named(self.store, self.scope, self.named).await? {
            let (looked, contents) = files::look(self.app, self.store, row, Arc::clone(&wanted)).await?;
            search.contents.extend(contents);
            search.files.push(looked);
        }
        for looked in search.files.iter().filter(|looked| !looked.found.places.is_empty()) {
            search.jobs.extend(self.store.jobs_on(&looked.row.id).await?);
            search.versions.extend(self.store.trained_on(&looked.row.id).await?);
        }
        search.versions.extend(examples::grown_from(self.store, &search.versions).await?);
        Ok(search)
    }

    /// Reports that repeat what was named, as they are and without.
    async fn reports(&self, found: &Search) -> Result<Vec<(Sha256, Sha256)>, PurgeError> {
        let mut words: HashSet<String> = found
            .files
            .iter()
            .flat_map(|looked| &looked.found.places)
            .filter_map(|place| match place {
                Place::Path(path) => Some(path.to_string()),
                Place::Line(_) => None,
            })
            .collect();
        if let Named::Group { group, .. } = self.named {
            words.insert(group.trim().to_owned());
        }
        let reports = found.jobs.iter().filter_map(|(_, report)| report.as_ref());
        let reports: BTreeSet<&Sha256> =
            reports.chain(found.versions.iter().filter_map(|version| version.report.as_ref())).collect();
        reports::without(self.store, &reports, words).await
    }

    /// Evidence that knows the rows, as it is and without; also of versions whose files are deleted.
    async fn evidence(&self, found: &Search) -> Result<Vec<(Sha256, Sha256)>, PurgeError> {
        let mut versions = self.store.trained_on_deleted(self.scope).await?;
        versions.extend(found.versions.iter().cloned());
        evidence::without(self.store, &versions, &found.contents).await
    }

    async fn details(&self, found: &Search, held: &examples::Held) -> Result<PurgeDetails, PurgeError> {
        let name = |version: &ClassifierVersion| {
            format!("{}@{}", (self.name_of)(&version.classifier), version.number)
        };
        let files: Vec<PurgedFile> = found.files.iter().filter_map(Looked::told).collect();
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let names = |versions: &[ClassifierVersion]| -> Vec<String> {
            versions.iter().map(name).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let trained_on = names(&found.versions);
        let mut unknown = held.unknown.clone();
        if self.named.file().is_none() {
            unknown.extend(self.store.trained_on_deleted(self.scope).await?);
        }
        let mut unknown = names(&unknown);
        if self.named.file().is_none() {
            let checkpoints = self.store.checkpoints_on_deleted(self.scope).await?;
            let name =
                |(id, checkpoint): &(ClassifierId, Checkpoint)| checkpoint.model_name(&(self.name_of)(id));
            unknown.extend(checkpoints.iter().map(name));
        }
        unknown.retain(|version| !trained_on.contains(version));
        let not_found = match self.named {
            Named::Rows { places, .. } => {
                let there = found.files.iter().map(|looked| looked.found.places.len()).max();
                places.len().saturating_sub(there.unwrap_or(0)) as u64
            }
            Named::Group { .. } | Named::Text { .. } => 0,
        };
        let remaining = remaining(&files, &trained_on, &unknown);
        let examples = held.versions.iter();
        let examples =
            examples.map(|(version, examples)| PurgedVersion { version: name(version), examples: *examples });
        Ok(PurgeDetails {
            named: self.named.kept(),
            rows,
            not_found,
            files,
            examples: examples.collect(),
            jobs: found.jobs.iter().map(|(job, _)| job.to_string()).collect(),
            trained_on,
            unknown,
            remaining,
        })
    }
}

/// What was found in files.
#[derive(Default)]
struct Search {
    files: Vec<Looked>,
    /// What the rows show, by digest.
    contents: HashSet<Content>,
    /// Jobs on those files that held such rows, and their reports.
    jobs: Vec<(headstart_types::ids::JobId, Option<Sha256>)>,
    versions: Vec<ClassifierVersion>,
}

fn remaining(files: &[PurgedFile], trained_on: &[String], unknown: &[String]) -> Vec<String> {
    let mut remaining = Vec::new();
    if !trained_on.is_empty() {
        remaining.push(format!(
            "Train {} again on the files as they are now, then delete these versions: they learned from the rows.",
            trained_on.join(", ")
        ));
    }
    if !unknown.is_empty() {
        remaining.push(format!(
            "Decide on {}: whether they learned from such rows cannot be told any more.",
            unknown.join(", ")
        ));
    }
    let unreadable: Vec<&str> =
        files.iter().filter(|file| file.unreadable > 0).map(|file| file.id.as_str()).collect();
    if !unreadable.is_empty() {
        remaining.push(format!(
            "Look into {}: rows that cannot be read were compared by their bytes at most.",
            unreadable.join(", ")
        ));
    }
    remaining.push("Delete backups that were made before, or purge again what is restored from them.".into());
    remaining
}

/// Erases what purges that were cut off, or had to wait, left behind; whether nothing has to wait any more.
pub(crate) async fn finish_all(store: &Store) -> Result<bool, StoreError> {
    let mut all = true;
    for id in store.unfinished_purges().await? {
        let finished = store.finish_purge(&id, now_ms()).await?;
        all &= finished;
        if finished {
            tracing::info!(purge.id = %id, "the bytes of a purge are erased");
        }
    }
    Ok(all)
}
