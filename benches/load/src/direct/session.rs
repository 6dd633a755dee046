//! One session with the settings that serve best, and its features read back.

use std::path::Path;

use anyhow::Context as _;
use headstart_types::manifest::{OutputSpec, Pooling};
use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionOutputs};

/// Opens the graph with `threads` threads inside a call, all optimisations, and no spinning, as the server does.
///
/// # Errors
/// ONNX Runtime's message.
#[expect(clippy::result_large_err, reason = "the builder's own error type, turned into text here")]
pub(super) fn open(environment: &Environment, graph: &Path, threads: usize) -> anyhow::Result<Session> {
    // The builder's errors carry the builder itself and cannot cross threads.
    let text = |error: ort::Error<SessionBuilder>| anyhow::anyhow!("{error}");
    let mut builder = Session::builder(environment)
        .map_err(|error| anyhow::anyhow!("{error}"))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .and_then(|builder| builder.with_intra_threads(threads))
        .and_then(|builder| builder.with_inter_threads(1))
        .and_then(|builder| builder.with_intra_op_spinning(false))
        .map_err(text)?;
    builder
        .commit_from_file(graph)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("{} cannot be loaded", graph.display()))
}

/// How a call's features become one vector an item.
pub(super) struct Readout {
    tensor: String,
    pooling: Pooling,
    normalise: bool,
    dimension: usize,
}

impl Readout {
    /// # Errors
    /// For poolings that no bundled backbone has.
    pub(super) fn new(output: &OutputSpec) -> anyhow::Result<Self> {
        let features = output.features.as_ref().context("the backbone gives no features")?;
        match features.pooling {
            Pooling::Mean | Pooling::Cls | Pooling::None => {}
            Pooling::Max | Pooling::Last => anyhow::bail!("pooling {:?} is not measured", features.pooling),
        }
        Ok(Self {
            tensor: features.tensor.clone(),
            pooling: features.pooling,
            normalise: features.normalise,
            dimension: features.dimension,
        })
    }

    /// One vector an item; `lengths` are the items' real tokens.
    ///
    /// # Errors
    /// When the output is not what the manifest says.
    pub(super) fn read(
        &self,
        outputs: &SessionOutputs<'_>,
        lengths: &[usize],
    ) -> anyhow::Result<Vec<Vec<f32>>> {
        let data = self.values(outputs)?;
        let row = data.len() / lengths.len().max(1);
        anyhow::ensure!(row >= self.dimension, "output `{}` is too small", self.tensor);
        let items = data.chunks_exact(row).zip(lengths);
        Ok(items.map(|(item, &length)| self.vector(item, length)).collect())
    }

    /// One vector an item, pooled over its windows. `rows` are the vectors of all of them, one behind the other, `counts` how many
    /// windows each item has.
    ///
    /// # Errors
    /// When these do not fit together.
    pub(super) fn pool_windows(&self, rows: &[f32], counts: &[usize]) -> anyhow::Result<Vec<Vec<f32>>> {
        let windows: usize = counts.iter().sum();
        anyhow::ensure!(
            rows.len() == windows * self.dimension,
            "output `{}` is not of {windows} windows",
            self.tensor
        );
        let mut start = 0;
        let vectors = counts.iter().map(|count| {
            let item = &rows[start * self.dimension..];
            start += count;
            self.vector(item, *count)
        });
        Ok(vectors.collect())
    }

    /// The output that features are read from, as it is.
    ///
    /// # Errors
    /// When there is none, or it holds no numbers of 32 bits.
    pub(super) fn values<'a>(&self, outputs: &'a SessionOutputs<'_>) -> anyhow::Result<&'a [f32]> {
        let value = outputs
            .get(&self.tensor)
            .with_context(|| format!("the graph has no output `{}`", self.tensor))?;
        Ok(value.try_extract_tensor::<f32>().map_err(|error| anyhow::anyhow!("{error}"))?.1)
    }

    fn vector(&self, item: &[f32], length: usize) -> Vec<f32> {
        let mut vector = item[..self.dimension].to_vec();
        if self.pooling == Pooling::Mean {
            for token in item.chunks_exact(self.dimension).take(length).skip(1) {
                vector.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
            }
            let scale = 1.0 / length.max(1) as f32;
            vector.iter_mut().for_each(|value| *value *= scale);
        }
        if self.normalise {
            let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            vector.iter_mut().for_each(|value| *value /= norm);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_has_no_part_in_the_mean() {
        let readout = Readout { tensor: "t".into(), pooling: Pooling::Mean, normalise: true, dimension: 2 };
        assert_eq!(readout.vector(&[4.0, 0.0, 2.0, 8.0, 9.0, 9.0], 2), [0.6, 0.8]);
    }
}
