//! The engine: lanes for the whole machine, and loading of backbones onto them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use headstart_telemetry::Metrics;
use headstart_types::Manifest;
use headstart_types::payload::Modality;

use crate::backbone::{Backbone, Model};
use crate::batch::Limits;
use crate::call::Readout;
use crate::error::EngineError;
use crate::folder::Folder;
use crate::lane;
use crate::places::Places;
use crate::runtime::Runtime;
use crate::schedule::Scheduler;
use crate::session::{Graph, Provider};
use crate::trial::Trial;
use crate::warm_up::{INVARIANT_COSINE, warm_up};

/// Where backbones should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// On the CPU.
    Cpu,
    /// On an NVIDIA GPU.
    Cuda {
        /// Its number.
        id: i32,
        /// Refuse the CPU instead of falling back to it.
        required: bool,
    },
}

/// What the engine is given.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Lanes; by default the cores the process may use.
    pub lanes: Option<usize>,
    /// Where backbones run.
    pub device: Device,
    /// Most items in a backbone's queue.
    pub queue_items: usize,
    /// Whether bulk items are computed by threads that make way for others.
    pub bulk_steps_back: bool,
}

/// Lanes, and backbones on them.
pub struct Engine {
    runtime: Runtime,
    scheduler: Arc<Scheduler>,
    metrics: Arc<Metrics>,
    options: EngineOptions,
    lanes: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts the lanes. The default number of lanes is the CPU quota: affinity and cgroup, rounded down, at least one.
    ///
    /// # Errors
    /// [`EngineError::Graph`] when the system gives no threads.
    pub fn start(
        runtime: Runtime,
        options: EngineOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Self, EngineError> {
        // The standard library reads both the affinity mask and the cgroup quota.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = options.lanes.unwrap_or(cores).max(1);
        let scheduler = Arc::new(Scheduler::new(lanes, options.bulk_steps_back));
        let lanes = lane::start(&scheduler, &metrics)
            .map_err(|error| EngineError::Graph(format!("no thread for a lane: {error}")))?;
        Ok(Self { runtime, scheduler, metrics, options, lanes })
    }

    /// Loads a backbone, warms it up and puts it on the lanes. Takes as long as the graph needs; call it off the
    /// asynchronous threads.
    ///
    /// # Errors
    /// [`EngineError`] naming the file, field, input or output that is wrong.
    pub fn load(&self, folder: Folder) -> Result<Backbone, EngineError> {
        let started = Instant::now();
        let manifest = folder.manifest().clone();
        let labels = folder.classes()?;
        let file = folder.verified_graph()?;
        let stage = folder.verified_stage()?;
        let spread = manifest.engine.on(self.lanes());
        let (slots, calls) = (spread.threads, spread.calls);
        let classes = (!labels.is_empty()).then_some(labels.len());
        let graph = Graph::load(
            &self.runtime,
            (file.as_path(), stage.as_deref()),
            folder.shared(),
            &manifest,
            classes,
            (slots, self.sessions(&manifest)),
            self.options.device,
        )?;
        let provider = graph.provider();
        let max_running = match provider {
            Provider::Cpu => calls,
            Provider::Cuda => 1,
        };
        let steps_back = self.options.bulk_steps_back && provider == Provider::Cpu && slots == 1;
        let readout = manifest.output.features.as_ref().map(|features| Readout {
            pooling: features.pooling,
            normalise: features.normalise,
            dimension: features.dimension,
        });
        let id = manifest.backbone.id.clone();
        let metrics = self.metrics.for_model(&id);
        let mut model = Model::new(
            id.clone(),
            graph,
            readout,
            limits(&manifest, provider),
            (slots, max_running),
            steps_back,
            metrics,
        );
        let failed = |message| EngineError::Run { model: id.clone(), message };
        let batch_invariance = warm_up(&model, manifest.text.as_ref()).map_err(failed)?;
        let dependent = batch_invariance.filter(|cosine| *cosine < INVARIANT_COSINE);
        if let Some(cosine) = dependent {
            tracing::warn!(
                model = %id, cosine,
                "an item's vector depends on what shares its batch; quantise with scales that do not"
            );
        }
        model.trial = Trial::of(&model, dependent.is_none()).map_err(failed)?;
        let took = started.elapsed();
        model.metrics.load_seconds.set(took.as_secs_f64());
        tracing::info!(model = %id, provider = provider.as_str(), milliseconds = took.as_millis() as u64, "backbone loaded");
        Ok(Backbone::new(
            model,
            folder,
            labels,
            (Arc::clone(&self.scheduler), Arc::clone(&self.metrics)),
            self.options.queue_items,
            batch_invariance,
        ))
    }

    /// Bytes of memory that a backbone is counted with here, without the weights that it shares.
    #[must_use]
    pub fn memory(&self, folder: &Folder) -> u64 {
        folder.memory(self.sessions(folder.manifest()))
    }

    /// Sessions that a load makes of a backbone's graph. A GPU's calls come one after another, and a table of word vectors
    /// has none.
    fn sessions(&self, manifest: &Manifest) -> usize {
        match (self.options.device, &manifest.words) {
            (Device::Cpu, None) => manifest.engine.on(self.lanes()).sessions,
            (Device::Cpu, Some(_)) | (Device::Cuda { .. }, _) => 1,
        }
    }

    /// Places in a queue as long as every backbone's, for one that is no graph: it is computed elsewhere, and admits and
    /// counts as the others do.
    #[must_use]
    pub fn places(&self, id: &str) -> Places {
        Places::new(self.options.queue_items, self.metrics.for_model(id))
    }

    /// Lanes that run calls.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.scheduler.lanes()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.scheduler.stop();
        for lane in self.lanes.drain(..) {
            let _ = lane.join();
        }
    }
}

fn limits(manifest: &Manifest, provider: Provider) -> Limits {
    let base = match (provider, manifest.backbone.modality) {
        (Provider::Cuda, _) => Limits::GPU,
        (Provider::Cpu, Modality::Text) => Limits::CPU_TOKENS,
        // A sound has windows enough of its own.
        (Provider::Cpu, Modality::Image | Modality::Audio) => Limits::CPU_DENSE,
        (Provider::Cpu, Modality::Tensor) => Limits::CPU_RAW,
    };
    let engine = &manifest.engine;
    let items = engine.max_batch_items.unwrap_or(base.items);
    // Dense items cost one each: their token budget is their item budget.
    let tokens = match manifest.backbone.modality {
        Modality::Text => engine.max_batch_tokens,
        Modality::Image => engine.max_batch_items,
        // The time of a call bounds it, whatever a row or an element costs.
        Modality::Audio | Modality::Tensor => Some(usize::MAX),
    };
    Limits {
        items,
        tokens: tokens.unwrap_or(base.tokens),
        long_tokens: tokens.unwrap_or(base.long_tokens),
        waste: base.waste,
    }
}
