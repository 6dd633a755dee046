//! ONNX Runtime as this crate asks for it: a [`Probe`] that runs a graph once to learn its shapes.

use headstart_onnx::proto::{Model, element};
use headstart_onnx_grad::{INTEGERS_MOST, Observed, Probe, ProbeError, Sample};
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorElementType};
use prost::Message as _;

/// ONNX Runtime, asked for shapes.
pub(crate) struct Runtime<'a>(pub(crate) &'a Environment);

impl Probe for Runtime<'_> {
    fn run(
        &self,
        model: &Model,
        runs: &[Vec<Sample>],
        values: &[String],
    ) -> Result<Vec<Vec<Option<Observed>>>, ProbeError> {
        let load = || -> ort::Result<Session> {
            let builder = Session::builder(self.0)?;
            let mut builder = builder.with_optimization_level(GraphOptimizationLevel::Disable)?;
            builder.commit_from_memory(&model.encode_to_vec())
        };
        let mut session = load()?;
        runs.iter().map(|run| observe(&mut session, run, values)).collect()
    }
}

fn observe(
    session: &mut Session,
    inputs: &[Sample],
    values: &[String],
) -> Result<Vec<Option<Observed>>, ProbeError> {
    let given: Vec<(String, SessionInputValue<'_>)> = inputs
        .iter()
        .map(|sample| Ok((sample.name.clone(), filled(sample)?)))
        .collect::<Result<_, ProbeError>>()?;
    let outputs = session.run(given)?;
    values.iter().map(|name| outputs.get(name).map(|value| observed(value)).transpose()).collect()
}

/// A tensor of one value everywhere.
fn filled(sample: &Sample) -> Result<SessionInputValue<'static>, ProbeError> {
    let (shape, count) = (sample.shape.clone(), sample.shape.iter().product());
    Ok(match sample.elements {
        element::FLOAT => Tensor::from_array((shape, vec![sample.value as f32; count]))?.into(),
        element::INT64 => Tensor::from_array((shape, vec![sample.value as i64; count]))?.into(),
        element::INT32 => Tensor::from_array((shape, vec![sample.value as i32; count]))?.into(),
        other => {
            return Err(
                format!("`{}` is of type {other}, which this example does not give", sample.name).into()
            );
        }
    })
}

fn observed(value: &DynValue) -> Result<Observed, ProbeError> {
    let shape = value.shape().iter().map(|&size| size as usize).collect();
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the runtime's list grows; of others the shape is enough"
    )]
    let (elements, integers) = match value.data_type() {
        TensorElementType::Float32 => (element::FLOAT, None),
        TensorElementType::Float64 => (element::DOUBLE, None),
        TensorElementType::Int64 => (element::INT64, Some(value.try_extract_tensor::<i64>()?.1.to_vec())),
        TensorElementType::Int32 => {
            let values = value.try_extract_tensor::<i32>()?.1.iter();
            (element::INT32, Some(values.map(|&value| i64::from(value)).collect()))
        }
        TensorElementType::Bool => {
            let values = value.try_extract_tensor::<bool>()?.1.iter();
            (element::BOOL, Some(values.map(|&value| i64::from(value)).collect()))
        }
        _ => (0, None),
    };
    let integers = integers.filter(|values: &Vec<i64>| values.len() <= INTEGERS_MOST);
    Ok(Observed { elements, shape, integers })
}
