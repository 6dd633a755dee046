//! The backbones that can be asked: loaded ones with their encoders, those that come back when they are asked for, and
//! broken ones with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use async_trait::async_trait;
use headstart_engine::{Backbone, Engine, EngineError, Folder, Permit, Provider};
use headstart_media::{MediaError, SoundEncoder, TextEncoder};
use headstart_methods::head::Backbone as FittedOn;
use headstart_telemetry::ModelMetrics;
use headstart_types::Manifest;
use headstart_types::classifier::TUNED;
use headstart_types::manifest::ImageSpec;
use headstart_types::payload::{Datum, Modality};
use headstart_types::{InputError, Payload, hex};
use headstart_vectors::{Table, TableError};

use crate::cache::Key;
use crate::compute::{Compute, TableBackbone};
use crate::error::TaskError;
use crate::fingerprint;
use crate::reader::Reader;
use crate::zero_shot::ZeroShot;

/// A backbone with what turns media into its inputs.
pub struct Served {
    /// What turns media into its inputs.
    pub(crate) encoder: Encoder,
    /// What reads texts where the graph itself reads pictures.
    pub(crate) text_tower: Option<Arc<Self>>,
    /// What zero-shot needs beside the graph.
    pub(crate) zero_shot: Option<ZeroShot>,
    /// What computes its features, and its queue. Dropped behind the parts above.
    pub(crate) compute: Compute,
    /// Names weights and preprocessing in cache keys.
    pub(crate) fingerprint: Key,
    /// When it was loaded, seconds since the epoch.
    pub loaded_at: u64,
    /// Bytes of memory that it is counted with.
    pub memory: u64,
    /// The digest of weights that it holds together with others, and the bytes that these are counted with once.
    pub shared: Option<(String, u64)>,
    /// The turn in which it was asked last.
    asked: AtomicU64,
}

/// What turns media into a backbone's inputs.
#[derive(Clone)]
pub(crate) enum Encoder {
    Text(Arc<Reader>),
    Image(ImageSpec),
    Audio(Arc<SoundEncoder>),
    /// Nothing does: it takes tensors as they are.
    None,
}

/// Why a backbone could not be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine refused it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its table of word vectors cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Its tokenizer cannot be used.
    #[error("{file}: {source}")]
    Tokenizer {
        /// The tokenizer's file name.
        file: String,
        /// What is wrong with it.
        source: MediaError,
    },
    /// A file that zero-shot needs is wrong.
    #[error("zero_shot: {0}")]
    ZeroShot(String),
}

impl LoadError {
    /// What is wrong, for clients: no path of the machine, no more of a file than its name.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Engine(EngineError::Folder(error)) => error.reason(),
            Self::Engine(_) => "its graph cannot be run; the log has the reason".into(),
            Self::Table(TableError::Checksum { file, .. }) => {
                format!("the sha-256 of {file} is not the manifest's")
            }
            Self::Table(TableError::Format { file, problem }) => format!("{file}: {problem}"),
            Self::Table(_) => "its table of word vectors cannot be used; the log has the reason".into(),
            Self::Tokenizer { file, .. } => format!("{file} cannot be used; the log has the reason"),
            Self::ZeroShot(_) => "what `[zero_shot]` names cannot be used; the log has the reason".into(),
        }
    }
}

impl Served {
    /// Loads a folder onto the engine. Blocking.
    ///
    /// # Errors
    /// [`LoadError`] naming the file or field that is wrong.
    pub fn load(engine: &Engine, folder: Folder, loaded_at: u64) -> Result<Self, LoadError> {
        let tower = folder.text_half().map(|half| Self::load(engine, half, loaded_at)).transpose()?;
        let manifest = folder.manifest().clone();
        let fingerprint = fingerprint::of(&manifest);
        let zero_shot = ZeroShot::load(&folder).map_err(LoadError::ZeroShot)?;
        let text_tower = tower.map(Arc::new);
        let (memory, shared, asked) = (engine.memory(&folder), folder.shared_memory(), AtomicU64::new(0));
        if manifest.words.is_some() {
            let (encoder, compute) = table(engine, folder)?;
            return Ok(Self {
                compute,
                encoder,
                text_tower,
                zero_shot,
                fingerprint,
                loaded_at,
                memory,
                shared,
                asked,
            });
        }
        let encoder = match (&manifest.text, &manifest.image, &manifest.audio) {
            (_, Some(image), _) => Encoder::Image(image.clone()),
            (Some(text), None, _) => {
                let bytes = folder.read(&text.tokenizer).map_err(EngineError::from)?;
                let encoder = TextEncoder::load(&bytes, text)
                    .map_err(|source| LoadError::Tokenizer { file: text.tokenizer.clone(), source })?;
                // How long a text may be is an option, and known before it comes here.
                Encoder::Text(Arc::new(Reader::Tokens(Box::new(encoder.with_max_bytes(usize::MAX)))))
            }
            (None, None, Some(audio)) => Encoder::Audio(Arc::new(SoundEncoder::new(audio))),
            (None, None, None) => Encoder::None,
        };
        let compute = Compute::Graph(engine.load(folder)?);
        Ok(Self { compute, encoder, text_tower, zero_shot, fingerprint, loaded_at, memory, shared, asked })
    }

    /// The name clients use.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.manifest().backbone.id
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        self.compute.manifest()
    }

    /// The folder it was loaded from.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        self.compute.folder()
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> &ModelMetrics {
        self.compute.metrics()
    }

    /// Where it runs: `cpu` or `cuda`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        match &self.compute {
            Compute::Graph(backbone) => backbone.provider().as_str(),
            Compute::Table(_) => Provider::Cpu.as_str(),
        }
    }

    /// Lowest cosine between an item alone and the same item in a padded batch, as measured at the start; `None`
    /// where nothing was measured.
    #[must_use]
    pub fn batch_invariance(&self) -> Option<f32> {
        match &self.compute {
            Compute::Graph(backbone) => backbone.batch_invariance(),
            Compute::Table(_) => None,
        }
    }

    /// Words of its table; `None` for a graph.
    #[must_use]
    pub fn table_words(&self) -> Option<usize> {
        match &self.compute {
            Compute::Graph(_) => None,
            Compute::Table(backbone) => Some(backbone.table.index().rows()),
        }
    }

    /// Its graph.
    ///
    /// # Errors
    /// [`TaskError::NoGraph`] for a table of word vectors.
    pub fn graph(&self) -> Result<&Backbone, TaskError> {
        match &self.compute {
            Compute::Graph(backbone) => Ok(backbone),
            Compute::Table(_) => Err(TaskError::NoGraph(self.id().to_owned())),
        }
    }

    /// Most items that its queue holds.
    pub(crate) fn queue_items(&self) -> usize {
        self.compute.queue_items()
    }

    /// Takes places in its queue, or refuses at once.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`] with a time to come back.
    pub(crate) fn admit(&self, items: usize) -> Result<Permit, EngineError> {
        self.compute.admit(items)
    }

    /// Names weights, their precision and preprocessing: what was computed under one key holds for no other.
    #[must_use]
    pub fn key(&self) -> String {
        hex(self.fingerprint.as_bytes())
    }

    /// Whether it gives features; what reads pairs of texts gives none.
    #[must_use]
    pub fn gives_features(&self) -> bool {
        !self.manifest().reads_pairs()
    }

    /// Refuses a backbone without features where they are asked for.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] naming `field`, in which the request has the model.
    pub fn check_features(&self, field: &str) -> Result<(), TaskError> {
        if self.gives_features() {
            return Ok(());
        }
        let id = self.id();
        Err(TaskError::invalid(
            field,
            format!("`{id}` reads pairs of texts: it reranks or labels, and has no features"),
        ))
    }

    /// Whether a head that was `fitted_on` a backbone belongs to this one: name and weights are the same. For a tuned
    /// backbone the name is enough, since it contains a digest of its weights.
    #[must_use]
    pub(crate) fn is_the_one(&self, fitted_on: &FittedOn) -> bool {
        let own = &self.manifest().backbone;
        own.id == fitted_on.id
            && (own.id.contains(TUNED) || own.sha256.eq_ignore_ascii_case(&fitted_on.sha256))
    }

    /// All that it reads, its own modality first.
    #[must_use]
    pub fn modalities(&self) -> Vec<Modality> {
        self.manifest().modalities()
    }

    /// A request's items as data that it reads.
    ///
    /// # Errors
    /// Names the item of `field` that is empty or of another modality.
    pub(crate) fn data(
        &self,
        items: Payload,
        field: &str,
        stated: Option<Modality>,
    ) -> Result<Vec<Datum>, InputError> {
        items.into_data_of(field, &self.modalities(), stated)
    }

    /// What its own graph reads.
    #[must_use]
    pub fn modality(&self) -> Modality {
        self.manifest().backbone.modality
    }
}

/// A table of word vectors, opened, with its reader.
fn table(engine: &Engine, folder: Folder) -> Result<(Encoder, Compute), LoadError> {
    let started = Instant::now();
    let table = Arc::new(Table::open(folder.path(), folder.manifest())?);
    let id = folder.manifest().backbone.id.clone();
    let places = engine.places(&id);
    let took = started.elapsed();
    places.metrics().load_seconds.set(took.as_secs_f64());
    let (words, milliseconds) = (table.index().rows(), took.as_millis() as u64);
    tracing::info!(model = %id, words, milliseconds, "table of word vectors opened");
    let reader = Encoder::Text(Arc::new(Reader::Words(Arc::clone(&table))));
    Ok((reader, Compute::Table(TableBackbone::new(table, folder, places))))
}

/// A backbone as the catalog has it.
#[derive(Clone)]
pub enum Entry {
    /// It answers.
    Served(Arc<Served>),
    /// It made room for others, or waits for its first request; the next one loads it.
    Resting,
    /// Somebody unloaded it: it stays so until somebody loads it.
    Unloaded,
    /// It could not be loaded.
    Broken(Arc<LoadError>),
}

/// What a backbone's state is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not in memory.
    Unloaded,
    /// Not in memory yet.
    Loading,
    /// It answers.
    Ready,
    /// It could not be loaded.
    Broken,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unloaded, Self::Loading, Self::Ready, Self::Broken];

    /// The word for it in answers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Broken => "broken",
        }
    }
}

/// A backbone's entry, and whether another is on its way.
#[derive(Clone)]
pub struct Known {
    /// What there is.
    pub entry: Entry,
    /// Whether it is being loaded, for the first time or anew.
    pub loading: bool,
}

impl Known {
    /// The word for it. A backbone that is loaded anew answers meanwhile.
    #[must_use]
    pub fn state(&self) -> State {
        match (&self.entry, self.loading) {
            (Entry::Served(_), _) => State::Ready,
            (_, true) => State::Loading,
            (Entry::Resting | Entry::Unloaded, false) => State::Unloaded,
            (Entry::Broken(_), false) => State::Broken,
        }
    }

    /// Why it does not answer at once; nothing where it does.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match &self.entry {
            Entry::Served(_) => None,
            Entry::Resting => Some("not in memory; the next request loads it".into()),
            Entry::Unloaded if self.loading => Some("it is being loaded".into()),
            Entry::Unloaded => Some("unloaded by request".into()),
            Entry::Broken(error) => Some(error.reason()),
        }
    }
}

/// What brings back a backbone that rests.
#[async_trait]
pub trait Loader: Send + Sync {
    /// Waits until it is loaded; who waits for the same backbone waits for the same load.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    async fn wake(&self, id: &str) -> Result<Arc<Served>, TaskError>;
}

/// A loaded backbone, as far as room for another is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Its name.
    pub id: String,
    /// Bytes that it is counted with.
    pub memory: u64,
    /// The digest of weights that it holds together with others, and the bytes that these are counted with once.
    pub shared: Option<(String, u64)>,
    /// The turn in which it was asked last: the lower, the longer ago.
    pub asked: u64,
    /// Whether no request or job holds it.
    pub idle: bool,
}

/// All backbones by id. Reading is a short lock and a pointer copy.
#[derive(Default)]
pub struct Catalog {
    entries: RwLock<BTreeMap<String, Known>>,
    /// Those that are in no list: parts of what somebody owns.
    unlisted: RwLock<BTreeSet<String>>,
    loader: OnceLock<Arc<dyn Loader>>,
    /// Counts questions, which orders them.
    turns: AtomicU64,
}

impl Catalog {
    /// Sets what loads backbones that rest; called once, at the start.
    pub fn set_loader(&self, loader: Arc<dyn Loader>) {
        let _ = self.loader.set(loader);
    }

    /// Adds or replaces a backbone; requests in flight finish on the one they have. Returns what was there, whose memory
    /// goes once they have.
    pub fn insert(&self, id: String, entry: Entry) -> Option<Entry> {
        if let Entry::Served(served) = &entry {
            served.asked.store(self.turn(), Ordering::Relaxed);
        }
        let mut entries = self.write();
        let loading = entries.get(&id).is_some_and(|known| known.loading);
        entries.insert(id, Known { entry, loading }).map(|known| known.entry)
    }

    /// Says whether a backbone is being loaded. One that was not known is unloaded until it is there.
    pub fn set_loading(&self, id: &str, loading: bool) {
        let mut entries = self.write();
        // One that was forgotten while it was being loaded stays so.
        if loading {
            entries.entry(id.to_owned()).or_insert(Known { entry: Entry::Unloaded, loading });
        }
        if let Some(known) = entries.get_mut(id) {
            known.loading = loading;
        }
    }

    /// Adds one that is in no list and is loaded when it is asked for, unless it is there.
    pub fn insert_unlisted(&self, id: &str) {
        let resting = || Known { entry: Entry::Resting, loading: false };
        self.unlisted.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        self.write().entry(id.to_owned()).or_insert_with(resting);
    }

    /// Forgets one. Returns what was there, whose memory goes once requests have finished on it.
    pub fn forget(&self, id: &str) -> Option<Entry> {
        self.unlisted.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.write().remove(id).map(|known| known.entry)
    }

    /// Lets a backbone rest unless somebody holds it. Returns it: the caller's is the last hold.
    pub fn rest(&self, id: &str) -> Option<Arc<Served>> {
        let mut entries = self.write();
        let known = entries.get_mut(id)?;
        match &known.entry {
            Entry::Served(served) if Arc::strong_count(served) == 1 => {}
            Entry::Served(_) | Entry::Resting | Entry::Unloaded | Entry::Broken(_) => return None,
        }
        match std::mem::replace(&mut known.entry, Entry::Resting) {
            Entry::Served(served) => Some(served),
            Entry::Resting | Entry::Unloaded | Entry::Broken(_) => None,
        }
    }

    /// Forgets every backbone: their queues end once the requests that hold them do.
    pub fn clear(&self) {
        let entries = std::mem::take(&mut *self.write());
        drop(entries);
    }

    /// All backbones in order of id, but those that are in no list.
    #[must_use]
    pub fn list(&self) -> Vec<(String, Known)> {
        let unlisted = self.unlisted.read().unwrap_or_else(PoisonError::into_inner);
        let entries = self.read();
        let listed = entries.iter().filter(|(id, _)| !unlisted.contains(*id));
        listed.map(|(id, known)| (id.clone(), known.clone())).collect()
    }

    /// The backbones in memory.
    #[must_use]
    pub fn residents(&self) -> Vec<Resident> {
        let entries = self.read();
        let served = entries.iter().filter_map(|(id, known)| match &known.entry {
            Entry::Served(served) => Some((id, served)),
            Entry::Resting | Entry::Unloaded | Entry::Broken(_) => None,
        });
        served
            .map(|(id, served)| Resident {
                id: id.clone(),
                memory: served.memory,
                shared: served.shared.clone(),
                asked: served.asked.load(Ordering::Relaxed),
                idle: Arc::strong_count(served) == 1,
            })
            .collect()
    }

    /// One backbone, whatever its state.
    #[must_use]
    pub fn entry(&self, id: &str) -> Option<Known> {
        self.read().get(id).cloned()
    }

    /// One backbone by the name that a client gave, whatever its state. Those that jobs tuned belong to somebody, and are
    /// asked through their versions.
    #[must_use]
    pub fn named(&self, id: &str) -> Option<Known> {
        self.entry(id).filter(|_| !id.contains(TUNED))
    }

    /// A backbone that reads texts, pictures or sounds, by the name that a client gave.
    ///
    /// # Errors
    /// Those of [`Catalog::served`], or [`TaskError::TensorsOnly`].
    pub async fn get(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        if id.contains(TUNED) {
            return Err(TaskError::UnknownModel(id.to_owned()));
        }
        self.of_version(id).await
    }

    /// The backbone that a version names, tuned ones with them.
    ///
    /// # Errors
    /// As [`Catalog::get`].
    pub async fn of_version(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        let served = self.any(id).await?;
        match served.encoder {
            Encoder::Text(_) | Encoder::Image(_) | Encoder::Audio(_) => Ok(served),
            Encoder::None => Err(TaskError::TensorsOnly(id.to_owned())),
        }
    }

    /// A backbone that answers, by the name that a client gave; one that rests is loaded first.
    ///
    /// # Errors
    /// [`TaskError::UnknownModel`], [`TaskError::BrokenModel`], [`TaskError::Unloaded`], or why one that rests cannot be
    /// loaded.
    pub async fn served(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        if id.contains(TUNED) {
            return Err(TaskError::UnknownModel(id.to_owned()));
        }
        self.any(id).await
    }

    /// A backbone that answers, tuned ones with them.
    ///
    /// # Errors
    /// As [`Catalog::served`].
    pub async fn any(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        match (self.at_hand(id), self.loader.get()) {
            (Err(TaskError::Unloaded(_)), Some(loader)) if self.rests(id) => loader.wake(id).await,
            (found, _) => found,
        }
    }

    /// A backbone that answers now.
    ///
    /// # Errors
    /// As [`Catalog::served`]; one that rests is unloaded.
    pub fn at_hand(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        let entries = self.read();
        let known = entries.get(id);
        match known.map(|known| &known.entry) {
            Some(Entry::Unloaded) if known.is_some_and(|known| known.loading) => {
                Err(TaskError::BrokenModel { id: id.to_owned(), reason: "it is being loaded".into() })
            }
            Some(Entry::Served(served)) => {
                served.asked.store(self.turn(), Ordering::Relaxed);
                Ok(Arc::clone(served))
            }
            Some(Entry::Resting | Entry::Unloaded) => Err(TaskError::Unloaded(id.to_owned())),
            Some(Entry::Broken(error)) => {
                Err(TaskError::BrokenModel { id: id.to_owned(), reason: error.reason() })
            }
            None => Err(TaskError::UnknownModel(id.to_owned())),
        }
    }

    fn rests(&self, id: &str) -> bool {
        matches!(self.read().get(id), Some(Known { entry: Entry::Resting, .. }))
    }

    fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Known>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Known>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}
