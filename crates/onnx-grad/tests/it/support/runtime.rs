//! ONNX Runtime from `vendor/`, as a probe and as what runs training graphs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use headstart_onnx::proto::{Model, element};
use headstart_onnx_grad::lower::{Kernels, Lowering, Portable};
use headstart_onnx_grad::{Observed, Probe, ProbeError, Sample};
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorElementType};
use prost::Message as _;

use super::data::{Data, Values};

/// In which nodes gradients can be written here, and how far the runtime may rewrite them: the kernels of the service where the
/// machine has them.
pub(crate) fn lowerings() -> Vec<(&'static dyn Lowering, GraphOptimizationLevel)> {
    let mut all: Vec<(&'static dyn Lowering, GraphOptimizationLevel)> =
        vec![(&Portable, GraphOptimizationLevel::All), (&Portable, GraphOptimizationLevel::Disable)];
    if headstart_engine::kernels::available() {
        all.push((&Kernels, GraphOptimizationLevel::All));
    }
    all
}

/// The library is loaded once a process.
pub(crate) fn environment() -> &'static Environment {
    static LOADED: OnceLock<Environment> = OnceLock::new();
    LOADED.get_or_init(|| {
        let environment = ort::init_from(library()).unwrap().with_telemetry(false).build().unwrap();
        environment.set_log_level(ort::logging::LogLevel::Fatal);
        headstart_engine::kernels::register(&environment).unwrap();
        environment
    })
}

/// `vendor/onnxruntime/<version>/<target>/`, newest version first.
fn library() -> PathBuf {
    let name = if cfg!(target_os = "macos") { "libonnxruntime.1.dylib" } else { "libonnxruntime.so.1" };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vendor/onnxruntime");
    let target = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let mut versions: Vec<PathBuf> = std::fs::read_dir(root)
        .expect("`make setup` fetches ONNX Runtime")
        .map(|entry| entry.unwrap().path().join(&target).join(name))
        .filter(|path| path.is_file())
        .collect();
    versions.sort();
    versions.pop().expect("ONNX Runtime for this machine under vendor/")
}

/// A graph loaded.
pub(crate) struct Loaded(Session);

impl Loaded {
    /// Loads a graph as it is trained: optimised as far as the runtime can.
    pub(crate) fn new(model: &Model) -> Result<Self, String> {
        Self::at(model, GraphOptimizationLevel::All)
    }

    pub(crate) fn at(model: &Model, level: GraphOptimizationLevel) -> Result<Self, String> {
        let make = || -> ort::Result<Session> {
            let mut builder =
                Session::builder(environment())?.with_optimization_level(level)?.with_intra_threads(2)?;
            if let Some(operators) = headstart_engine::kernels::operators(2)? {
                builder = builder.with_operators(operators)?;
            }
            builder.commit_from_memory(&model.encode_to_vec())
        };
        make().map(Self).map_err(|error| error.to_string())
    }

    /// Runs it; its outputs by their names, in their order.
    pub(crate) fn run(&mut self, inputs: &[(String, Data)]) -> Result<Vec<(String, Data)>, String> {
        let known: Vec<String> = self.0.inputs().iter().map(|input| input.name().to_owned()).collect();
        let given = inputs.iter().filter(|(name, _)| known.contains(name));
        let given: Vec<(String, SessionInputValue<'_>)> =
            given.map(|(name, data)| (name.clone(), value(data).into())).collect();
        let outputs = self.0.run(given).map_err(|error| error.to_string())?;
        Ok(outputs.iter().map(|(name, value)| (name.to_owned(), data(&value))).collect())
    }
}

fn value(data: &Data) -> DynValue {
    let shape = data.shape.as_slice();
    macro_rules! filled {
        ($kind:ty, $values:expr) => {{
            let allocator = ort::memory::Allocator::default();
            let mut tensor = Tensor::<$kind>::new(&allocator, shape).unwrap();
            tensor.extract_tensor_mut().1.copy_from_slice($values);
            tensor.into_dyn()
        }};
    }
    match &data.values {
        Values::Float(values) => filled!(f32, values),
        Values::Double(values) => filled!(f64, values),
        Values::Integer(values) => filled!(i64, values),
        Values::Int32(values) => filled!(i32, values),
        Values::Bool(values) => filled!(bool, values),
        Values::Other(elements) => panic!("no test gives elements of type {elements}"),
    }
}

fn data(value: &ort::value::ValueRef<'_>) -> Data {
    let shape = value.shape().iter().map(|&size| size as usize).collect();
    macro_rules! read {
        ($kind:ty) => {
            value.try_extract_tensor::<$kind>().unwrap().1.to_vec()
        };
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the runtime's list grows; no test gives others")]
    let values = match value.data_type() {
        TensorElementType::Float32 => Values::Float(read!(f32)),
        TensorElementType::Float64 => Values::Double(read!(f64)),
        TensorElementType::Int64 => Values::Integer(read!(i64)),
        TensorElementType::Int32 => Values::Int32(read!(i32)),
        TensorElementType::Bool => Values::Bool(read!(bool)),
        TensorElementType::Float16 => Values::Other(element::HALF),
        _ => Values::Other(0),
    };
    Data { shape, values }
}

/// ONNX Runtime as a probe.
pub(crate) struct Runtime;

impl Probe for Runtime {
    fn run(
        &self,
        model: &Model,
        runs: &[Vec<Sample>],
        values: &[String],
    ) -> Result<Vec<Vec<Option<Observed>>>, ProbeError> {
        let mut loaded = Loaded::at(model, GraphOptimizationLevel::Disable)?;
        let run = |inputs: &Vec<Sample>| -> Result<Vec<Option<Observed>>, ProbeError> {
            let inputs: Vec<(String, Data)> =
                inputs.iter().map(|sample| (sample.name.clone(), fill(sample))).collect();
            let outputs: BTreeMap<String, Data> = loaded.run(&inputs)?.into_iter().collect();
            Ok(values.iter().map(|name| outputs.get(name).map(observed)).collect())
        };
        runs.iter().map(run).collect()
    }
}

fn fill(sample: &Sample) -> Data {
    let count = sample.shape.iter().product();
    let values = match sample.elements {
        element::FLOAT => Values::Float(vec![sample.value as f32; count]),
        element::DOUBLE => Values::Double(vec![sample.value; count]),
        element::INT32 => Values::Int32(vec![sample.value as i32; count]),
        element::BOOL => Values::Bool(vec![sample.value != 0.0; count]),
        _ => Values::Integer(vec![sample.value as i64; count]),
    };
    Data { shape: sample.shape.clone(), values }
}

fn observed(data: &Data) -> Observed {
    let (elements, integers) = match &data.values {
        Values::Float(_) => (element::FLOAT, None),
        Values::Double(_) => (element::DOUBLE, None),
        Values::Integer(values) => (element::INT64, Some(values.clone())),
        Values::Int32(values) => (element::INT32, Some(values.iter().map(|&v| i64::from(v)).collect())),
        Values::Bool(values) => (element::BOOL, Some(values.iter().map(|&v| i64::from(v)).collect())),
        Values::Other(elements) => (*elements, None),
    };
    let integers: Option<Vec<i64>> = integers.filter(|values: &Vec<i64>| values.len() <= 64);
    Observed { elements, shape: data.shape.clone(), integers }
}
