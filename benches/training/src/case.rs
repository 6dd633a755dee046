//! What is trained: a graph, which of its weights, and batches.

use std::path::{Path, PathBuf};

use headstart_types::tensor::{DataType, Tensor, Values};
use serde::Deserialize;

/// What is trained.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    /// The graph's file, beside this one.
    pub(crate) graph: PathBuf,
    /// The value that the loss reads, `[rows, classes]`.
    pub(crate) logits: String,
    /// The weights that are trained.
    pub(crate) trained: Vec<String>,
    /// Taken in turns, again from the first after the last.
    pub(crate) batches: Vec<Vec<Given>>,
    /// Size of a step.
    pub(crate) learning_rate: f32,
    /// Threads of the graph and of the optimiser.
    pub(crate) threads: usize,
}

/// One input of a batch.
#[derive(Debug, Deserialize)]
pub(crate) struct Given {
    /// The graph's input, or the loss's.
    pub(crate) name: String,
    /// Its dimensions.
    pub(crate) shape: Vec<usize>,
    /// `FP32` or `INT64`.
    pub(crate) datatype: String,
    /// Its elements, little-endian, beside the case.
    pub(crate) file: PathBuf,
}

impl Case {
    /// Reads a case; files in it are found beside it.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut case: Self = serde_json::from_slice(&std::fs::read(path)?)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        case.graph = folder.join(&case.graph);
        for given in case.batches.iter_mut().flatten() {
            given.file = folder.join(&given.file);
        }
        Ok(case)
    }
}

impl Given {
    /// The tensor.
    pub(crate) fn tensor(&self) -> anyhow::Result<Tensor> {
        let datatype = DataType::parse(&self.datatype)
            .ok_or_else(|| anyhow::anyhow!("{} is no type of elements", self.datatype))?;
        let bytes = std::fs::read(&self.file)?.into();
        Ok(Tensor { shape: self.shape.clone(), values: Values::Fixed { datatype, bytes } })
    }
}
