//! An ONNX graph as sessions that lanes share, with what its inputs and outputs mean.
#![expect(unsafe_code, reason = "lanes share CPU sessions, see `Shared::run` and docs/adr/0001")]

use std::borrow::Cow;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::MutexGuard;

use headstart_types::manifest::Manifest;
use ort::ep;
use ort::session::builder::{BuilderResult, GraphOptimizationLevel, SessionBuilder};
use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::Outlet;

use crate::engine::Device;
use crate::error::EngineError;
use crate::folder::SharedWeights;
use crate::memory;
use crate::outputs::Outputs;
use crate::reads::Reads;
use crate::replicas::Replicas;
use crate::runtime::Runtime;
use crate::signal::Signals;
use crate::signature::Signature;
use crate::weights::Common;

/// Where a backbone really runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl Provider {
    /// The name used in answers and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// Sessions of one graph that lanes share. Those of a GPU must not be entered twice at once.
pub(crate) struct Shared(Replicas<Session>);

/// A loaded graph.
pub(crate) struct Graph {
    session: Shared,
    provider: Provider,
    reads: Reads,
    /// Items of every call, where the exporter fixed them.
    batch: Option<usize>,
    /// What is read of the outputs, where an item's vector is.
    outputs: Option<Outputs>,
    signature: Signature,
    /// Kept for whoever is loaded later.
    _common: Option<Common>,
    /// Behind the session: fields are dropped in their order, and what it frees is to go back to the system.
    _trim: Trim,
}

/// What a call is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask<'a> {
    /// The runtime frees what its arena keeps and this call does not need.
    pub(crate) give_back: bool,
    /// Outputs by name; all of them when absent.
    pub(crate) outputs: Option<&'a [&'a str]>,
}

/// Gives freed memory back when it is dropped.
struct Trim;

impl Drop for Trim {
    fn drop(&mut self) {
        memory::trim();
    }
}

impl Graph {
    /// Makes a session of the file and checks it against the manifest. `logit_classes` is the label file's length, `stage`
    /// the file of the graph before it, `shared` what it keeps together with others. The CPU gets `sessions` of it.
    ///
    /// # Errors
    /// [`EngineError::Cuda`] when CUDA is required and not usable, else [`EngineError::Graph`] naming what does not fit.
    pub(crate) fn load(
        runtime: &Runtime,
        (file, stage): (&Path, Option<&Path>),
        shared: Option<&SharedWeights>,
        manifest: &Manifest,
        logit_classes: Option<usize>,
        (threads, sessions): (usize, usize),
        device: Device,
    ) -> Result<Self, EngineError> {
        let common = match device {
            Device::Cpu => shared.map(|weights| Common::of(file, weights)).transpose(),
            // What is in the CPU's memory is no use there.
            Device::Cuda { .. } => Ok(None),
        };
        let common = common.map_err(EngineError::Graph)?;
        let (session, provider) = build(runtime, (file, common.as_ref()), threads, device)?;
        let more = match provider {
            Provider::Cpu => (1..sessions)
                .map(|_| commit(runtime, (file, common.as_ref()), threads, None))
                .collect::<Result<_, _>>()
                .map_err(EngineError::Graph)?,
            Provider::Cuda => Vec::new(),
        };
        let refuse = |problem: String| EngineError::Graph(format!("`{}`: {problem}", manifest.backbone.id));
        let (reads, batch) = match &manifest.audio {
            Some(audio) => {
                let stage = stage.map(|file| build(runtime, (file, None), threads, device)).transpose()?;
                let stage = stage.map(|(session, provider)| Shared::new(session, Vec::new(), provider));
                let signals = Signals::new(session.inputs(), audio, stage, provider).map_err(refuse)?;
                (Reads::Signals(Box::new(signals)), None)
            }
            None => Reads::of(session.inputs(), manifest).map_err(refuse)?,
        };
        let outputs = Outputs::of(session.outputs(), manifest, logit_classes).map_err(refuse)?;
        let signature = Signature::of(session.inputs(), session.outputs()).map_err(refuse)?;
        Ok(Self {
            session: Shared::new(session, more, provider),
            provider,
            reads,
            batch,
            outputs,
            signature,
            _common: common,
            _trim: Trim,
        })
    }

    pub(crate) fn provider(&self) -> Provider {
        self.provider
    }

    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    pub(crate) fn outputs(&self) -> Option<&Outputs> {
        self.outputs.as_ref()
    }

    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Items of every call, where the exporter fixed them.
    pub(crate) fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// How many sessions there are of it.
    pub(crate) fn sessions(&self) -> usize {
        self.session.0.len()
    }

    /// Keeps calls out of a session that none is in, as long as another is free.
    pub(crate) fn hold(&self) -> Option<MutexGuard<'_, ()>> {
        self.session.0.enter().1
    }

    /// Runs the graph, see [`Shared::run`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn run<T>(
        &self,
        inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)>,
        ask: Ask<'_>,
        read: impl FnOnce(&SessionOutputs<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        self.session.run(inputs, ask, read)
    }
}

impl Shared {
    fn new(first: Session, more: Vec<Session>, provider: Provider) -> Self {
        Self(Replicas::new(first, more, provider != Provider::Cpu))
    }

    pub(crate) fn inputs(&self) -> &[Outlet] {
        self.0.first().inputs()
    }

    /// Runs the graph; `read` sees the outputs where the runtime left them.
    ///
    /// # Errors
    /// ONNX Runtime's message, or what `read` says.
    pub(crate) fn run<T>(
        &self,
        inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)>,
        ask: Ask<'_>,
        read: impl FnOnce(&SessionOutputs<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let (session, _taken) = self.0.enter();
        // SAFETY: the copy is never dropped, so nothing is freed twice, and it lives shorter than the session, so
        // what it points to stays valid. `Session::run` changes none of the session's fields; it takes `&mut self`
        // only because some providers must not be entered twice at once. ONNX Runtime documents concurrent calls of
        // `InferenceSession::Run` as safe, and the CPU provider keeps no state between calls; every other provider
        // is serialised by `_taken` above.
        let mut session = unsafe { ManuallyDrop::new(std::ptr::read(&raw const *session)) };
        let text = |error: ort::Error| error.to_string();
        if !ask.give_back && ask.outputs.is_none() {
            return read(&session.run(inputs).map_err(text)?);
        }
        let mut options = RunOptions::new().map_err(text)?;
        if ask.give_back {
            options.set("memory.enable_memory_arena_shrinkage", "cpu:0").map_err(text)?;
        }
        let Some(names) = ask.outputs else {
            return read(&session.run_with_options(inputs, &options).map_err(text)?);
        };
        let chosen = names.iter().fold(OutputSelector::no_default(), |chosen, name| chosen.with(*name));
        let options = options.with_outputs(chosen);
        read(&session.run_with_options(inputs, &options).map_err(text)?)
    }
}

// SAFETY: see `Shared::run`: the session is entered by several threads at once only on the CPU provider, which
// allows it.
unsafe impl Sync for Shared {}

fn build(
    runtime: &Runtime,
    (file, common): (&Path, Option<&Common>),
    threads: usize,
    device: Device,
) -> Result<(Session, Provider), EngineError> {
    if let Device::Cuda { id, required } = device {
        match commit(runtime, (file, None), threads, Some(id)) {
            Ok(session) => return Ok((session, Provider::Cuda)),
            Err(message) if required => return Err(EngineError::Cuda(last_clause(&message).to_owned())),
            Err(message) => {
                tracing::warn!(reason = last_clause(&message), "CUDA is not usable; running on the CPU")
            }
        }
    }
    commit(runtime, (file, common), threads, None)
        .map(|session| (session, Provider::Cpu))
        .map_err(EngineError::Graph)
}

fn commit(
    runtime: &Runtime,
    (file, common): (&Path, Option<&Common>),
    threads: usize,
    cuda: Option<i32>,
) -> Result<Session, String> {
    // The builder's errors carry the builder itself and cannot cross threads: strings from the start.
    let step = |built: BuilderResult| built.map_err(|error| error.to_string());
    let builder = Session::builder(runtime.environment()).map_err(|error| error.to_string())?;
    let builder = step(builder.with_optimization_level(GraphOptimizationLevel::All))?;
    let builder = step(builder.with_intra_threads(threads))?;
    let builder = step(builder.with_inter_threads(1))?;
    // Spinning is the runtime's default; it burns the quota that other lanes need.
    let mut builder = step(builder.with_intra_op_spinning(false))?;
    if let Some(id) = cuda {
        builder = on_cuda(builder, id)?;
    }
    if let Some(common) = common {
        builder = common.give(builder)?;
    }
    builder.commit_from_file(file).map_err(|error| error.to_string())
}

/// A builder whose sessions run on an NVIDIA GPU, and fail where they cannot.
pub(crate) fn on_cuda(builder: SessionBuilder, id: i32) -> Result<SessionBuilder, String> {
    // Without `error_on_failure` the runtime falls back to the CPU and says nothing.
    let provider = ep::CUDA::default().with_device_id(id).build().error_on_failure();
    builder.with_execution_providers([provider]).map_err(|error| error.to_string())
}

/// The end of a loader's message is the part that names the missing library.
pub(crate) fn last_clause(message: &str) -> &str {
    message.rsplit("with error: ").next().unwrap_or(message).trim()
}
