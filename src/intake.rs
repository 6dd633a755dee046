//! Stored uploads looked at whole: what becomes a file's row, and files that are trained on together.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headstart_datasets::{DatasetError, Inspection, Part, Source, Split, inspect_together};
use headstart_store::{BlobInfo, BlobWriter, Store, StoreError};
use headstart_types::file::{FileRow, FileState};
use headstart_types::ids::{FileId, Sha256};
use tokio::sync::{RwLock, RwLockWriteGuard};

use crate::app::App;

/// The one purpose of a file.
pub(crate) const PURPOSE: &str = "fine-tune";

/// How long an upload waits to take its bytes' name away, in so many tries.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 50;

/// An upload that is stored, and what is known of it before it is looked at.
pub(crate) struct Upload {
    pub(crate) id: FileId,
    /// Name of the key that sent it.
    pub(crate) key: String,
    /// Its name at the client.
    pub(crate) filename: String,
    pub(crate) blob: BlobInfo,
    /// When it came, in milliseconds since the epoch.
    pub(crate) created_at: i64,
    /// When it may be forgotten.
    pub(crate) expires_at: Option<i64>,
}

/// Bytes that uploads of this process have stored and that may be about to get a row.
#[derive(Default)]
pub(crate) struct Uploads {
    held: Mutex<HashMap<Sha256, Held>>,
    /// Read while bytes get their name and a hold, written while bytes lose their name: whoever writes the same bytes
    /// again finds them, whatever comes between.
    removing: RwLock<()>,
    /// How many bytes have come of the uploads of each key that have no row yet.
    counts: Mutex<HashMap<&'static str, u64>>,
}

/// How many uploads hold some bytes, and when the last of them wrote them.
#[derive(Default)]
struct Held {
    uploads: usize,
    written_at: i64,
}

/// An upload's hold on its bytes. Dropped, it leaves them as they are: to a row, to another upload or to a sweep.
pub(crate) struct Hold {
    all: Arc<Uploads>,
    /// `None` once it was given up.
    sha256: Option<Sha256>,
    /// Counts the bytes as their key's.
    counted: Option<Arc<Counted>>,
}

/// How much has come of an upload. Dropped, it counts no more.
pub(crate) struct Counted {
    all: Arc<Uploads>,
    key: &'static str,
    bytes: u64,
}

impl Uploads {
    fn all(&self) -> MutexGuard<'_, HashMap<Sha256, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a blob and holds it.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        writer: Box<dyn BlobWriter>,
    ) -> Result<(BlobInfo, Hold), StoreError> {
        let _stays = self.removing.read().await;
        let blob = writer.finish().await?;
        let hold = self.hold(&blob);
        Ok((blob, hold))
    }

    /// Keeps bytes that were just stored from being discarded by other uploads of the same.
    pub(crate) fn hold(self: &Arc<Self>, blob: &BlobInfo) -> Hold {
        let mut all = self.all();
        let held = all.entry(blob.sha256.clone()).or_default();
        held.uploads += 1;
        held.written_at = held.written_at.max(blob.written_at);
        Hold { all: Arc::clone(self), sha256: Some(blob.sha256.clone()), counted: None }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<&'static str, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An upload of a key of which nothing has come yet.
    pub(crate) fn count(self: &Arc<Self>, key: &'static str) -> Counted {
        Counted { all: Arc::clone(self), key, bytes: 0 }
    }

    /// Leaves bytes that another upload holds as well; whether there is one.
    fn leave_to_others(&self, sha256: &Sha256) -> bool {
        let mut all = self.all();
        let held = all.get_mut(sha256).filter(|held| held.uploads > 1);
        held.map(|held| held.uploads -= 1).is_some()
    }

    /// The right to take names away, where it is to be had soon. Nobody queues for it: uploads that begin to get their bytes a
    /// name would wait behind whoever does, and so for an upload of any size.
    async fn alone(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        for _ in 0..TRIES {
            if let Ok(alone) = self.removing.try_write() {
                return Some(alone);
            }
            tokio::time::sleep(PATIENCE / TRIES).await;
        }
        None
    }

    /// When the bytes were last written, to the last upload that leaves them.
    fn leave(&self, sha256: &Sha256) -> Option<i64> {
        let mut all = self.all();
        let held = all.get_mut(sha256)?;
        held.uploads -= 1;
        if held.uploads > 0 {
            return None;
        }
        all.remove(sha256).map(|held| held.written_at)
    }
}

impl Counted {
    /// Counts so many bytes more, unless the key's uploads would have more than `most` then.
    ///
    /// # Errors
    /// How many bytes its other uploads have.
    pub(crate) fn add(&mut self, bytes: u64, most: u64) -> Result<(), u64> {
        let mut counts = self.all.counts();
        let of_key = counts.get(self.key).copied().unwrap_or(0);
        let more = of_key.saturating_add(bytes);
        if more > most {
            return Err(of_key.saturating_sub(self.bytes));
        }
        counts.insert(self.key, more);
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        let left = counts.remove(self.key).unwrap_or(0).saturating_sub(self.bytes);
        if left > 0 {
            counts.insert(self.key, left);
        }
    }
}

impl Hold {
    /// Lets the bytes count as their key's while this hold is there, or another that was made of it.
    pub(crate) fn counting(mut self, counted: Counted) -> Self {
        self.counted = Some(Arc::new(counted));
        self
    }

    /// Another hold on the same bytes, which counts them together with this one.
    pub(crate) fn again(&self, blob: &BlobInfo) -> Self {
        let mut hold = self.all.hold(blob);
        hold.counted = self.counted.clone();
        hold
    }

    /// Removes the bytes at once, unless another upload holds them or a row names them. Where that has to wait, a later
    /// sweep does it.
    pub(crate) async fn discard(mut self, store: &Store) {
        let all = Arc::clone(&self.all);
        if self.sha256.as_ref().is_none_or(|sha256| all.leave_to_others(sha256)) {
            self.sha256 = None;
            return;
        }
        // Given up here, by its caller or for want of patience, the hold goes with `self`.
        let Some(_goes) = all.alone().await else { return };
        let Some(sha256) = self.sha256.take() else { return };
        let Some(written_at) = all.leave(&sha256) else { return };
        if let Err(error) = store.discard(&sha256, written_at).await {
            tracing::warn!(%error, "the bytes of an upload stay until a later sweep");
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(sha256) = &self.sha256 {
            self.all.leave(sha256);
        }
    }
}

/// Why an upload could not be looked at; what is wrong with it is no error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a file could not be inspected: {0}")]
    Dataset(#[from] DatasetError),
    #[error("an inspection cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    #[error("an inspection did not end")]
    Lost,
}

/// Looks at every row of an upload; the row of its file, not yet written.
pub(crate) async fn file_row(
    app: &App,
    store: &Store,
    upload: Upload,
) -> Result<(FileRow, Inspection), IntakeError> {
    let inspection = look(app, store, &[(&upload.blob.sha256, &upload.filename, None)]).await?;
    let row = FileRow {
        id: upload.id,
        key: upload.key,
        filename: upload.filename,
        purpose: PURPOSE.to_owned(),
        bytes: upload.blob.bytes,
        sha256: upload.blob.sha256,
        created_at: upload.created_at,
        expires_at: upload.expires_at,
        state: if inspection.is_usable() { FileState::Processed } else { FileState::Error },
        status_details: inspection.status_details(),
        problems: serde_json::to_value(&inspection.problems)?,
        summary: serde_json::to_value(&inspection)?,
    };
    Ok((row, inspection))
}

/// Looks at a training and a validation file as one: the classes are those of the training file, and what both hold is
/// found.
pub(crate) async fn together(
    app: &App,
    store: &Store,
    training: &FileRow,
    validation: &FileRow,
) -> Result<Inspection, IntakeError> {
    let files = [
        (&training.sha256, training.filename.as_str(), None),
        (&validation.sha256, validation.filename.as_str(), Some(Split::Val)),
    ];
    look(app, store, &files).await
}

/// Stops an inspection whose caller has left.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Inspects files on a thread that may block; only a few inspections run at a time.
async fn look(
    app: &App,
    store: &Store,
    files: &[(&Sha256, &str, Option<Split>)],
) -> Result<Inspection, IntakeError> {
    let place = Arc::clone(&app.inspections).acquire_owned().await.map_err(|_| IntakeError::Lost)?;
    let mut paths = Vec::with_capacity(files.len());
    for (sha256, name, split) in files {
        paths.push((store.blobs().path(sha256).await?, (*name).to_owned(), *split));
    }
    let limits = app.dataset_limits();
    let left = Arc::new(AtomicBool::new(false));
    let waiting = Waiting(Arc::clone(&left));
    let work = move || -> Result<Inspection, IntakeError> {
        let _place = place;
        let open = |(path, name, split): &(_, String, _)| {
            Ok((Source::new(std::fs::File::open::<&std::path::PathBuf>(path)?, name)?, *split))
        };
        let sources = paths.iter().map(open).collect::<Result<Vec<_>, std::io::Error>>();
        let sources = sources.map_err(DatasetError::from)?;
        let parts: Vec<Part<'_>> =
            sources.iter().map(|(source, split)| Part { split: *split, ..Part::new(source) }).collect();
        Ok(inspect_together(&parts, &limits, &mut |_| {
            if left.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?)
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| IntakeError::Lost)?;
    drop(waiting);
    done
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use axum::body::Body;
    use axum::http::Request;
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::{Config, Options};

    #[test]
    fn bytes_are_left_by_the_last_upload_that_holds_them() {
        let uploads = Arc::new(Uploads::default());
        let sha256 = Sha256::from_bytes([7; 32]);
        let blob = |written_at| BlobInfo { sha256: sha256.clone(), bytes: 1, written_at };
        let (first, second, third) = (uploads.hold(&blob(5)), uploads.hold(&blob(9)), uploads.hold(&blob(7)));
        drop(second);
        drop(first);
        assert_eq!(uploads.leave(&sha256), Some(9), "as they were last written");
        assert_eq!(uploads.leave(&sha256), None);
        drop(third);
    }

    #[test]
    fn uploads_of_a_key_count_together_until_they_end() {
        let uploads = Arc::new(Uploads::default());
        let (mut first, mut second) = (uploads.count("anna"), uploads.count("anna"));
        assert_eq!(first.add(60, 100), Ok(()));
        assert_eq!(second.add(30, 100), Ok(()));
        assert_eq!(second.add(30, 100), Err(60), "of the other one");
        assert_eq!(uploads.count("bert").add(60, 100), Ok(()));
        drop(first);
        assert_eq!(second.add(70, 100), Ok(()));
        drop(second);
        assert!(uploads.counts().is_empty());
    }

    #[tokio::test]
    async fn bytes_count_as_long_as_anybody_works_on_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let uploads = Arc::new(Uploads::default());
        let mut counted = uploads.count("anna");
        counted.add(10, 10).unwrap();
        let (blob, hold) = uploads.finish(writing(&store, b"text,label").await).await.unwrap();
        let hold = hold.counting(counted);
        let again = hold.again(&blob);
        hold.discard(&store).await;
        assert_eq!(uploads.counts().get("anna"), Some(&10));
        again.discard(&store).await;
        assert!(uploads.counts().is_empty());
    }

    #[tokio::test]
    async fn uploads_that_leave_the_same_bytes_at_once_leave_none_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let uploads = Arc::new(Uploads::default());
        let (blob, first) = uploads.finish(writing(&store, b"text,label").await).await.unwrap();
        let (_, second) = uploads.finish(writing(&store, b"text,label").await).await.unwrap();
        tokio::join!(first.discard(&store), second.discard(&store));
        assert!(uploads.all().is_empty());
        assert_eq!(store.blobs().info(&blob.sha256).await.unwrap(), None);
    }

    async fn writing(store: &Store, bytes: &[u8]) -> Box<dyn BlobWriter> {
        let mut writer = store.blobs().begin().await.unwrap();
        writer.write(bytes).await.unwrap();
        writer
    }

    /// A writer whose blob has its name long before anybody is told so.
    struct Slow {
        inner: Box<dyn BlobWriter>,
        named: oneshot::Sender<()>,
        told: oneshot::Receiver<()>,
    }

    /// An upload on its way that ends once it is told to.
    async fn slowly(
        uploads: &Arc<Uploads>,
        inner: Box<dyn BlobWriter>,
    ) -> (oneshot::Sender<()>, JoinHandle<Result<(BlobInfo, Hold), StoreError>>) {
        let ((named, is_named), (tell, told)) = (oneshot::channel(), oneshot::channel());
        let (uploads, slow) = (Arc::clone(uploads), Box::new(Slow { inner, named, told }));
        let finishing = tokio::spawn(async move { uploads.finish(slow).await });
        is_named.await.unwrap();
        (tell, finishing)
    }

    #[async_trait]
    impl BlobWriter for Slow {
        async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
            self.inner.write(bytes).await
        }

        async fn finish(self: Box<Self>) -> Result<BlobInfo, StoreError> {
            let blob = self.inner.finish().await?;
            let _ = self.named.send(());
            let _ = self.told.await;
            Ok(blob)
        }

        async fn abort(self: Box<Self>) -> Result<(), StoreError> {
            self.inner.abort().await
        }
    }

    #[tokio::test]
    async fn bytes_that_are_written_again_while_another_upload_leaves_them_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let uploads = Arc::new(Uploads::default());
        let (first, _) = uploads.finish(writing(&store, b"text,label").await).await.unwrap();
        // As if the clock stood still: times do not tell the second writing from the first.
        let hold = uploads.hold(&BlobInfo { written_at: i64::MAX, ..first });

        let (tell, finishing) = slowly(&uploads, writing(&store, b"text,label").await).await;
        let other = store.clone();
        let mut leaving = tokio::spawn(async move { hold.discard(&other).await });
        let early = tokio::time::timeout(Duration::from_millis(100), &mut leaving).await;
        tell.send(()).unwrap();
        let (blob, _hold) = finishing.await.unwrap().unwrap();
        if early.is_err() {
            leaving.await.unwrap();
        }
        assert!(
            store.blobs().info(&blob.sha256).await.unwrap().is_some(),
            "the second upload's bytes are gone"
        );
    }

    #[tokio::test]
    async fn whoever_gives_up_leaving_its_bytes_holds_them_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let uploads = Arc::new(Uploads::default());
        let (_, hold) = uploads.finish(writing(&store, b"text,label").await).await.unwrap();
        let (tell, finishing) = slowly(&uploads, writing(&store, b"another").await).await;
        let mut leaving = Box::pin(hold.discard(&store));
        assert!((&mut leaving).now_or_never().is_none(), "another upload is about to get a name");
        drop(leaving);
        assert!(uploads.all().is_empty());
        tell.send(()).unwrap();
        finishing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_upload_ends_while_a_large_one_is_written_to_the_disk_and_another_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let config = Options { data: Some(folder.path().to_owned()), ..Options::default() };
        let app = Arc::new(App::new(Config::resolve(config).unwrap()).unwrap());
        app.open_store().await.unwrap();
        app.finish_loading();
        let store = app.store().unwrap().clone();
        let (tell, finishing) = slowly(&app.uploads, writing(&store, b"large").await).await;
        let given_up = app.uploads.hold(&store.blobs().put(b"given up").await.unwrap());
        let mut leaving = Box::pin(given_up.discard(&store));
        assert!((&mut leaving).now_or_never().is_none());

        let form = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nfine-tune\r\n\
            --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\n\
            text,label\nwet,rain\nwarm,sun\n\r\n--b--\r\n";
        let request = Request::post("/v1/files").header("content-type", "multipart/form-data; boundary=b");
        let request = request.body(Body::from(form)).unwrap();
        let answer = crate::http::router(Arc::clone(&app)).oneshot(request);
        let answer = tokio::time::timeout(Duration::from_secs(30), answer).await;
        let answer = answer.expect("the upload waits for another").unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!finishing.is_finished());
        tell.send(()).unwrap();
        leaving.await;
        drop(finishing.await.unwrap().unwrap());
        assert!(app.uploads.all().is_empty());
    }
}
