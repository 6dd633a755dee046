//! Encoded sounds to vectors: decoded, resampled and cut as the server does, by the same library; the graph before the
//! backbone's takes one sound a call.

use anyhow::Context as _;
use headstart_media::{Limits, SoundEncoder, decode_sound};
use headstart_types::manifest::{AudioSpec, StageSpec, WindowSpec};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;

use super::lanes::Embedder;
use super::plan::{Plan, SERVED_WINDOWS};
use super::session::{self, Readout};
use crate::backbone::Backbone;

/// The server's own defaults.
const LIMITS: Limits = Limits { max_pixels: 0, max_bytes: 64 << 20, max_seconds: 60 };

/// The two sessions of a backbone of sounds.
pub(crate) struct SoundEmbedder {
    session: Session,
    stage: Session,
    stage_spec: StageSpec,
    encoder: SoundEncoder,
    rate: u32,
    windows: WindowSpec,
    readout: Readout,
    frames: Vec<f32>,
    /// Windows of one run at most.
    windows_at_once: usize,
}

impl SoundEmbedder {
    /// # Errors
    /// When a graph cannot be loaded or the backbone is not one of frames made by a graph and cut in windows.
    pub(crate) fn open(
        environment: &Environment,
        backbone: &Backbone,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let lacks = |what| format!("`{}` {what}", backbone.id());
        let audio: &AudioSpec = backbone.manifest.audio.as_ref().with_context(|| lacks("reads no sounds"))?;
        let stage_spec = audio.stage.clone().with_context(|| lacks("has no graph before its own"))?;
        Ok(Self {
            session: session::open(environment, &backbone.graph, threads)?,
            stage: session::open(environment, &backbone.graph.with_file_name(&stage_spec.file), threads)?,
            stage_spec,
            encoder: SoundEncoder::new(audio),
            rate: audio.rate,
            windows: audio.row_windows().with_context(|| lacks("cuts no windows"))?,
            readout: Readout::new(&backbone.manifest.output)?,
            frames: Vec::new(),
            windows_at_once: SERVED_WINDOWS,
        })
    }

    /// Appends a sound's windows to those of the call; gives their number.
    fn cut(&mut self, file: &[u8]) -> anyhow::Result<usize> {
        let samples = self.encoder.encode(decode_sound(file, self.rate, &LIMITS)?).values;
        let input = self.stage.inputs().first().context("the graph has no input")?.name().to_owned();
        let tensor = TensorRef::from_array_view(([1, samples.len()], samples.as_slice()))?;
        let outputs = self.stage.run(vec![(input.as_str(), tensor)])?;
        let spec = &self.stage_spec;
        let value = outputs.get(&spec.tensor).with_context(|| format!("no output `{}`", spec.tensor))?;
        let (_, values) = value.try_extract_tensor::<f32>()?;
        let frames: Vec<f32> = values.iter().map(|value| value * spec.scale + spec.offset).collect();
        let count = self.windows.count(frames.len() / spec.bands);
        for index in 0..count {
            let start = index * self.windows.hop * spec.bands;
            let window = &frames[start..frames.len().min(start + self.windows.length * spec.bands)];
            self.frames.extend_from_slice(window);
            self.frames.resize(self.frames.len() + self.windows.length * spec.bands - window.len(), 0.0);
        }
        Ok(count)
    }
}

impl Embedder for SoundEmbedder {
    type Item = Vec<u8>;

    fn follow(&mut self, plan: &Plan) {
        self.windows_at_once = plan.windows.unwrap_or(self.windows_at_once);
    }

    fn embed(&mut self, items: &[&Vec<u8>]) -> anyhow::Result<Vec<Vec<f32>>> {
        self.frames.clear();
        let counts: anyhow::Result<Vec<usize>> = items.iter().map(|item| self.cut(item)).collect();
        let counts = counts?;
        let input = self.session.inputs().first().context("the graph has no input")?.name().to_owned();
        let (length, bands) = (self.windows.length, self.stage_spec.bands);
        let mut rows = Vec::new();
        for windows in self.frames.chunks(self.windows_at_once * length * bands) {
            let shape = [windows.len() / (length * bands), length, bands, 1];
            let tensor = TensorRef::from_array_view((shape, windows))?;
            let outputs = self.session.run(vec![(input.as_str(), tensor)])?;
            rows.extend_from_slice(self.readout.values(&outputs)?);
        }
        self.readout.pool_windows(&rows, &counts)
    }
}
