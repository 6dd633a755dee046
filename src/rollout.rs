//! Versions loaded and swapped as the registry says, and gauges of what the store holds: it reads rows and blobs, and
//! writes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use headstart_methods::artifact::Artifact;
use headstart_store::{Order, PageRequest, Scope, Store, StoreError};
use headstart_tasks::classifiers::{NewVersion, Pointers, Registry};
use headstart_types::classifier::{Classifier, ClassifierId, ClassifierVersion};
use headstart_types::ids::Sha256;
use headstart_types::job::Checkpoint;
use tokio::sync::watch;

use crate::app::App;
use crate::clock::now_ms;
use crate::disk;
use crate::variants;

/// Changes of other processes are looked for this often; changes of this one are seen at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A version that could not be read is tried again this often, and with every change of its classifier.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// A request waits at most this long for what it asks for to be loaded.
const PATIENCE: Duration = Duration::from_secs(5);

/// Rows read at a time.
const PAGE: u32 = 500;

/// Largest artifact of a version, in bytes.
pub(crate) const LARGEST_ARTIFACT: u64 = 1 << 30;

/// Why a version or a classifier could not be loaded; the others are.
#[derive(Debug, thiserror::Error)]
enum RolloutError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{version}: {source}")]
    Artifact { version: String, source: headstart_methods::MethodError },
    #[error(transparent)]
    Task(#[from] headstart_tasks::TaskError),
}

/// Keeps what answers in step with the registry, as long as the app has a store.
pub struct Rollout {
    app: Arc<App>,
    store: Store,
    /// Each classifier as it was last loaded.
    known: HashMap<ClassifierId, Loaded>,
    /// The registry's revision up to which everything that can be read is loaded.
    loaded: watch::Sender<u64>,
}

/// A classifier as it was last loaded.
struct Loaded {
    revision: u64,
    /// The artifact of each version: a purge changes it.
    artifacts: HashMap<u32, Sha256>,
    /// What the bare name means.
    production: Option<u32>,
    /// When versions that could not be read are tried again; `None` where all were.
    again: Option<Instant>,
}

/// A classifier's versions, those that do not answer yet read.
#[derive(Default)]
struct Versions {
    all: Vec<u32>,
    /// Those that answer, once the new ones do.
    answering: HashSet<u32>,
    new: Vec<NewVersion>,
    artifacts: HashMap<u32, Sha256>,
    unreadable: usize,
}

impl Rollout {
    /// Loads what there is; `None` for an app without a store. Requests that name something newer wait for
    /// [`Rollout::run`] from now on.
    pub async fn start(app: &Arc<App>) -> Option<Self> {
        let store = app.store()?.clone();
        let loaded = watch::Sender::new(0);
        let catching_up = CatchingUp { store: store.clone(), loaded: loaded.subscribe() };
        let mut rollout = Self { app: Arc::clone(app), store, known: HashMap::new(), loaded };
        rollout.catch_up().await;
        app.tasks.classifiers.ask(Arc::new(catching_up));
        Some(rollout)
    }

    /// Loads every change, until the task is dropped.
    pub async fn run(mut self) {
        let mut changes = self.store.changes();
        loop {
            changes.borrow_and_update();
            self.catch_up().await;
            let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
            let loaded = *self.loaded.borrow();
            if let Err(error) = self.store.changed_since(loaded).await {
                tracing::error!(%error, "the registry could not be looked at");
            }
        }
    }

    /// Loads every classifier whose row changed, and forgets those that are gone.
    async fn catch_up(&mut self) {
        let store = self.store.clone();
        // The revision first: what is written while rows are read counts as not loaded.
        let revision = *store.changes().borrow();
        match self.try_catch_up(&store).await {
            Ok(broken) => {
                // The variants of what cannot be read are not known, and stay.
                variants::know_all(&self.app, broken == 0);
                self.loaded.send_replace(revision);
            }
            Err(error) => tracing::error!(%error, "the registry could not be read"),
        }
        self.count_jobs(&store).await;
    }

    async fn count_jobs(&self, store: &Store) {
        let now = now_ms();
        match store.queue_size(now).await {
            Ok(size) => {
                self.app.metrics.data.jobs_stalled.set(size.stalled as i64);
                let counts: Vec<(&str, u64)> =
                    size.jobs.iter().map(|(state, count)| (state.as_str(), *count)).collect();
                self.app.metrics.set_jobs(&counts);
                let waited = size.oldest_queued_at.map_or(0, |since| now.saturating_sub(since).max(0));
                self.app.metrics.data.jobs_oldest_queued_seconds.set(waited as f64 / 1000.0);
            }
            Err(error) => tracing::error!(%error, "the queue could not be looked at"),
        }
        match store.outbox().await {
            Ok(outbox) => {
                let data = &self.app.metrics.data;
                data.webhooks_waiting.set(outbox.waiting.cast_signed());
                data.webhooks_given_up.set(outbox.given_up.cast_signed());
                let waited = outbox.oldest_ended_at.map_or(0, |since| now.saturating_sub(since).max(0));
                data.webhooks_oldest_waiting_seconds.set(waited as f64 / 1000.0);
            }
            Err(error) => tracing::error!(%error, "the outbox could not be looked at"),
        }
        self.app.metrics.data.classifier_versions.set(self.app.tasks.classifiers.count() as i64);
        match disk::room(self.app.config.data.clone()).await {
            Ok(room) => {
                self.app.metrics.data.disk_free_bytes.set(room.free);
                self.app.metrics.data.disk_bytes.set(room.all);
            }
            Err(error) => tracing::error!(%error, "the disk of the data folder could not be looked at"),
        }
    }

    /// Of how many classifiers something could not be loaded.
    async fn try_catch_up(&mut self, store: &Store) -> Result<i64, StoreError> {
        let mut there = HashSet::new();
        let mut broken = 0;
        let mut after: Option<ClassifierId> = None;
        loop {
            let page = store.classifiers(Scope::All, after.as_ref(), PAGE).await?;
            for classifier in &page.data {
                there.insert(classifier.id.clone());
                let known = self.known.get(&classifier.id);
                let known = known.filter(|known| known.revision == classifier.revision);
                match known.map(|known| known.again) {
                    Some(None) => continue,
                    Some(Some(again)) if Instant::now() < again => {
                        broken += 1;
                        continue;
                    }
                    Some(Some(_)) | None => {}
                }
                match self.load(store, classifier).await {
                    Ok(whole) => broken += i64::from(!whole),
                    Err(error) => {
                        broken += 1;
                        tracing::error!(classifier = %classifier.id.name, %error, "a classifier could not be loaded");
                    }
                }
            }
            after = page.data.last().map(|classifier| classifier.id.clone());
            if !page.has_more || after.is_none() {
                break;
            }
        }
        self.app.metrics.data.classifiers_broken.set(broken);
        let gone: Vec<ClassifierId> = self.known.keys().filter(|id| !there.contains(*id)).cloned().collect();
        for id in gone {
            self.app.tasks.classifiers.remove(&id.key, &id.name);
            self.known.remove(&id);
        }
        Ok(broken)
    }

    /// Lets a classifier answer as its row says; whether all of its versions could be read.
    async fn load(&mut self, store: &Store, classifier: &Classifier) -> Result<bool, RolloutError> {
        let id = &classifier.id;
        let Versions { all, answering, new, artifacts, unreadable } = self.read(store, id).await?;
        let answers = |number: &u32| answering.contains(number);
        // What cannot be read takes nobody's requests: they go where they went before.
        let before = self.known.get(id).and_then(|known| known.production);
        let production = match classifier.production {
            Some(number) if !answers(&number) => before.filter(answers),
            production => production,
        };
        // The split stays whole: without one of its versions everybody else would change places.
        let (traffic, aliases) = (classifier.traffic.clone(), classifier.aliases.clone());
        let pointers = Pointers { production, aliases, traffic, shadow: classifier.shadow };
        let tuned = |version: &NewVersion| {
            let backbone = &version.artifact.backbone().id;
            variants::base(backbone)?;
            Some((backbone.clone(), artifacts.get(&version.number)?))
        };
        let tuned: Vec<(String, &Sha256)> = new.iter().filter_map(tuned).collect();
        let know = || tuned.iter().for_each(|(backbone, bytes)| variants::know(&self.app, backbone, bytes));
        know();
        self.app.tasks.classifiers.set((&id.key, &id.name), &all, new, pointers)?;
        // A sweep in between saw no version that uses them.
        know();
        let again = (unreadable > 0).then(|| Instant::now() + TRY_AGAIN);
        let loaded = Loaded { revision: classifier.revision, artifacts, production, again };
        self.known.insert(id.clone(), loaded);
        Ok(again.is_none())
    }

    /// A classifier's versions. One that cannot be read keeps none of the others from answering.
    async fn read(&self, store: &Store, id: &ClassifierId) -> Result<Versions, StoreError> {
        let loaded = self.app.tasks.classifiers.loaded(&id.key, &id.name);
        let known = self.known.get(id);
        let is_loaded = |version: &ClassifierVersion| {
            let artifact = known.and_then(|known| known.artifacts.get(&version.number));
            loaded.contains(&version.number) && artifact == Some(&version.artifact)
        };
        let mut read = Versions { answering: loaded.iter().copied().collect(), ..Versions::default() };
        let mut page = PageRequest { after: None, limit: PAGE, order: Order::Ascending };
        loop {
            let versions = store.versions(id, &page).await?;
            for version in &versions.data {
                read.all.push(version.number);
                if !is_loaded(version) {
                    match read_version(store, version).await {
                        Ok(new) => read.new.push(new),
                        Err(error) => {
                            read.unreadable += 1;
                            let version = version.model_name();
                            tracing::error!(version, %error, "a version could not be loaded");
                            continue;
                        }
                    }
                }
                read.answering.insert(version.number);
                read.artifacts.insert(version.number, version.artifact.clone());
            }
            page.after = versions.data.last().map(|version| version.number);
            if !versions.has_more {
                break;
            }
        }
        let Versions { all, answering, .. } = &mut read;
        answering.retain(|number| all.contains(number));
        Ok(read)
    }
}

async fn read_version(store: &Store, version: &ClassifierVersion) -> Result<NewVersion, RolloutError> {
    let artifact = read_artifact(store, &version.artifact, &version.model_name()).await?;
    Ok(NewVersion { number: version.number, artifact: Arc::new(artifact) })
}

async fn read_artifact(store: &Store, artifact: &Sha256, name: &str) -> Result<Artifact, RolloutError> {
    let bytes = store.blobs().read(artifact, LARGEST_ARTIFACT).await?;
    Artifact::load(&bytes).map_err(|source| RolloutError::Artifact { version: name.to_owned(), source })
}

/// What requests wait on when they name something that does not answer yet.
struct CatchingUp {
    store: Store,
    loaded: watch::Receiver<u64>,
}

#[async_trait]
impl Registry for CatchingUp {
    async fn refresh(&self) -> bool {
        let mut loaded = self.loaded.clone();
        let known = *loaded.borrow();
        match self.store.changed_since(known).await {
            Ok(None) => false,
            Ok(Some(revision)) => {
                let caught_up = loaded.wait_for(|loaded| *loaded >= revision);
                matches!(tokio::time::timeout(PATIENCE, caught_up).await, Ok(Ok(_)))
            }
            Err(error) => {
                tracing::error!(%error, "the registry could not be looked at");
                false
            }
        }
    }

    async fn checkpoint(&self, key: &str, name: &str) -> Option<Arc<Artifact>> {
        let (classifier, job, step) = Checkpoint::parse_name(name)?;
        let job =
            self.store.job(Scope::Key(key), &job).await.ok().filter(|job| job.classifier == classifier)?;
        let checkpoint = self.store.checkpoint(&job.id, step).await.ok()?;
        match read_artifact(&self.store, &checkpoint.artifact, name).await {
            Ok(artifact) => Some(Arc::new(artifact)),
            Err(error) => {
                tracing::error!(%error, "a checkpoint could not be loaded");
                None
            }
        }
    }
}
