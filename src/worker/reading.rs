//! A job's files read on a thread of their own, a batch of examples at a time.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;

use headstart_datasets::{Content, Example, Inspection, Limits, Place, Source};
use headstart_types::ids::Sha256;
use headstart_types::{Media, Payload};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::worker::control::Stop;

/// An uploaded file and what is known of it.
#[derive(Clone)]
pub(super) struct Upload {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) sha256: Sha256,
    pub(super) inspection: Inspection,
}

/// Batches of examples as they are read.
pub(super) struct Reading {
    batches: mpsc::Receiver<Vec<Example>>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Upload {
    /// Whether its rows can still be read: a purge may have left none since the job was made. `param` is the job's field.
    ///
    /// # Errors
    /// Why the job cannot succeed.
    pub(super) fn check(&self, param: &str) -> Result<(), Stop> {
        if self.inspection.is_readable() {
            return Ok(());
        }
        let problem = self.inspection.status_details();
        let problem = problem.unwrap_or_else(|| "no examples are left in it".to_owned());
        let message = format!("`{param}` cannot be read any more: {problem}");
        Err(Stop::refused("unsuitable_data", message, param))
    }

    /// Reads the file's examples, `batch` at a time; those of `wanted` alone where places are named.
    pub(super) fn read(&self, limits: &Limits, batch: usize, wanted: Option<HashSet<Place>>) -> Reading {
        let (upload, limits) = (self.clone(), limits.clone());
        let (sender, batches) = mpsc::channel(2);
        let thread = tokio::task::spawn_blocking(move || -> Result<(), String> {
            let file = File::open(&upload.path).map_err(|error| error.to_string())?;
            let source = Source::new(file, &upload.name).map_err(|error| error.to_string())?;
            let examples = headstart_datasets::read(&source, &upload.inspection, &limits);
            let examples = examples.map_err(|error| error.to_string())?;
            let is_wanted =
                |example: &Example| wanted.as_ref().is_none_or(|places| places.contains(&example.place));
            let mut examples = examples.filter(|example| example.as_ref().map_or(true, is_wanted));
            loop {
                let some: Result<Vec<Example>, _> = examples.by_ref().take(batch).collect();
                let some = some.map_err(|error| error.to_string())?;
                if some.is_empty() || sender.blocking_send(some).is_err() {
                    return Ok(());
                }
            }
        });
        Reading { batches, thread: Some(thread) }
    }
}

impl Reading {
    /// The next examples; `None` once there are no more.
    ///
    /// # Errors
    /// When the file changed since it was inspected.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Example>>, Stop> {
        if let Some(batch) = self.batches.recv().await {
            return Ok(Some(batch));
        }
        let Some(thread) = self.thread.take() else { return Ok(None) };
        match thread.await {
            Ok(read) => read.map(|()| None).map_err(Stop::Broken),
            Err(_) => Err(Stop::Broken("the reader of a file panicked".into())),
        }
    }
}

/// What examples show, as a request would bring it. Those of one file are all of one kind.
pub(super) fn payload(contents: impl Iterator<Item = Content>) -> Payload {
    let (mut texts, mut files) = (Vec::new(), Vec::new());
    for content in contents {
        match content {
            Content::Text(text) => texts.push(text),
            Content::Image(bytes) | Content::Audio(bytes) => files.push(Media::Bytes(bytes.into())),
        }
    }
    if files.is_empty() { Payload::texts(texts) } else { Payload::files(files) }
}
