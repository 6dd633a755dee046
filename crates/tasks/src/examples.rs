//! Examples as inputs of a backbone's graph, for a training: what a request's items become on their way to the engine.

use std::sync::Arc;

use headstart_engine::{GraphInputs, Input};
use headstart_media::{Limits, MediaError};
use headstart_types::Manifest;
use headstart_types::payload::Truncate;
use headstart_types::tensor::Tensor;

use crate::catalog::{Encoder, Served};
use crate::context::TaskContext;
use crate::error::TaskError;
use crate::reader::Reader;

impl TaskContext {
    /// What is trained where a backbone is to be: itself, or what it was made from at higher precision. Told by the manifest,
    /// since both need not fit into memory: who asks holds neither.
    ///
    /// # Errors
    /// [`TaskError::NoRoom`] and [`TaskError::Unloaded`], which go by; within, why it cannot be trained.
    pub async fn trained(&self, asked: &Manifest) -> Result<Result<Arc<Served>, String>, TaskError> {
        let id = asked.backbone.original.as_deref().unwrap_or(&asked.backbone.id);
        match self.catalog.get(id).await {
            Ok(trained) => Ok(trainable(&trained).map(|()| trained)),
            Err(error @ (TaskError::NoRoom { .. } | TaskError::Unloaded(_))) => Err(error),
            Err(error) => Ok(Err(error.to_string())),
        }
    }
}

/// Whether a backbone is a graph whose weights can be trained; why not, in words.
fn trainable(served: &Served) -> Result<(), String> {
    let manifest = served.manifest();
    if manifest.words.is_some() {
        return Err("a table of word vectors is no graph".into());
    }
    if manifest.audio.is_some() {
        return Err("backbones of sounds cannot be trained yet".into());
    }
    if !manifest.backbone.external.is_empty() {
        return Err("its graph has weights in other files".into());
    }
    Ok(())
}

/// What makes examples of a backbone into inputs of its graph. It holds no session, so that its backbone can make room while a
/// training goes on.
pub struct ExampleEncoder {
    id: String,
    encoder: Encoder,
    inputs: GraphInputs,
}

impl Served {
    /// What makes its examples into inputs of its graph.
    ///
    /// # Errors
    /// [`TaskError::NoGraph`] for a table of word vectors; [`TaskError::Engine`] for a graph of sounds or of raw tensors.
    pub fn examples(&self) -> Result<ExampleEncoder, TaskError> {
        let (id, encoder) = (self.id().to_owned(), self.encoder.clone());
        Ok(ExampleEncoder { id, encoder, inputs: self.graph()?.graph_inputs()? })
    }
}

impl ExampleEncoder {
    /// A text as its graph reads it, cut as requests' texts are where nothing else is asked.
    ///
    /// # Errors
    /// [`TaskError::Bug`] for a backbone of something else; [`TaskError::Media`] for a text that cannot be read.
    pub fn text_input(&self, text: &str) -> Result<Input, TaskError> {
        let Encoder::Text(reader) = &self.encoder else {
            return Err(TaskError::Bug("a text for a backbone that reads none"));
        };
        let Reader::Tokens(encoder) = &**reader else {
            return Err(TaskError::NoGraph(self.id.clone()));
        };
        let read = encoder.encode(text, None, Truncate::End).map_err(example)?;
        Ok(Input::Tokens { ids: read.ids, type_ids: read.type_ids })
    }

    /// A picture as its graph reads it; varied at random where `chance`, which gives numbers from 0 to below 1, is there.
    ///
    /// # Errors
    /// [`TaskError::Bug`] for a backbone of something else; [`TaskError::Media`] for bytes that are no picture.
    pub fn image_input(
        &self,
        bytes: &[u8],
        limits: &Limits,
        chance: Option<&mut dyn FnMut() -> f64>,
    ) -> Result<Input, TaskError> {
        let Encoder::Image(spec) = &self.encoder else {
            return Err(TaskError::Bug("a picture for a backbone that reads none"));
        };
        let mut picture = headstart_media::decode(bytes, limits).map_err(example)?;
        if let Some(chance) = chance {
            picture = headstart_media::vary(&picture, chance);
        }
        Ok(Input::Dense(headstart_media::preprocess(&picture, spec)))
    }

    /// Inputs as one batch of its graph, by the names of the graph's inputs.
    ///
    /// # Errors
    /// [`TaskError::Engine`] for inputs that are not the graph's.
    pub fn batch(&self, inputs: &[&Input]) -> Result<Vec<(String, Tensor)>, TaskError> {
        Ok(self.inputs.batch(inputs)?)
    }
}

fn example(source: MediaError) -> TaskError {
    TaskError::Media { param: "training_file".to_owned(), source }
}
