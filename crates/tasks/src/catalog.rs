//! The backbones that can be asked: loaded ones with their encoders, broken ones with the reason.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use headstart_engine::{Backbone, Engine, EngineError, Folder};
use headstart_media::{MediaError, SoundEncoder, TextEncoder};
use headstart_types::manifest::ImageSpec;
use headstart_types::payload::{Datum, Modality};
use headstart_types::{InputError, Payload};

use crate::cache::Key;
use crate::error::TaskError;
use crate::zero_shot::ZeroShot;

/// A backbone with what turns media into its inputs.
pub struct Served {
    /// The loaded graph and its queue.
    pub backbone: Backbone,
    /// What turns media into its inputs.
    pub(crate) encoder: Encoder,
    /// What reads texts where the graph itself reads pictures.
    pub(crate) text_tower: Option<Arc<Self>>,
    /// What zero-shot needs beside the graph.
    pub(crate) zero_shot: Option<ZeroShot>,
    /// Names weights and preprocessing in cache keys.
    pub(crate) fingerprint: Key,
    /// When it was loaded, seconds since the epoch.
    pub loaded_at: u64,
}

/// What turns media into a backbone's inputs.
pub(crate) enum Encoder {
    Text(Arc<TextEncoder>),
    Image(ImageSpec),
    Audio(Arc<SoundEncoder>),
}

/// Why a backbone could not be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine refused it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its tokenizer cannot be used.
    #[error("{file}: {source}")]
    Tokenizer {
        /// The tokenizer's file name.
        file: String,
        /// What is wrong with it.
        source: MediaError,
    },
    /// A file that zero-shot needs is wrong.
    #[error("zero_shot: {0}")]
    ZeroShot(String),
}

impl LoadError {
    /// What is wrong, for clients: no path of the machine, no more of a file than its name.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Engine(EngineError::Folder(error)) => error.reason(),
            Self::Engine(_) => "its graph cannot be run; the log has the reason".into(),
            Self::Tokenizer { file, .. } => format!("{file} cannot be used; the log has the reason"),
            Self::ZeroShot(_) => "what `[zero_shot]` names cannot be used; the log has the reason".into(),
        }
    }
}

impl Served {
    /// Loads a folder onto the engine. Blocking.
    ///
    /// # Errors
    /// [`LoadError`] naming the file or field that is wrong.
    pub fn load(engine: &Engine, folder: Folder, loaded_at: u64) -> Result<Self, LoadError> {
        let tower = folder.text_half().map(|half| Self::load(engine, half, loaded_at)).transpose()?;
        let manifest = folder.manifest().clone();
        let manifest_text = toml_fingerprint(&manifest);
        let encoder = match (&manifest.text, &manifest.image, &manifest.audio) {
            (_, Some(image), _) => Encoder::Image(image.clone()),
            (Some(text), None, _) => {
                let bytes = folder.read(&text.tokenizer).map_err(EngineError::from)?;
                let encoder = TextEncoder::load(&bytes, text)
                    .map_err(|source| LoadError::Tokenizer { file: text.tokenizer.clone(), source })?;
                // How long a text may be is an option, and known before it comes here.
                Encoder::Text(Arc::new(encoder.with_max_bytes(usize::MAX)))
            }
            (None, None, Some(audio)) => Encoder::Audio(Arc::new(SoundEncoder::new(audio))),
            (None, None, None) => {
                return Err(EngineError::Bug("a manifest without preprocessing passed its check").into());
            }
        };
        let zero_shot = ZeroShot::load(&folder).map_err(LoadError::ZeroShot)?;
        let fingerprint = Key::of(&[manifest.backbone.sha256.as_bytes(), manifest_text.as_bytes()]);
        let backbone = engine.load(folder)?;
        let text_tower = tower.map(Arc::new);
        Ok(Self { backbone, encoder, text_tower, zero_shot, fingerprint, loaded_at })
    }

    /// Names weights, their precision and preprocessing: what was computed under one key holds for no other.
    #[must_use]
    pub fn key(&self) -> String {
        self.fingerprint.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether it gives features; what reads pairs of texts gives none.
    #[must_use]
    pub fn gives_features(&self) -> bool {
        !self.backbone.manifest().reads_pairs()
    }

    /// Refuses a backbone without features where they are asked for.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] naming `field`, in which the request has the model.
    pub fn check_features(&self, field: &str) -> Result<(), TaskError> {
        if self.gives_features() {
            return Ok(());
        }
        let id = self.backbone.id();
        Err(TaskError::invalid(
            field,
            format!("`{id}` reads pairs of texts: it reranks or labels, and has no features"),
        ))
    }

    /// All that it reads, its own modality first.
    #[must_use]
    pub fn modalities(&self) -> Vec<Modality> {
        self.backbone.manifest().modalities()
    }

    /// A request's items as data that it reads.
    ///
    /// # Errors
    /// Names the item of `field` that is empty or of another modality.
    pub(crate) fn data(
        &self,
        items: Payload,
        field: &str,
        stated: Option<Modality>,
    ) -> Result<Vec<Datum>, InputError> {
        items.into_data_of(field, &self.modalities(), stated)
    }

    /// What its own graph reads.
    #[must_use]
    pub fn modality(&self) -> Modality {
        self.backbone.manifest().backbone.modality
    }
}

/// Every field that changes numbers is in the manifest: its text form names them all.
fn toml_fingerprint(manifest: &headstart_types::Manifest) -> String {
    format!("{manifest:?}")
}

/// A backbone's state.
#[derive(Clone)]
pub enum Entry {
    /// It answers.
    Served(Arc<Served>),
    /// It could not be loaded.
    Broken(Arc<LoadError>),
}

/// All backbones by id. Reading is a short lock and a pointer copy.
#[derive(Default)]
pub struct Catalog {
    entries: RwLock<BTreeMap<String, Entry>>,
}

impl Catalog {
    /// Adds or replaces a backbone; requests in flight finish on the one they have.
    pub fn insert(&self, id: String, entry: Entry) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(id, entry);
    }

    /// Forgets every backbone: their queues end once the requests that hold them do.
    pub fn clear(&self) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// All backbones in order of id.
    #[must_use]
    pub fn list(&self) -> Vec<(String, Entry)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(id, entry)| (id.clone(), entry.clone())).collect()
    }

    /// One backbone, whatever its state.
    #[must_use]
    pub fn entry(&self, id: &str) -> Option<Entry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// A backbone that answers.
    ///
    /// # Errors
    /// [`TaskError::UnknownModel`] or [`TaskError::BrokenModel`].
    pub fn get(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        match self.entry(id) {
            Some(Entry::Served(served)) => Ok(served),
            Some(Entry::Broken(error)) => {
                Err(TaskError::BrokenModel { id: id.to_owned(), reason: error.reason() })
            }
            None => Err(TaskError::UnknownModel(id.to_owned())),
        }
    }
}
