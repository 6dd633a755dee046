//! The composition root: configuration in, running engine and loaded backbones out. The only place that wires.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headstart_engine::{Device, Engine, EngineError, EngineOptions, Folder, Runtime};
use headstart_tasks::{Entry, LoadError, Served, TaskContext, TaskLimits};
use headstart_telemetry::Metrics;

use crate::config::{Config, DeviceName};

/// Everything a request needs.
pub struct App {
    /// The options in force.
    pub config: Config,
    /// Backbones, caches, limits.
    pub tasks: TaskContext,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    ready: AtomicBool,
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
            image: headstart_media::Limits {
                max_pixels: config.max_image_pixels,
                max_bytes: config.max_body_bytes,
            },
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let tasks = TaskContext::new(limits, config.cache_bytes, cores, &metrics);
        Ok(Self { config, tasks, metrics, ready: AtomicBool::new(false) })
    }

    /// Whether requests are taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Starts or stops taking requests.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
        self.metrics.ready.set(i64::from(ready));
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// When ONNX Runtime cannot be loaded.
    pub fn start_engine(&self) -> Result<Engine, EngineError> {
        let config = &self.config;
        let runtime = Runtime::load(config.onnxruntime.as_deref())?;
        tracing::info!(library = %runtime.path().display(), "ONNX Runtime loaded");
        let device = match config.device {
            DeviceName::Cpu => Device::Cpu,
            DeviceName::Cuda => Device::Cuda { id: config.cuda_device, required: config.require_cuda },
        };
        let options = EngineOptions { lanes: config.lanes, device, queue_items: config.queue_items };
        Engine::start(runtime, options, Arc::clone(&self.metrics))
    }

    /// Loads every backbone of every models folder, side by side. Blocking. A broken one is listed with its reason;
    /// the others load.
    ///
    /// # Errors
    /// When a models folder cannot be listed, holds no backbone, or CUDA is required and not usable.
    pub fn load_backbones(&self, engine: &Engine) -> anyhow::Result<()> {
        let mut folders: Vec<PathBuf> = Vec::new();
        for root in &self.config.models {
            folders.extend(Folder::list(root)?);
        }
        anyhow::ensure!(
            !folders.is_empty(),
            "no backbone in {:?}: none has a headstart.toml",
            self.config.models
        );
        let required_cuda = std::thread::scope(|scope| {
            let loads: Vec<_> =
                folders.iter().map(|folder| scope.spawn(|| self.load_one(engine, folder))).collect();
            loads.into_iter().filter_map(|load| load.join().ok().flatten()).next()
        });
        required_cuda.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Loads one folder into the catalog; returns the error that must stop the start, if any.
    fn load_one(&self, engine: &Engine, path: &Path) -> Option<EngineError> {
        let id = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let loaded = Folder::open(path)
            .map_err(|error| LoadError::Engine(error.into()))
            .and_then(|folder| Served::load(engine, folder, unix_seconds()));
        let entry = match loaded {
            Ok(served) => Entry::Served(Arc::new(served)),
            Err(LoadError::Engine(error @ EngineError::Cuda(_))) => return Some(error),
            Err(error) => {
                tracing::error!(model = %id, %error, "backbone refused");
                self.metrics.for_model(&id).loaded.set(0);
                Entry::Broken(error.to_string().into())
            }
        };
        self.tasks.catalog.insert(id, entry);
        None
    }

    /// Longest time for one request.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.config.request_timeout_ms)
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
