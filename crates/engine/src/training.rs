//! Graphs run for methods: as they are, or forward and backward with weights that stay in place.

use headstart_types::runner::{Form, Graphs, Runner, RunnerError, Runners, Trained, Trainer, Weight};
use headstart_types::tensor::Tensor;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{BuilderResult, GraphOptimizationLevel};
use ort::session::{IoBinding, Session};

use crate::engine::Device;
use crate::error::EngineError;
use crate::kernels;
use crate::runtime::Runtime;
use crate::session::{last_clause, on_cuda};
use crate::signature::Signature;
use crate::tensors;

/// Opens graphs apart from the lanes that serve.
pub struct Workbench {
    runtime: Runtime,
    threads: usize,
    /// The GPU that graphs run on, where they do.
    cuda: Option<i32>,
}

impl Workbench {
    /// Graphs will run on the CPU, on so many threads each.
    #[must_use]
    pub fn new(runtime: Runtime, threads: usize) -> Self {
        Self { runtime, threads, cuda: None }
    }

    /// The same on a device: where a GPU is not usable and not required, still on the CPU.
    ///
    /// # Errors
    /// [`EngineError::Cuda`] when CUDA is required and not usable.
    pub fn on(self, device: Device) -> Result<Self, EngineError> {
        let Device::Cuda { id, required } = device else { return Ok(self) };
        let builder = Session::builder(self.runtime.environment()).map_err(|error| error.to_string());
        match builder.and_then(|builder| on_cuda(builder, id)) {
            Ok(_) => Ok(Self { cuda: Some(id), ..self }),
            Err(message) if required => Err(EngineError::Cuda(last_clause(&message).to_owned())),
            Err(message) => {
                tracing::warn!(reason = last_clause(&message), "CUDA is not usable; training on the CPU");
                Ok(self)
            }
        }
    }

    fn open(&self, model: &[u8], form: Form) -> Result<Bound, RunnerError> {
        let session = self.session(model, form).map_err(RunnerError::Refused)?;
        let signature = Signature::of(session.inputs(), session.outputs()).map_err(RunnerError::Refused)?;
        Bound::new(session, signature)
    }

    fn session(&self, model: &[u8], form: Form) -> Result<Session, String> {
        // The builder's errors carry the builder itself and cannot cross threads: strings from the start.
        let step = |built: BuilderResult| built.map_err(|error| error.to_string());
        let builder = Session::builder(self.runtime.environment()).map_err(|error| error.to_string())?;
        let level = match form {
            Form::Optimised => GraphOptimizationLevel::All,
            Form::AsWritten => GraphOptimizationLevel::Disable,
        };
        let builder = step(builder.with_optimization_level(level))?;
        let builder = step(builder.with_intra_threads(self.threads))?;
        let mut builder = step(builder.with_inter_threads(1))?;
        if let Some(id) = self.cuda {
            builder = on_cuda(builder, id)?;
        } else if let Some(operators) = kernels::operators(self.threads).map_err(|error| error.to_string())? {
            builder = step(builder.with_operators(operators))?;
        }
        // Serving shares these cores; a thread that spins takes them from it.
        let mut builder = step(builder.with_intra_op_spinning(false))?;
        builder.commit_from_memory(model).map_err(|error| error.to_string())
    }
}

impl Runners for Workbench {
    fn runner(&self, model: &[u8], form: Form) -> Result<Box<dyn Runner>, RunnerError> {
        Ok(Box::new(self.open(model, form)?))
    }

    fn trainer(&self, graphs: &Graphs, weights: Vec<Trained>) -> Result<Box<dyn Trainer>, RunnerError> {
        let training = self.open(&graphs.training, Form::Optimised)?;
        let forward = self.open(&graphs.forward, Form::Optimised)?;
        Ok(Box::new(Training::new(training, forward, weights, self.cuda.is_some())?))
    }

    fn has_kernels(&self) -> bool {
        self.cuda.is_none() && kernels::available()
    }
}

/// A session with the values that its next call reads and writes.
struct Bound {
    session: Session,
    signature: Signature,
    binding: IoBinding,
    memory: MemoryInfo<'static>,
}

impl Bound {
    fn new(session: Session, signature: Signature) -> Result<Self, RunnerError> {
        let binding = session.create_binding().map_err(refused)?;
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)
            .map_err(refused)?;
        Ok(Self { session, signature, binding, memory })
    }

    /// Binds what changes from call to call, and runs; outputs of other names stay bound as they are.
    fn call(&mut self, inputs: &[(&str, &Tensor)], outputs: &[&str]) -> Result<Vec<Tensor>, RunnerError> {
        for (name, tensor) in inputs {
            let spec = self.signature.inputs.iter().find(|spec| spec.name == *name);
            let spec = spec.ok_or_else(|| wrong(name, "is no input of the graph"))?;
            if !spec.takes(&tensor.shape) || spec.datatype != tensor.values.datatype() {
                return Err(wrong(
                    name,
                    format!(
                        "is {} {:?}, and the graph takes {} {:?}",
                        tensor.values.datatype().as_str(),
                        tensor.shape,
                        spec.datatype.as_str(),
                        spec.dimensions()
                    ),
                ));
            }
            let value = tensors::value(spec.datatype, &[tensor]).map_err(|problem| wrong(name, problem))?;
            self.binding.bind_input(*name, &value).map_err(refused)?;
        }
        for name in outputs {
            self.binding.bind_output_to_device(*name, &self.memory).map_err(refused)?;
        }
        let given = self.session.run_binding(&self.binding).map_err(refused)?;
        let read = |name: &&str| {
            let spec = self.signature.outputs.iter().find(|spec| spec.name == *name);
            let spec = spec.ok_or_else(|| wrong(name, "is no output of the graph"))?;
            let value = given.get(*name).ok_or_else(|| wrong(name, "was not given by the graph"))?;
            tensors::read(value, spec.datatype).map_err(|problem| wrong(name, problem))
        };
        outputs.iter().map(read).collect()
    }
}

impl Runner for Bound {
    fn run(&mut self, inputs: &[(&str, &Tensor)], outputs: &[&str]) -> Result<Vec<Tensor>, RunnerError> {
        self.binding.clear();
        self.call(inputs, outputs)
    }
}

/// A graph with its weights and gradients bound once.
struct Training {
    bound: Bound,
    forward: Bound,
    weights: Vec<Pair>,
    /// Whether a graph reads copies of its weights, which are taken when these are bound: then they are bound anew once
    /// they have changed.
    copies: bool,
    changed: bool,
}

/// A weight and its gradient, where the graph reads the one and writes the other.
struct Pair {
    name: String,
    values: ort::value::Tensor<f32>,
    gradient: ort::value::Tensor<f32>,
}

impl Pair {
    fn bind(&self, graph: &mut Bound) -> Result<(), RunnerError> {
        let bind = graph.binding.bind_input(&self.name, &self.values);
        bind.map_err(|error| wrong(&self.name, error.to_string()))
    }

    fn weight(&mut self) -> Weight<'_> {
        let (_, values) = self.values.extract_tensor_mut();
        let (_, gradient) = self.gradient.extract_tensor_mut();
        Weight { values, gradient }
    }
}

impl Training {
    fn new(
        mut bound: Bound,
        mut forward: Bound,
        weights: Vec<Trained>,
        copies: bool,
    ) -> Result<Self, RunnerError> {
        let mut pairs = Vec::with_capacity(weights.len());
        for weight in weights {
            if weight.shape.iter().product::<usize>() != weight.values.len() {
                return Err(wrong(
                    &weight.name,
                    format!("has {} values, not {:?}", weight.values.len(), weight.shape),
                ));
            }
            let made = || ort::value::Tensor::<f32>::new(&Allocator::default(), weight.shape.as_slice());
            let (values, gradient) = (made().map_err(refused)?, made().map_err(refused)?);
            let mut pair = Pair { name: weight.name, values, gradient };
            pair.values.extract_tensor_mut().1.copy_from_slice(&weight.values);
            pair.gradient.extract_tensor_mut().1.fill(0.0);
            pair.bind(&mut bound)?;
            pair.bind(&mut forward)?;
            let bind = bound.binding.bind_output(&weight.gradient, &mut pair.gradient);
            bind.map_err(|error| wrong(&weight.gradient, error.to_string()))?;
            pairs.push(pair);
        }
        Ok(Self { bound, forward, weights: pairs, copies, changed: false })
    }

    /// Sees to it that both graphs read the weights as they are.
    fn refresh(&mut self) -> Result<(), RunnerError> {
        if std::mem::take(&mut self.changed) && self.copies {
            for pair in &self.weights {
                pair.bind(&mut self.bound)?;
                pair.bind(&mut self.forward)?;
            }
        }
        Ok(())
    }
}

impl Trainer for Training {
    fn step(&mut self, batch: &[(&str, &Tensor)], outputs: &[&str]) -> Result<Vec<Tensor>, RunnerError> {
        self.refresh()?;
        self.bound.call(batch, outputs)
    }

    fn look(&mut self, batch: &[(&str, &Tensor)], outputs: &[&str]) -> Result<Vec<Tensor>, RunnerError> {
        self.refresh()?;
        self.forward.call(batch, outputs)
    }

    fn weights(&mut self) -> Vec<Weight<'_>> {
        self.changed = true;
        self.weights.iter_mut().map(Pair::weight).collect()
    }
}

fn refused(error: ort::Error) -> RunnerError {
    RunnerError::Refused(error.to_string())
}

fn wrong(name: &str, problem: impl Into<String>) -> RunnerError {
    RunnerError::Tensor { name: name.to_owned(), problem: problem.into() }
}
