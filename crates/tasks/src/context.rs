//! What every task needs: backbones, caches, the CPU pool, limits; and what is known of the caller.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use headstart_engine::Class;
use headstart_telemetry::Metrics;
use tokio::sync::Semaphore;

use crate::cache::VectorCache;
use crate::catalog::Catalog;
use crate::classifiers::{Classifiers, Described};
use crate::error::TaskError;
use crate::offload::Offload;

/// Decoded pictures held at a time, waiting or being computed: each is a tensor of some hundred kilobytes.
const DECODED_IMAGES: usize = 64;

/// Decoded sounds that may be held at a time, in addition to two for each CPU thread. A sound of a minute takes 4 MB at
/// 16 kHz.
const DECODED_SOUNDS: usize = 4;

/// Limits that hold before work is done.
#[derive(Debug, Clone, Copy)]
pub struct TaskLimits {
    /// Most items in a request.
    pub items: usize,
    /// Most labels in a request.
    pub labels: usize,
    /// Longest text in bytes.
    pub text_bytes: usize,
    /// Largest picture and longest sound.
    pub media: headstart_media::Limits,
}

/// What every task needs.
pub struct TaskContext {
    /// The backbones.
    pub catalog: Catalog,
    /// Fine-tuned classifiers.
    pub classifiers: Classifiers,
    /// Limits that hold before work is done.
    pub limits: TaskLimits,
    meter: OnceLock<Arc<dyn Meter>>,
    pub(crate) features: Arc<VectorCache>,
    pub(crate) labels: Arc<VectorCache>,
    interactive: Room,
    /// Bulk work does not queue before requests.
    bulk: Room,
}

/// What work of a class may take of the machine beside the engine.
struct Room {
    offload: Offload,
    pictures: Semaphore,
    sounds: Semaphore,
}

impl Room {
    fn new(cpu_threads: usize) -> Self {
        Self {
            offload: Offload::new(cpu_threads),
            pictures: Semaphore::new(DECODED_IMAGES),
            sounds: Semaphore::new(2 * cpu_threads + DECODED_SOUNDS),
        }
    }
}

/// Who counts what keys send.
pub trait Meter: Send + Sync {
    /// Takes items of a key's minute, all or none.
    ///
    /// # Errors
    /// [`TaskError::ItemRate`]; [`TaskError::TooManyItems`] for more than a whole minute has.
    fn take(&self, key: &str, items: usize) -> Result<(), TaskError>;
}

/// What is known of the caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller {
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
    /// Whether somebody waits.
    pub class: Class,
    /// Name of the API key, whose classifiers are meant; empty where no keys are set.
    pub key: &'static str,
}

/// Items of a request that are not yet charged to its key. They are charged once, as soon as places in the queue are
/// taken for them, so that a request that is refused for want of places costs the key nothing.
pub(crate) struct Owed(AtomicUsize);

impl Owed {
    pub(crate) fn of(items: usize) -> Self {
        Self(AtomicUsize::new(items))
    }
}

/// Most bytes of the cache of label embeddings, which is a cache apart from that of the features.
const LABEL_CACHE_BYTES: u64 = 16 << 20;

impl TaskContext {
    /// A context without backbones.
    #[must_use]
    pub fn new(limits: TaskLimits, cache_bytes: u64, cpu_threads: usize, metrics: &Metrics) -> Self {
        Self {
            catalog: Catalog::default(),
            classifiers: Classifiers::new(metrics.shadows()),
            limits,
            meter: OnceLock::new(),
            features: Arc::new(VectorCache::new(cache_bytes, metrics.for_cache("features"))),
            labels: Arc::new(VectorCache::new(LABEL_CACHE_BYTES, metrics.for_cache("labels"))),
            interactive: Room::new(cpu_threads),
            bulk: Room::new(cpu_threads),
        }
    }

    fn room(&self, class: Class) -> &Room {
        match class {
            Class::Interactive => &self.interactive,
            Class::Bulk => &self.bulk,
        }
    }

    /// The pool for work of a class.
    pub(crate) fn offload(&self, class: Class) -> &Offload {
        &self.room(class).offload
    }

    /// Bounds the pictures that exist decoded at a time.
    pub(crate) fn decoded_pictures(&self, class: Class) -> &Semaphore {
        &self.room(class).pictures
    }

    /// Bounds the sounds that exist decoded at a time.
    pub(crate) fn decoded_sounds(&self, class: Class) -> &Semaphore {
        &self.room(class).sounds
    }

    /// Sets who counts items against a key's limit; called once, at the start. Without a meter keys may send as much as
    /// they like.
    pub fn set_meter(&self, meter: Arc<dyn Meter>) {
        let _ = self.meter.set(meter);
    }

    /// Charges a request's items to the key's limit per minute. Call it after [`TaskContext::check_items`] and
    /// admission and before anything is computed: a request that those refuse then costs the key nothing. The service's
    /// own bulk work has no key ("") and no limit.
    pub(crate) fn take_items(&self, items: usize, caller: Caller) -> Result<(), TaskError> {
        self.meter.get().map_or(Ok(()), |meter| meter.take(caller.key, items))
    }

    /// The same for what is owed, once.
    pub(crate) fn take_owed(&self, owed: &Owed, caller: Caller) -> Result<(), TaskError> {
        match owed.0.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            items => self.take_items(items, caller),
        }
    }

    /// Passes a result on, but replaces [`TaskError::UnknownModel`] by [`TaskError::NotABackbone`] where the name is
    /// that of a classifier that the key may ask: the client then reads what it should have named.
    ///
    /// # Errors
    /// Those of what came of it; [`TaskError::NotABackbone`].
    pub async fn explain_unknown_model<T>(
        &self,
        done: Result<T, TaskError>,
        key: &str,
    ) -> Result<T, TaskError> {
        let id = match done {
            Err(TaskError::UnknownModel(id)) => id,
            done => return done,
        };
        Err(match self.classifiers.describe(key, &id).await {
            Some(Described { backbone, .. }) => TaskError::NotABackbone { id, backbone },
            None => TaskError::UnknownModel(id),
        })
    }

    /// Refuses more items than a request may have.
    pub(crate) fn check_items(&self, items: usize) -> Result<(), TaskError> {
        let limit = self.limits.items;
        if items > limit { Err(TaskError::TooManyItems { items, limit }) } else { Ok(()) }
    }
}
