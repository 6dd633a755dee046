//! Tensors to a tensor, as they come: what a program does that has preprocessed already.

use std::borrow::Cow;

use anyhow::Context as _;
use ort::environment::Environment;
use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::TensorRef;

use super::lanes::Embedder;
use super::session;
use crate::backbone::Backbone;
use crate::tensor::{Row, Values, served};

/// One session of any backbone, asked for one of its outputs.
pub(crate) struct TensorEmbedder {
    session: Session,
    output: String,
}

impl TensorEmbedder {
    /// # Errors
    /// When the graph cannot be loaded or the backbone gives no features.
    pub(crate) fn open(
        environment: &Environment,
        backbone: &Backbone,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let session = session::open(environment, &backbone.graph, threads)?;
        Ok(Self { session, output: backbone.feature_tensor()?.to_owned() })
    }

    /// Names of the graph's inputs, in its order.
    pub(crate) fn inputs(&self) -> Vec<String> {
        self.session.inputs().iter().map(|input| input.name().to_owned()).collect()
    }
}

impl Embedder for TensorEmbedder {
    type Item = Row;

    /// Rows of one shape as one call.
    fn embed(&mut self, items: &[&Row]) -> anyhow::Result<Vec<Vec<f32>>> {
        let first = items.first().context("a call without items")?;
        let mut stacked = Vec::with_capacity(first.inputs.len());
        for (place, input) in first.inputs.iter().enumerate() {
            let parts = items.iter().filter_map(|item| item.inputs.get(place)).map(|input| &input.values);
            let shape: Vec<usize> = [&[items.len()], input.shape.as_slice()].concat();
            stacked.push((input.name.as_str(), shape, Values::stack(parts)));
        }
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(stacked.len());
        for (name, shape, values) in &stacked {
            let value = match values {
                Values::Int64(values) => {
                    TensorRef::from_array_view((shape.clone(), values.as_slice()))?.into()
                }
                Values::Fp32(values) => {
                    TensorRef::from_array_view((shape.clone(), values.as_slice()))?.into()
                }
            };
            inputs.push(((*name).into(), value));
        }
        let options = RunOptions::new()?.with_outputs(OutputSelector::no_default().with(&self.output));
        let outputs = self.session.run_with_options(inputs, &options)?;
        let value = outputs.get(&self.output).with_context(|| format!("no output `{}`", self.output))?;
        let (_, values) = value.try_extract_tensor::<f32>()?;
        let each = values.len() / items.len();
        Ok(values.chunks_exact(each.max(1)).map(<[f32]>::to_vec).collect())
    }

    fn answered(body: &[u8]) -> anyhow::Result<Vec<Vec<f32>>> {
        served(body)
    }
}
