//! How a job is told to stop, and how a fit reports from its own thread.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use headstart_methods::{Checkpoint, Control, MethodError, artifact};
use headstart_store::{Store, StoreError};
use headstart_tasks::TaskError;
use headstart_types::ids::Sha256;
use headstart_types::job::{JobError, Lease, NewEvent};
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use crate::clock::now_ms;
use crate::worker::pace::Pace;

/// The step under which a fit's state is kept.
pub(super) const FIT_STATE: &str = "fit";

/// The code of a job whose backbone cannot be what it asks for.
pub(super) const UNSUITABLE: &str = "unsuitable_model";

/// What may help where training gets lost.
const DIVERGED: &str = "numbers became infinite or undefined while fitting: a smaller `learning_rate` or another method may help";

/// Why a job does not go on.
#[derive(Debug, Clone)]
pub(super) enum Stop {
    /// Its owner paused it.
    Paused,
    /// Its owner ended it.
    Cancelled,
    /// Another worker has it.
    Lost,
    /// The process stops.
    Shutdown,
    /// It cannot succeed as it is.
    Refused(JobError),
    /// The disk is full: it goes on once there is room.
    NoRoom,
    /// What it needs is not to be had now, for the reason given: memory for a backbone beside those in use, one that was unloaded
    /// by request, a turn to write. It goes on once it is.
    Waits(String),
    /// The service failed; another try may succeed.
    Broken(String),
}

impl Stop {
    /// A job that cannot succeed: `param` is what its owner can change.
    pub(super) fn refused(code: &str, message: impl Into<String>, param: &str) -> Self {
        Self::Refused(JobError { code: code.into(), message: message.into(), param: Some(param.into()) })
    }
}

/// Why a backbone will never be had, where it takes more memory than all may.
pub(super) fn never_fits(error: &TaskError) -> Option<String> {
    let TaskError::NoRoom { id, needed, limit } = error else { return None };
    let never = || format!("`{id}` takes {needed} bytes of memory, and `model-memory` allows {limit} in all");
    (needed > limit).then(never)
}

impl From<TaskError> for Stop {
    fn from(error: TaskError) -> Self {
        if let Some(never) = never_fits(&error) {
            return Self::refused(UNSUITABLE, never, "model");
        }
        match error {
            TaskError::NoRoom { .. } => Self::Waits(
                "no memory is left for the model beside those in use: the job goes on once there is".into(),
            ),
            TaskError::Unloaded(id) => {
                Self::Waits(format!("`{id}` was unloaded by request: the job goes on once it is loaded"))
            }
            TaskError::UnknownModel(_)
            | TaskError::NotAClassifier(_)
            | TaskError::NotABackbone { .. }
            | TaskError::TensorsOnly(_)
            | TaskError::NoGraph(_)
            | TaskError::BrokenModel { .. }
            | TaskError::Invalid { .. }
            | TaskError::TooManyItems { .. }
            | TaskError::ItemRate { .. }
            | TaskError::Media { .. }
            | TaskError::Engine(_)
            | TaskError::Bug(_) => Self::Broken(error.to_string()),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        if error.is_busy() {
            return Self::Waits("other processes kept the store busy: the job goes on in a moment".into());
        }
        match error {
            StoreError::LeaseLost(_) => Self::Lost,
            StoreError::DiskFull => Self::NoRoom,
            StoreError::NotFound { .. }
            | StoreError::Conflict(_)
            | StoreError::TooMany { .. }
            | StoreError::Quota { .. }
            | StoreError::Invalid { .. }
            | StoreError::Newer { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Database(_)
            | StoreError::Io { .. }
            | StoreError::Closed
            | StoreError::Bug(_) => Self::Broken(error.to_string()),
        }
    }
}

impl From<MethodError> for Stop {
    fn from(error: MethodError) -> Self {
        let message = error.to_string();
        match error {
            MethodError::Hyperparameter { path, .. } => Self::refused("invalid_value", message, &path),
            MethodError::Unsuitable(_) | MethodError::Data(_) | MethodError::Split(_) => {
                Self::refused("unsuitable_data", message, "training_file")
            }
            MethodError::Diverged => Self::refused("diverged", DIVERGED, "method"),
            MethodError::Graph(_) | MethodError::Rounding { .. } => {
                Self::refused(UNSUITABLE, message, "model")
            }
            MethodError::NoRoom => Self::NoRoom,
            MethodError::Cancelled
            | MethodError::Stored { .. }
            | MethodError::Head { .. }
            | MethodError::Width { .. }
            | MethodError::File(_)
            | MethodError::Unknown { .. } => Self::Broken(message),
        }
    }
}

/// A stop that anyone may ask for, once.
#[derive(Debug, Default)]
pub(super) struct Halt(OnceLock<Stop>);

impl Halt {
    pub(super) fn set(&self, stop: Stop) {
        let _ = self.0.set(stop);
    }

    /// # Errors
    /// The stop that was asked for.
    pub(super) fn check(&self) -> Result<(), Stop> {
        self.0.get().map_or(Ok(()), |stop| Err(stop.clone()))
    }
}

/// Reports of a fit, written from the thread it runs on.
pub(super) struct FitControl {
    pub(super) runtime: Handle,
    pub(super) store: Store,
    pub(super) lease: Lease,
    pub(super) halt: Arc<Halt>,
    /// The step that the fit's state is kept under.
    pub(super) step: String,
    pub(super) state: Option<Vec<u8>>,
    /// Where the state lies that the next one replaces, and a time at which it was there.
    pub(super) last: Option<(Sha256, i64)>,
    pub(super) pace: Arc<Pace>,
}

impl FitControl {
    fn write<T>(&self, what: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        match self.runtime.block_on(what) {
            Ok(value) => Some(value),
            Err(error) => {
                self.halt.set(error.into());
                None
            }
        }
    }
}

impl Control for FitControl {
    fn progress(&mut self, step: usize, total: usize, _: &[(&'static str, f64)]) -> ControlFlow<()> {
        if self.halt.check().is_err() {
            return ControlFlow::Break(());
        }
        self.pace.count(step, total);
        ControlFlow::Continue(())
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        let metrics: Map<String, Value> =
            checkpoint.metrics.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let (store, lease, step) = (self.store.clone(), self.lease.clone(), self.step.clone());
        let last = self.last.take();
        self.last = self.write(async move {
            let state = store.blobs().put(&checkpoint.state).await?.sha256;
            // A row is no older than its blob.
            let now = now_ms();
            store.put_step(&lease, &step, &state, now).await?;
            // Of a backbone a state is some hundred megabytes: the sweep comes too late for the one before.
            if let Some((last, at)) = last
                && let Err(error) = store.discard(&last, at).await
            {
                tracing::warn!(%error, "the state before stays until the next sweep");
            }
            if let Some(bytes) = checkpoint.head.as_ref().and_then(|head| artifact::save(head).ok()) {
                let artifact = store.blobs().put(&bytes).await?.sha256;
                let metrics = Value::Object(metrics.clone());
                store.put_checkpoint(&lease, checkpoint.step as u64, &artifact, &metrics, now).await?;
                let message = format!("step {}", checkpoint.step);
                let event = NewEvent { data: Some(metrics), ..NewEvent::info(message) };
                store.add_event(&lease, &event, now).await?;
            }
            Ok((state, now))
        });
    }

    fn resume(&mut self) -> Option<Vec<u8>> {
        self.state.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(stop: Stop) -> JobError {
        let Stop::Refused(error) = stop else { panic!("{stop:?}") };
        error
    }

    #[test]
    fn a_fit_that_diverges_names_the_method_and_not_the_file() {
        let error = refused(MethodError::Diverged.into());
        assert_eq!((error.code.as_str(), error.param.as_deref()), ("diverged", Some("method")));
        assert!(error.message.contains("learning_rate"), "{}", error.message);
    }

    #[test]
    fn a_model_that_never_fits_is_refused_and_one_that_fits_later_is_waited_for() {
        let no_room = |needed| Stop::from(TaskError::NoRoom { id: "b+1".into(), needed, limit: 100 });
        let error = refused(no_room(101));
        assert_eq!((error.code.as_str(), error.param.as_deref()), ("unsuitable_model", Some("model")));
        for said in ["`b+1`", "101 bytes", "`model-memory`"] {
            assert!(error.message.contains(said), "{}", error.message);
        }
        assert!(matches!(no_room(100), Stop::Waits(_)));
    }

    #[test]
    fn a_model_that_was_unloaded_is_waited_for() {
        let Stop::Waits(message) = Stop::from(TaskError::Unloaded("a".into())) else { panic!() };
        assert!(message.contains("`a` was unloaded by request"), "{message}");
    }
}
