//! A person's rows taken out of everything that is kept: found in files and among the examples of classifiers, made up
//! without them, written down all at once, and then erased. Until it is written nothing has changed; from then on whoever
//! sweeps next finishes it.

mod evidence;
mod examples;
mod files;
mod reports;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use headstart_datasets::{DatasetError, Place, Wanted};
use headstart_methods::MethodError;
use headstart_methods::few_shot::Content;
use headstart_store::{FileChange, NewPurge, Scope, Store, StoreError};
use headstart_types::classifier::{ClassifierId, ClassifierVersion, Reason};
use headstart_types::file::FileRow;
use headstart_types::ids::{FileId, PurgeId, Sha256};
use headstart_types::job::Checkpoint;
use headstart_types::purge::{NamedBy, PurgeDetails, PurgeNamed, PurgeRow, PurgedFile, PurgedVersion};
use sha2::Digest as _;

use crate::app::App;
use crate::clock::now_ms;
use crate::intake::IntakeError;
use examples::Before;
use files::Looked;

/// How often a purge is made up anew when something changed before it was written.
const TRIES: usize = 5;

/// How often the old bytes are tried to be erased before that is left to the sweep, and the time in between.
const FINISHES: usize = 10;
const BETWEEN_FINISHES: Duration = Duration::from_millis(100);

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
    /// What whoever uploads a file is answered.
    pub(crate) answer_of: &'a (dyn Fn(&FileRow) -> Option<String> + Send + Sync),
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
        let found = self.find(false).await?;
        let mut before = Before::default();
        let held = examples::holding(self.store, self.scope, &found.contents, false, &mut before).await?;
        self.details(&found, &held).await
    }

    /// Does it.
    ///
    /// # Errors
    /// [`PurgeError`]; nothing has changed then.
    pub(crate) async fn carry_out(&self, id: &PurgeId) -> Result<PurgeRow, PurgeError> {
        // What is made up here has no name until all of it is: no sweep may take it for left over.
        let frozen = self.store.blobs().freeze().await?;
        let mut before = Before::default();
        for _ in 0..TRIES {
            // Asked for again under one `Idempotency-Key` while the first was at it for long.
            match self.store.purge_row(self.scope, id).await {
                Ok(done) => return Ok(done),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let found = self.find(true).await?;
            let files = self.files(&found).await?;
            let reports = self.reports(&found).await?;
            // Last, since of all that is looked at classifiers change the most often.
            let held = examples::holding(self.store, self.scope, &found.contents, true, &mut before).await?;
            let purge = NewPurge {
                id: id.clone(),
                reason: Reason {
                    who: self.who.to_owned(),
                    reason: format!("examples were taken out by {id}"),
                    gate: None,
                },
                key: match self.scope {
                    Scope::Key(key) => Some(key.to_owned()),
                    Scope::All => None,
                },
                details: self.details(&found, &held).await?,
                reports,
                evidence: found.evidence,
                files,
                versions: held.changes,
            };
            if self.store.purge(&purge, now_ms()).await? {
                drop(frozen);
                tracing::info!(purge.id = %id, rows = purge.details.rows, "rows were purged");
                self.finish(id).await;
                return Ok(self.store.purge_row(Scope::All, id).await?);
            }
        }
        Err(StoreError::Conflict("files or classifiers change too fast to be purged".into()).into())
    }

    /// Erases the old bytes, within a second or so: a reader or another collection keeps them no longer. What a backup keeps
    /// is left to the next sweep.
    async fn finish(&self, id: &PurgeId) {
        for _ in 0..FINISHES {
            match self.store.finish_purge(id, now_ms()).await {
                Ok(true) => return,
                Ok(false) => tokio::time::sleep(BETWEEN_FINISHES).await,
                Err(error) => {
                    tracing::error!(purge.id = %id, %error, "the old bytes of a purge stay until the next sweep");
                    return;
                }
            }
        }
        tracing::info!(purge.id = %id, "the old bytes of a purge wait for the next sweep");
    }

    /// Looks into every file that may hold such rows, and for what learned from them. With `change`, also makes up what
    /// evidence is to be.
    async fn find(&self, change: bool) -> Result<Search, PurgeError> {
        let mut search = Search::default();
        let mut contents = HashSet::new();
        if let Named::Text { text, .. } = self.named {
            contents.insert(headstart_tasks::few_shot::text_content(text));
        }
        let wanted = Arc::new(self.named.wanted());
        for row in files::named(self.store, self.scope, self.named).await? {
            let (looked, shown) = files::look(self.app, self.store, row, Arc::clone(&wanted)).await?;
            contents.extend(shown);
            search.files.push(looked);
        }
        for looked in search.files.iter_mut().filter(|looked| !looked.found.is_empty()) {
            let jobs = self.store.jobs_on(&looked.row.id).await?;
            let versions = self.store.trained_on(&looked.row.id).await?;
            looked.reports = jobs.iter().filter(|(_, report)| report.is_some()).count() as u64;
            looked.versions = versions.len() as u64;
            if looked.found.places.is_empty() {
                continue; // Nothing was learned from what is no row.
            }
            search.jobs.extend(jobs);
            search.versions.extend(versions);
        }
        search.deleted = self.store.trained_on_deleted(self.scope).await?;
        search.contents = Arc::new(contents);
        let may_know = search.versions.iter().chain(&search.deleted);
        let known = evidence::knowing(self.store, may_know, &search.contents, change).await?;
        let learned = |version: &&ClassifierVersion| {
            version.evidence.as_ref().is_some_and(|evidence| known.learned.contains(evidence))
        };
        search.versions.extend(search.deleted.iter().filter(learned).cloned());
        search.evidence = known.changes;
        search.versions.extend(examples::grown_from(self.store, &search.versions).await?);
        Ok(search)
    }

    /// The files that hold such rows, as they are to be.
    async fn files(&self, found: &Search) -> Result<Vec<FileChange>, PurgeError> {
        let mut files = Vec::new();
        for looked in found.files.iter().filter(|looked| !looked.found.is_empty()) {
            let to = files::without(self.app, self.store, looked).await?;
            files.push(FileChange {
                from: looked.row.sha256.clone(),
                answer: (self.answer_of)(&to).ok_or(PurgeError::CutOff)?,
                to,
                versions: looked.versions,
                reports: looked.reports,
            });
        }
        Ok(files)
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
            unknown.extend(found.deleted.iter().cloned());
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
    contents: Arc<HashSet<Content>>,
    /// Jobs on those files that held such rows, and their reports.
    jobs: Vec<(headstart_types::ids::JobId, Option<Sha256>)>,
    /// Versions that learned from such rows: trained or tuned on those files, or, where their files are deleted, by what their
    /// evidence knows, and those that grew out of such.
    versions: Vec<ClassifierVersion>,
    /// Versions whose files are deleted.
    deleted: Vec<ClassifierVersion>,
    /// Evidence that knows such rows, as it is and as it is to be.
    evidence: Vec<(Sha256, Sha256)>,
}

fn remaining(files: &[PurgedFile], trained_on: &[String], unknown: &[String]) -> Vec<String> {
    let mut remaining = Vec::new();
    if !trained_on.is_empty() {
        remaining.push(format!(
            "Train {} again on files without the rows, then delete these versions: they learned from them.",
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
            "Look into {}: rows that cannot be read were compared by their bytes at most, and files of archives that \
             are no rows not at all.",
            unreadable.join(", ")
        ));
    }
    remaining.push("Delete backups that were made before, or purge again what is restored from them.".into());
    remaining
}

/// Erases what purges that were cut off, or had to wait, left behind; whether nothing has to wait any more. One that cannot be
/// finished keeps no other from it.
pub(crate) async fn finish_all(store: &Store) -> Result<bool, StoreError> {
    let mut all = Ok(true);
    for id in store.unfinished_purges().await? {
        match store.finish_purge(&id, now_ms()).await {
            Ok(true) => tracing::info!(purge.id = %id, "the bytes of a purge are erased"),
            Ok(false) => all = all.map(|_| false),
            // The sweep tells of it.
            Err(error) if all.is_ok() => all = Err(error),
            Err(error) => {
                tracing::error!(purge.id = %id, %error, "the old bytes of a purge stay until the next sweep");
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use headstart_types::file::FileState;
    use serde_json::json;

    use super::*;

    /// A purge of a file's only row, written and not finished, and the bytes that are to go.
    async fn unfinished(store: &Store, number: u8) -> (PurgeId, Sha256) {
        let old = store.blobs().put(format!("row {number}").as_bytes()).await.unwrap();
        let row = FileRow {
            id: FileId::new(1, [number; 10]),
            key: String::new(),
            filename: "rows.jsonl".into(),
            purpose: "fine-tune".into(),
            bytes: old.bytes,
            sha256: old.sha256.clone(),
            created_at: 1,
            expires_at: None,
            state: FileState::Processed,
            status_details: None,
            problems: json!([]),
            summary: json!({}),
        };
        store.create_file(&row, u64::MAX).await.unwrap();
        let id = PurgeId::new(1, [number; 10]);
        let to = FileRow { sha256: store.blobs().put(b"").await.unwrap().sha256, bytes: 0, ..row };
        let named = PurgeNamed { by: NamedBy::Text, file: None, rows: None, sha256: None };
        let purge = NewPurge {
            id: id.clone(),
            reason: Reason { who: String::new(), reason: String::new(), gate: None },
            key: None,
            details: PurgeDetails {
                named,
                rows: 1,
                not_found: 0,
                files: Vec::new(),
                examples: Vec::new(),
                jobs: Vec::new(),
                trained_on: Vec::new(),
                unknown: Vec::new(),
                remaining: Vec::new(),
            },
            files: vec![FileChange {
                from: old.sha256.clone(),
                to,
                versions: 0,
                reports: 0,
                answer: "{}".into(),
            }],
            versions: Vec::new(),
            reports: Vec::new(),
            evidence: Vec::new(),
        };
        assert!(store.purge(&purge, now_ms() + 1000).await.unwrap());
        (id, old.sha256)
    }

    #[tokio::test]
    async fn a_purge_that_cannot_be_finished_keeps_no_other_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let (first, stuck) = unfinished(&store, 1).await;
        let (_, gone) = unfinished(&store, 2).await;
        // What no file system removes as a file.
        let path = store.blobs().path(&stuck).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(finish_all(&store).await.is_err());
        assert_eq!(store.unfinished_purges().await.unwrap(), [first]);
        assert!(store.blobs().info(&gone).await.unwrap().is_none());
    }
}
