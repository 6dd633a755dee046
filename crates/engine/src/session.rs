//! An ONNX graph as a session that lanes share, with what its inputs and outputs mean.
#![expect(unsafe_code, reason = "lanes share one CPU session, see `Graph::run` and docs/adr/0001")]

use std::borrow::Cow;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Mutex;

use headstart_types::manifest::{Manifest, Pooling};
use headstart_types::payload::Modality;
use ort::ep;
use ort::session::builder::{BuilderResult, GraphOptimizationLevel};
use ort::session::{RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::{Outlet, TensorElementType, ValueType};

use crate::engine::Device;
use crate::error::EngineError;
use crate::runtime::Runtime;

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

/// What the graph's inputs mean.
#[derive(Debug)]
pub(crate) enum Reads {
    /// Token ids `[n, tokens]` and whatever else a transformer exporter adds.
    Tokens { ids: String, mask: Option<String>, type_ids: Option<String>, positions: Option<String> },
    /// One float tensor `[n, …item_shape]`.
    Dense { name: String, item_shape: Vec<usize> },
}

/// A loaded graph.
pub(crate) struct Graph {
    session: Session,
    provider: Provider,
    /// Held during a call by providers whose sessions must not be entered twice at once.
    exclusive: Option<Mutex<()>>,
    reads: Reads,
    features: String,
    features_per_token: bool,
    logits: Option<(String, usize)>,
}

impl Graph {
    /// Makes a session of the file and checks it against the manifest. `logit_classes` is the label file's length.
    ///
    /// # Errors
    /// [`EngineError::Cuda`] when CUDA is required and not usable, else [`EngineError::Graph`] naming what does not fit.
    pub(crate) fn load(
        runtime: &Runtime,
        file: &Path,
        manifest: &Manifest,
        logit_classes: Option<usize>,
        threads: usize,
        device: Device,
    ) -> Result<Self, EngineError> {
        let (session, provider) = build(runtime, file, threads, device)?;
        let refuse = |problem: String| EngineError::Graph(format!("`{}`: {problem}", manifest.backbone.id));
        let reads = match manifest.backbone.modality {
            Modality::Text => token_inputs(session.inputs()),
            Modality::Image => dense_input(session.inputs(), manifest),
        }
        .map_err(refuse)?;
        let features = &manifest.output.features;
        let rank = output_rank(&session, &features.tensor, Some(features.dimension)).map_err(refuse)?;
        let features_per_token = match (rank, features.pooling) {
            (2, Pooling::None) => false,
            (3, pooling) if pooling != Pooling::None => true,
            (rank, pooling) => {
                return Err(refuse(format!(
                    "output.features.pooling is {pooling:?} but output `{}` has {rank} dimensions",
                    features.tensor
                )));
            }
        };
        let logits = match (&manifest.output.logits, logit_classes) {
            (Some(spec), Some(classes)) => {
                output_rank(&session, &spec.tensor, Some(classes)).map_err(refuse)?;
                Some((spec.tensor.clone(), classes))
            }
            _ => None,
        };
        Ok(Self {
            exclusive: (provider != Provider::Cpu).then(|| Mutex::new(())),
            features: features.tensor.clone(),
            session,
            provider,
            reads,
            features_per_token,
            logits,
        })
    }

    pub(crate) fn provider(&self) -> Provider {
        self.provider
    }

    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    pub(crate) fn features_name(&self) -> &str {
        &self.features
    }

    pub(crate) fn features_per_token(&self) -> bool {
        self.features_per_token
    }

    pub(crate) fn logits(&self) -> Option<(&str, usize)> {
        self.logits.as_ref().map(|(name, classes)| (name.as_str(), *classes))
    }

    /// Runs the graph; `read` sees the outputs where the runtime left them. With `give_back` the runtime frees what its
    /// arena keeps and this call does not need.
    ///
    /// # Errors
    /// ONNX Runtime's message, or what `read` says.
    pub(crate) fn run<T>(
        &self,
        inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)>,
        give_back: bool,
        read: impl FnOnce(&SessionOutputs<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let _exclusive = self
            .exclusive
            .as_ref()
            .map(|lock| lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        // SAFETY: the copy is never dropped, so nothing is freed twice, and it lives shorter than `self.session`, so
        // what it points to stays valid. `Session::run` changes none of the session's fields; it takes `&mut self`
        // only because some providers must not be entered twice at once. ONNX Runtime documents concurrent calls of
        // `InferenceSession::Run` as safe, and the CPU provider keeps no state between calls; every other provider
        // is serialised by `exclusive` above.
        let mut session = unsafe { ManuallyDrop::new(std::ptr::read(&raw const self.session)) };
        if !give_back {
            return read(&session.run(inputs).map_err(|error| error.to_string())?);
        }
        let mut options = RunOptions::new().map_err(|error| error.to_string())?;
        options.set("memory.enable_memory_arena_shrinkage", "cpu:0").map_err(|error| error.to_string())?;
        read(&session.run_with_options(inputs, &options).map_err(|error| error.to_string())?)
    }
}

// SAFETY: see `Graph::run`: the session is entered by several threads at once only on the CPU provider, which
// allows it; the other fields are plain data.
unsafe impl Sync for Graph {}

fn build(
    runtime: &Runtime,
    file: &Path,
    threads: usize,
    device: Device,
) -> Result<(Session, Provider), EngineError> {
    if let Device::Cuda { id, required } = device {
        match commit(runtime, file, threads, Some(id)) {
            Ok(session) => return Ok((session, Provider::Cuda)),
            Err(message) if required => return Err(EngineError::Cuda(last_clause(&message).to_owned())),
            Err(message) => {
                tracing::warn!(reason = last_clause(&message), "CUDA is not usable; running on the CPU")
            }
        }
    }
    commit(runtime, file, threads, None).map(|session| (session, Provider::Cpu)).map_err(EngineError::Graph)
}

fn commit(runtime: &Runtime, file: &Path, threads: usize, cuda: Option<i32>) -> Result<Session, String> {
    // The builder's errors carry the builder itself and cannot cross threads: strings from the start.
    let step = |built: BuilderResult| built.map_err(|error| error.to_string());
    let builder = Session::builder(runtime.environment()).map_err(|error| error.to_string())?;
    let builder = step(builder.with_optimization_level(GraphOptimizationLevel::All))?;
    let builder = step(builder.with_intra_threads(threads))?;
    let builder = step(builder.with_inter_threads(1))?;
    // Spinning is the runtime's default; it burns the quota that other lanes need.
    let mut builder = step(builder.with_intra_op_spinning(false))?;
    if let Some(id) = cuda {
        // Without `error_on_failure` the runtime falls back to the CPU and says nothing.
        let provider = ep::CUDA::default().with_device_id(id).build().error_on_failure();
        builder = step(builder.with_execution_providers([provider]))?;
    }
    builder.commit_from_file(file).map_err(|error| error.to_string())
}

/// The end of a loader's message is the part that names the missing library.
fn last_clause(message: &str) -> &str {
    message.rsplit("with error: ").next().unwrap_or(message).trim()
}

fn token_inputs(inputs: &[Outlet]) -> Result<Reads, String> {
    let (mut ids, mut mask, mut type_ids, mut positions) = (None, None, None, None);
    for input in inputs {
        let ValueType::Tensor { ty: TensorElementType::Int64, .. } = input.dtype() else {
            return Err(format!("input `{}` is not a tensor of int64", input.name()));
        };
        let place = match input.name() {
            "input_ids" => &mut ids,
            "attention_mask" => &mut mask,
            "token_type_ids" => &mut type_ids,
            "position_ids" => &mut positions,
            other => {
                return Err(format!(
                    "input `{other}` is unknown; a text graph takes input_ids, attention_mask, token_type_ids, position_ids"
                ));
            }
        };
        *place = Some(input.name().to_owned());
    }
    let ids = ids.ok_or("the graph has no input `input_ids`")?;
    Ok(Reads::Tokens { ids, mask, type_ids, positions })
}

fn dense_input(inputs: &[Outlet], manifest: &Manifest) -> Result<Reads, String> {
    use headstart_types::manifest::Layout;

    let [input] = inputs else {
        return Err(format!("an image graph takes one input, this one has {}", inputs.len()));
    };
    let ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } = input.dtype() else {
        return Err(format!("input `{}` is not a tensor of float32", input.name()));
    };
    let Some(image) = &manifest.image else { return Err("the manifest has no [image]".into()) };
    let side = image.size as usize;
    let item_shape = match image.layout {
        Layout::Nchw => vec![3, side, side],
        Layout::Nhwc => vec![side, side, 3],
    };
    let fits = shape.len() == 4
        && shape[0] == -1
        && shape.iter().skip(1).zip(&item_shape).all(|(&dim, &want)| dim == -1 || dim == want as i64);
    if !fits {
        return Err(format!(
            "input `{}` has shape {shape:?}; image.size and image.layout say [n, {item_shape:?}]",
            input.name()
        ));
    }
    Ok(Reads::Dense { name: input.name().to_owned(), item_shape })
}

fn output_rank(session: &Session, name: &str, last: Option<usize>) -> Result<usize, String> {
    let output = session.outputs().iter().find(|output| output.name() == name).ok_or_else(|| {
        let names: Vec<&str> = session.outputs().iter().map(Outlet::name).collect();
        format!("the graph has no output `{name}`; it has {}", names.join(", "))
    })?;
    let ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } = output.dtype() else {
        return Err(format!("output `{name}` is not a tensor of float32"));
    };
    match (shape.last(), last) {
        (Some(&dim), Some(expected)) if dim >= 0 && dim != expected as i64 => {
            Err(format!("output `{name}` ends in {dim} values where the manifest says {expected}"))
        }
        _ => Ok(shape.len()),
    }
}
