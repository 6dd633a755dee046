//! The composition root: configuration in, running engine and loaded backbones out. The only place that wires.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use headstart_engine::{Device, Engine, EngineError, EngineOptions, Runtime};
use headstart_store::{Store, StoreError};
use headstart_tasks::{Entry, LoadError, Meter, Served, TaskContext, TaskError, TaskLimits};
use headstart_telemetry::Metrics;
use headstart_types::key::KeyLimits;
use tokio::sync::Semaphore;

use crate::config::{Config, DeviceName};
use crate::folders;
use crate::intake::Uploads;
use crate::keys::{Accounts, Keys};
use crate::loading::{self, Loading};
use crate::precision::Pairs;
use crate::traces::{Endpoint, Exporter, Traces};
use crate::variants::Variants;

/// Bytes per permit of [`App::bodies`].
pub const BODY_UNIT: usize = 4096;

/// Uploads that are inspected at a time: each decodes on every core.
const INSPECTIONS: usize = 2;

/// Bodies of the largest size that may be held at a time.
const LARGEST_BODIES: usize = 8;

/// Everything a request needs.
pub struct App {
    /// The options in force.
    pub config: Config,
    /// Backbones, caches, limits.
    pub tasks: TaskContext,
    /// The keys that are taken.
    pub keys: Keys,
    /// How much each key asks.
    pub(crate) accounts: Arc<Accounts>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// What survives the process; `None` until it is open.
    store: OnceLock<Store>,
    /// Who is told of requests' traces; empty unless there is a collector.
    traces: OnceLock<Traces>,
    /// Loads and unloads; `None` until the engine runs.
    loading: OnceLock<Arc<Loading>>,
    /// Memory for bodies being read or worked on, in units of [`BODY_UNIT`] bytes.
    pub bodies: Arc<Semaphore>,
    /// Places for inspections of uploads.
    pub inspections: Arc<Semaphore>,
    /// Bytes of uploads that have no row yet.
    pub(crate) uploads: Arc<Uploads>,
    /// Backbones that jobs tuned.
    pub(crate) variants: Variants,
    /// Quantised backbones that were looked at beside their originals.
    pub(crate) pairs: Pairs,
    /// Whether bulk work makes way for everything else on the machine.
    steps_back: bool,
    loaded: AtomicBool,
    ready: AtomicBool,
    stopping: AtomicBool,
}

impl App {
    /// An app without backbones, not ready.
    ///
    /// # Errors
    /// When a metric's name is used twice.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"))?);
        let limits = TaskLimits {
            items: config.max_items,
            labels: config.max_labels,
            text_bytes: config.max_text_bytes,
            media: headstart_media::Limits {
                max_pixels: config.max_image_pixels,
                max_seconds: config.max_audio_seconds,
                max_bytes: config.max_body_bytes,
            },
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let tasks = TaskContext::new(limits, config.cache_bytes, cores, &metrics);
        let accounts = Arc::new(Accounts::new(KeyLimits {
            requests_per_minute: Some(config.key_rate),
            concurrency: Some(config.key_concurrency),
            items_per_minute: Some(config.key_items),
        }));
        tasks.set_meter(Arc::clone(&accounts) as Arc<dyn Meter>);
        let keys = Keys::new(&config.api_keys);
        tasks.classifiers.set_reach(keys.reach());
        metrics.edges.api_keys.set(keys.count() as i64);
        let no = || AtomicBool::new(false);
        let bodies = Arc::new(Semaphore::new((LARGEST_BODIES * config.max_body_bytes).div_ceil(BODY_UNIT)));
        let inspections = Arc::new(Semaphore::new(INSPECTIONS));
        let store = OnceLock::new();
        Ok(Self {
            config,
            tasks,
            keys,
            accounts,
            metrics,
            store,
            traces: OnceLock::new(),
            loading: OnceLock::new(),
            bodies,
            inspections,
            uploads: Arc::default(),
            variants: Variants::default(),
            pairs: Pairs::default(),
            steps_back: true,
            loaded: no(),
            ready: no(),
            stopping: no(),
        })
    }

    /// An app for somebody who waits for its bulk work at the terminal: it makes way for nothing.
    ///
    /// # Errors
    /// As [`App::new`].
    pub fn at_terminal(config: Config) -> anyhow::Result<Self> {
        Ok(Self { steps_back: false, ..Self::new(config)? })
    }

    /// Whether bulk work makes way for everything else on the machine.
    #[must_use]
    pub fn steps_back(&self) -> bool {
        self.steps_back
    }

    /// Opens the store in the data folder and reads its keys.
    ///
    /// # Errors
    /// When it cannot be made or read, or a newer build wrote it.
    pub async fn open_store(&self) -> anyhow::Result<()> {
        let data = &self.config.data;
        let opening = || format!("`data`: {}", data.display());
        let store = Store::open(data).await.with_context(opening)?;
        self.read_keys(&store).await.with_context(opening)?;
        let _ = self.store.set(store);
        Ok(())
    }

    /// Takes the store's keys as they are now.
    ///
    /// # Errors
    /// What the store said.
    pub async fn read_keys(&self, store: &Store) -> Result<(), StoreError> {
        if self.keys.read(store).await? {
            self.tasks.classifiers.set_reach(self.keys.reach());
            self.metrics.edges.api_keys.set(self.keys.count() as i64);
        }
        Ok(())
    }

    /// What survives the process; `None` until [`App::open_store`] was called.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        self.store.get()
    }

    /// Traces requests from now on, where there is a collector to tell.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn start_traces(&self) -> anyhow::Result<()> {
        if let Some(url) = &self.config.otlp_endpoint {
            let exporter = Exporter::start(Endpoint::parse(url)?, &self.metrics)?;
            let _ = self.traces.set(Traces::new(self.config.otlp_share, exporter));
        }
        Ok(())
    }

    /// Who traces requests, where somebody does.
    pub(crate) fn traces(&self) -> Option<&Traces> {
        self.traces.get()
    }

    /// Limits of uploaded data sets; whoever reads an inspected file must use the same.
    #[must_use]
    pub fn dataset_limits(&self) -> headstart_datasets::Limits {
        headstart_datasets::Limits {
            max_text_bytes: self.config.max_text_bytes,
            media: self.tasks.limits.media,
            ..headstart_datasets::Limits::default()
        }
    }

    /// Whether balancers should send requests here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// Whether requests are answered; a stopping server still answers what reaches it.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::SeqCst)
    }

    /// Whether the process is about to end: answers without an end should find one.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Backbones are loaded: ready, unless a stop came first.
    pub fn finish_loading(&self) {
        self.loaded.store(true, Ordering::SeqCst);
        self.ready.store(true, Ordering::SeqCst);
        self.metrics.ready.set(1);
        if self.stopping.load(Ordering::SeqCst) {
            self.begin_stopping();
        }
    }

    /// No longer ready, for good.
    pub fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.ready.store(false, Ordering::SeqCst);
        self.metrics.ready.set(0);
    }

    /// Starts the engine and loads every backbone that fits, off the asynchronous threads. From then on they come and go
    /// by [`App::loading`].
    ///
    /// # Errors
    /// Those of [`App::start_engine`] and [`App::load_backbones`].
    pub async fn load(self: &Arc<Self>) -> anyhow::Result<()> {
        let app = Arc::clone(self);
        let engine = tokio::task::spawn_blocking(move || {
            let engine = app.start_engine()?;
            app.load_backbones(&engine)?;
            anyhow::Ok(engine)
        });
        self.attach(Arc::new(engine.await??));
        Ok(())
    }

    /// Lets backbones come and go on an engine.
    pub fn attach(self: &Arc<Self>, engine: Arc<Engine>) {
        self.attach_for(engine, loading::PATIENCE);
    }

    /// The same, where a load waits so long for a backbone that others use to become idle.
    pub fn attach_for(self: &Arc<Self>, engine: Arc<Engine>, patience: Duration) {
        let loading = Arc::new(Loading::new(self, engine, patience));
        self.tasks.catalog.set_loader(Arc::clone(&loading) as Arc<dyn headstart_tasks::Loader>);
        let _ = self.loading.set(loading);
    }

    /// What loads and unloads.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] before the engine runs.
    pub fn loading(&self) -> Result<&Loading, TaskError> {
        self.loading.get().map(Arc::as_ref).ok_or(TaskError::Engine(EngineError::Stopped))
    }

    /// Forgets every backbone and ends the engine. Blocking.
    pub fn unload_all(&self) {
        self.tasks.catalog.clear();
        if let Some(loading) = self.loading.get() {
            loading.close();
        }
    }

    /// Writes a backbone's state into the metrics.
    pub(crate) fn tell_state(&self, id: &str) {
        let Some(known) = self.tasks.catalog.entry(id) else { return };
        let metrics = self.metrics.for_model(id);
        metrics.set_state(known.state().as_str());
        let memory = match &known.entry {
            Entry::Served(served) => served.memory,
            Entry::Resting | Entry::Unloaded | Entry::Broken(_) => 0,
        };
        metrics.memory_bytes.set(memory.cast_signed());
    }

    /// Forgets a backbone with its series. Returns what was there, whose memory goes once requests have finished on it.
    pub(crate) fn forget_model(&self, id: &str) -> Option<Entry> {
        let entry = self.tasks.catalog.forget(id);
        self.metrics.forget_model(id);
        entry
    }

    /// The folder of a backbone as it is on the disk now; `None` where no models folder has one of that name.
    ///
    /// # Errors
    /// [`TaskError::Engine`] when a models folder cannot be listed.
    pub(crate) async fn folder_of(self: &Arc<Self>, id: &str) -> Result<Option<PathBuf>, TaskError> {
        Ok(self.folders().await?.into_iter().find(|path| path.file_name().is_some_and(|name| name == id)))
    }

    /// The folders of all backbones as they are on the disk now; of two of one name the first.
    ///
    /// # Errors
    /// [`TaskError::Engine`] when a models folder cannot be listed.
    pub(crate) async fn folders(self: &Arc<Self>) -> Result<Vec<PathBuf>, TaskError> {
        let app = Arc::clone(self);
        let listed = tokio::task::spawn_blocking(move || folders::list_all(&app.config.models));
        let listed = listed.await.map_err(|_| TaskError::Bug("the models folders were not read"))?;
        listed.map_err(|error| TaskError::Engine(error.into()))
    }

    /// Where backbones run, and are trained.
    pub(crate) fn device(&self) -> Device {
        match self.config.device {
            DeviceName::Cpu => Device::Cpu,
            DeviceName::Cuda => {
                Device::Cuda { id: self.config.cuda_device, required: self.config.require_cuda }
            }
        }
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// When ONNX Runtime cannot be loaded.
    pub fn start_engine(&self) -> Result<Engine, EngineError> {
        let config = &self.config;
        let runtime = Runtime::load(config.onnxruntime.as_deref())?;
        tracing::info!(library = %runtime.path().display(), "ONNX Runtime loaded");
        let options = EngineOptions {
            lanes: Some(config.lanes),
            device: self.device(),
            queue_items: config.queue_items,
            bulk_steps_back: self.steps_back,
        };
        Engine::start(runtime, options, Arc::clone(&self.metrics))
    }

    /// The folders of backbones under the models folders.
    ///
    /// # Errors
    /// When a models folder cannot be listed, or none holds a backbone.
    pub fn backbone_folders(&self) -> anyhow::Result<BackboneFolders> {
        let mut folders = BackboneFolders::default();
        for root in &self.config.models {
            for folder in folders::list(root)? {
                match folders.kept.iter().find(|known| known.file_name() == folder.file_name()) {
                    Some(kept) => {
                        tracing::error!(kept = %kept.display(), left_out = %folder.display(), "two backbones of one name");
                        folders.left_out.push((folder, kept.clone()));
                    }
                    None => folders.kept.push(folder),
                }
            }
        }
        anyhow::ensure!(
            !folders.kept.is_empty(),
            "no backbone in {:?}: none has a headstart.toml, nor a config.json with an ONNX file",
            self.config.models
        );
        Ok(folders)
    }

    /// Loads every backbone of every models folder. Blocking. A broken one is listed with its reason; the others load.
    ///
    /// # Errors
    /// Those of [`App::backbone_folders`]; when no backbone loads, or CUDA is required and not usable.
    pub fn load_backbones(&self, engine: &Engine) -> anyhow::Result<()> {
        let folders = self.backbone_folders()?;
        let (now, later) = self.by_memory(engine, folders.kept);
        for path in later {
            let id = name_of(&path);
            self.tasks.catalog.insert(id.clone(), Entry::Resting);
            self.tell_state(&id);
            tracing::info!(model = %id, "no room left in memory: loaded once it is asked for");
        }
        for path in &now {
            // Its name is taken from here on.
            self.tasks.catalog.set_loading(&name_of(path), true);
        }
        self.load_folders(engine, &now)?;
        let entries = self.tasks.catalog.list();
        let reasons: Vec<String> = entries
            .iter()
            .filter_map(|(id, known)| match &known.entry {
                Entry::Served(_) | Entry::Resting | Entry::Unloaded => None,
                Entry::Broken(reason) => Some(format!("`{id}`: {reason}")),
            })
            .collect();
        anyhow::ensure!(
            reasons.len() < entries.len(),
            "no backbone could be loaded from {:?}: {}",
            self.config.models,
            reasons.join("; ")
        );
        Ok(())
    }

    /// Folders that fit into memory together, in their order, and the others.
    fn by_memory(&self, engine: &Engine, folders: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let limit = self.config.model_memory;
        if limit == 0 {
            return (folders, Vec::new());
        }
        let mut left = limit;
        folders.into_iter().partition(|path| {
            // What cannot be read takes no memory; it is loaded to say what is wrong with it.
            let needed = folders::open(path).map_or(0, |folder| engine.memory(&folder));
            let fits = needed <= left;
            left -= if fits { needed } else { 0 };
            fits
        })
    }

    /// Loads folders into the catalog, side by side: as what they are, or as broken with the reason. Blocking.
    ///
    /// # Errors
    /// When CUDA is required and not usable.
    pub fn load_folders(&self, engine: &Engine, folders: &[PathBuf]) -> Result<(), EngineError> {
        let required_cuda = std::thread::scope(|scope| {
            let loads: Vec<_> =
                folders.iter().map(|folder| scope.spawn(|| self.load_one(engine, folder))).collect();
            loads.into_iter().filter_map(|load| load.join().ok().flatten()).next()
        });
        required_cuda.map_or(Ok(()), Err)
    }

    /// Loads one folder into the catalog; returns the error that must stop the start, if any.
    fn load_one(&self, engine: &Engine, path: &Path) -> Option<EngineError> {
        let id = name_of(path);
        let load = || {
            folders::open(path)
                .map_err(|error| LoadError::Engine(error.into()))
                .and_then(|folder| Served::load(engine, folder, unix_seconds()))
        };
        // A panic of what reads it is the backbone's fault, not the server's.
        let loaded = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| {
            self.metrics.panics_total.inc();
            Err(LoadError::Engine(EngineError::Bug("the load panicked")))
        });
        let entry = match loaded {
            Ok(served) => Entry::Served(Arc::new(served)),
            Err(LoadError::Engine(error @ EngineError::Cuda(_))) => return Some(error),
            Err(error) => {
                tracing::error!(model = %id, %error, "backbone refused");
                Entry::Broken(Arc::new(error))
            }
        };
        self.tasks.catalog.insert(id.clone(), entry);
        self.tasks.catalog.set_loading(&id, false);
        self.tell_state(&id);
        None
    }

    /// Longest time for one request.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.config.request_timeout_ms)
    }
}

/// Folders of backbones.
#[derive(Debug, Default)]
pub struct BackboneFolders {
    /// Those to load.
    pub kept: Vec<PathBuf>,
    /// Those whose name another has already, with the other.
    pub left_out: Vec<(PathBuf, PathBuf)>,
}

/// A folder's name, which is its backbone's.
fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
