//! Token ids to vectors.

use anyhow::Context as _;
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;
use std::borrow::Cow;

use super::lanes::Embedder;
use super::session::{self, Readout};
use crate::backbone::Backbone;

/// Inputs a transformer's exporter may give a graph, in the order of [`TextEmbedder::buffers`].
const INPUTS: [&str; 4] = ["input_ids", "attention_mask", "token_type_ids", "position_ids"];

/// One session of a text backbone.
pub(crate) struct TextEmbedder {
    session: Session,
    /// Indices into [`INPUTS`] that the graph has.
    inputs: Vec<usize>,
    readout: Readout,
    buffers: [Vec<i64>; 4],
}

impl TextEmbedder {
    /// # Errors
    /// When the graph cannot be loaded or has an input of unknown meaning.
    pub(crate) fn open(
        environment: &Environment,
        backbone: &Backbone,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let session = session::open(environment, &backbone.graph, threads)?;
        let known = |name: &str| INPUTS.iter().position(|input| *input == name);
        let inputs: anyhow::Result<Vec<usize>> = session
            .inputs()
            .iter()
            .map(|input| known(input.name()).with_context(|| format!("input `{}` is unknown", input.name())))
            .collect();
        let readout = Readout::new(&backbone.manifest.output)?;
        Ok(Self { inputs: inputs?, session, readout, buffers: Default::default() })
    }

    fn fill(&mut self, items: &[&Vec<u32>], padded: usize) {
        let [ids, mask, types, positions] = &mut self.buffers;
        for buffer in [&mut *ids, &mut *mask, &mut *types, &mut *positions] {
            buffer.clear();
        }
        for (row, item) in items.iter().enumerate() {
            let end = (row + 1) * padded;
            ids.extend(item.iter().map(|id| i64::from(*id)));
            ids.resize(end, 0);
            mask.resize(row * padded + item.len(), 1);
            mask.resize(end, 0);
            types.resize(end, 0);
            positions.extend(0..padded as i64);
        }
    }
}

impl Embedder for TextEmbedder {
    type Item = Vec<u32>;

    fn embed(&mut self, items: &[&Vec<u32>]) -> anyhow::Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = items.iter().map(|item| item.len()).collect();
        let padded = lengths.iter().copied().max().unwrap_or(0);
        self.fill(items, padded);
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(self.inputs.len());
        for &input in &self.inputs {
            let tensor = TensorRef::from_array_view(([items.len(), padded], self.buffers[input].as_slice()))?;
            inputs.push((INPUTS[input].into(), tensor.into()));
        }
        let outputs = self.session.run(inputs)?;
        self.readout.read(&outputs, &lengths)
    }
}
