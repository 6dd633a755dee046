//! Encoded photos to vectors: decoded and resized by the library the server uses, one photo a call.

use anyhow::Context as _;
use headstart_media::{Limits, decode, preprocess};
use headstart_types::manifest::{ImageSpec, Layout};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;

use super::lanes::Embedder;
use super::session::{self, Readout};
use crate::backbone::Backbone;

/// The server's own defaults.
const LIMITS: Limits = Limits { max_pixels: 50_000_000, max_bytes: 64 << 20, max_seconds: 0 };

/// One session of an image backbone.
pub(crate) struct ImageEmbedder {
    session: Session,
    input: String,
    spec: ImageSpec,
    readout: Readout,
}

impl ImageEmbedder {
    /// # Errors
    /// When the graph cannot be loaded or the backbone reads no images.
    pub(crate) fn open(
        environment: &Environment,
        backbone: &Backbone,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let session = session::open(environment, &backbone.graph, threads)?;
        let input = session.inputs().first().context("the graph has no input")?.name().to_owned();
        let spec = backbone.image()?.clone();
        let readout = Readout::new(&backbone.manifest.output)?;
        Ok(Self { session, input, spec, readout })
    }
}

impl Embedder for ImageEmbedder {
    type Item = Vec<u8>;

    fn embed(&mut self, items: &[&Vec<u8>]) -> anyhow::Result<Vec<Vec<f32>>> {
        let mut pixels = Vec::new();
        for item in items {
            pixels.extend(preprocess(&decode(item, &LIMITS)?, &self.spec));
        }
        let side = self.spec.size as usize;
        let shape = match self.spec.layout {
            Layout::Nchw => [items.len(), 3, side, side],
            Layout::Nhwc => [items.len(), side, side, 3],
        };
        let tensor = TensorRef::from_array_view((shape, pixels.as_slice()))?;
        let outputs = self.session.run(vec![(self.input.as_str(), tensor)])?;
        self.readout.read(&outputs, &vec![1; items.len()])
    }
}
