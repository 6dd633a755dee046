//! Versions loaded and swapped as the registry says, and gauges of what the store holds: it reads rows and blobs, and
//! writes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use headstart_methods::artifact;
use headstart_store::{Order, PageRequest, Scope, Store, StoreError};
use headstart_tasks::classifiers::{NewVersion, Pointers};
use headstart_types::classifier::{Classifier, ClassifierId, ClassifierVersion, Origin};

use crate::app::App;
use crate::clock::now_ms;

/// Changes of other processes are looked for this often; changes of this one are seen at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Rows read at a time.
const PAGE: u32 = 500;

/// Largest artifact of a version, in bytes.
const LARGEST_ARTIFACT: u64 = 1 << 30;

/// Why one version could not be loaded; the others are.
#[derive(Debug, thiserror::Error)]
enum RolloutError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{version}: {source}")]
    Head { version: String, source: headstart_methods::MethodError },
    #[error(transparent)]
    Task(#[from] headstart_tasks::TaskError),
}

/// Keeps what answers in step with the registry, as long as the app has a store.
pub struct Rollout {
    app: Arc<App>,
    /// The revision of each classifier as it was last loaded.
    seen: HashMap<ClassifierId, u64>,
}

impl Rollout {
    /// A rollout that has seen nothing yet.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app, seen: HashMap::new() }
    }

    /// Loads what there is, then every change, until the task is dropped.
    pub async fn run(mut self) {
        let Some(store) = self.app.store().cloned() else { return };
        let mut changes = store.changes();
        loop {
            let revision = *changes.borrow_and_update();
            self.catch_up(&store).await;
            self.count_jobs(&store).await;
            let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
            if let Err(error) = store.changed_since(revision).await {
                tracing::error!(%error, "the registry could not be looked at");
            }
        }
    }

    /// Loads every classifier whose row changed, and forgets those that are gone.
    pub async fn catch_up(&mut self, store: &Store) {
        if let Err(error) = self.try_catch_up(store).await {
            tracing::error!(%error, "the registry could not be read");
        }
    }

    async fn count_jobs(&self, store: &Store) {
        match store.queue_size().await {
            Ok(size) => {
                let counts: Vec<(&str, u64)> =
                    size.jobs.iter().map(|(state, count)| (state.as_str(), *count)).collect();
                self.app.metrics.set_jobs(&counts);
                let waited = size.oldest_queued_at.map_or(0, |since| now_ms().saturating_sub(since).max(0));
                self.app.metrics.jobs_oldest_queued_seconds.set(waited as f64 / 1000.0);
            }
            Err(error) => tracing::error!(%error, "the queue could not be looked at"),
        }
        self.app.metrics.classifier_versions.set(self.app.tasks.classifiers.count() as i64);
    }

    async fn try_catch_up(&mut self, store: &Store) -> Result<(), StoreError> {
        let mut there = HashSet::new();
        let mut after: Option<ClassifierId> = None;
        loop {
            let page = store.classifiers(Scope::All, after.as_ref(), PAGE).await?;
            for classifier in &page.data {
                there.insert(classifier.id.clone());
                if self.seen.get(&classifier.id) == Some(&classifier.revision) {
                    continue;
                }
                match self.load(store, classifier).await {
                    Ok(()) => drop(self.seen.insert(classifier.id.clone(), classifier.revision)),
                    Err(error) => {
                        tracing::error!(classifier = %classifier.id.name, %error, "a version could not be loaded");
                    }
                }
            }
            after = page.data.last().map(|classifier| classifier.id.clone());
            if !page.has_more || after.is_none() {
                break;
            }
        }
        let gone: Vec<ClassifierId> = self.seen.keys().filter(|id| !there.contains(*id)).cloned().collect();
        for id in gone {
            self.app.tasks.classifiers.remove(&id.key, &id.name);
            self.seen.remove(&id);
        }
        Ok(())
    }

    async fn load(&self, store: &Store, classifier: &Classifier) -> Result<(), RolloutError> {
        let id = &classifier.id;
        let classifiers = &self.app.tasks.classifiers;
        let loaded = classifiers.loaded(&id.key, &id.name);
        let mut kept = Vec::new();
        let mut added = Vec::new();
        let mut page = PageRequest { after: None, limit: PAGE, order: Order::Ascending };
        loop {
            let versions = store.versions(id, &page).await?;
            for version in &versions.data {
                kept.push(version.number);
                if version.origin == Origin::Job && !loaded.contains(&version.number) {
                    added.push(read_version(store, version).await?);
                }
            }
            page.after = versions.data.last().map(|version| version.number);
            if !versions.has_more {
                break;
            }
        }
        let pointers = Pointers {
            production: classifier.production,
            aliases: classifier.aliases.clone(),
            traffic: classifier.traffic.clone(),
        };
        classifiers.set((&id.key, &id.name), &kept, added, pointers)?;
        Ok(())
    }
}

async fn read_version(store: &Store, version: &ClassifierVersion) -> Result<NewVersion, RolloutError> {
    let bytes = store.blobs().read(&version.artifact, LARGEST_ARTIFACT).await?;
    let head = artifact::load(&bytes)
        .map_err(|source| RolloutError::Head { version: version.model_name(), source })?;
    Ok(NewVersion { number: version.number, head: Arc::new(head) })
}
