//! Files looked into for rows, and written again without them.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use headstart_datasets::{Content as Shows, DatasetError, Found, Source, Wanted, find, write_without};
use headstart_methods::few_shot::Content;
use headstart_store::{Order, PageRequest, Scope, Store};
use headstart_tasks::few_shot::{image_content, sound_content, text_content};
use headstart_types::file::FileRow;
use headstart_types::purge::PurgedFile;
use tokio::sync::mpsc;

use crate::app::App;
use crate::intake::{self, Upload};
use crate::purge::{Named, PurgeError};

/// Files read at a time.
const PAGE: u32 = 500;

/// Bytes handed on at a time.
const CHUNK: usize = 256 << 10;

/// A file, and which of its rows are to go.
pub(super) struct Looked {
    pub(super) row: FileRow,
    pub(super) found: Found,
    /// Versions known that were trained or tuned on it, and jobs on it with a report.
    pub(super) versions: u64,
    pub(super) reports: u64,
}

impl Looked {
    /// What is told of it; nothing of a file that need not be named.
    pub(super) fn told(&self) -> Option<PurgedFile> {
        let (rows, unreadable) = (self.found.places.len() as u64, self.found.unreadable);
        (!self.found.is_empty() || unreadable > 0).then(|| PurgedFile {
            id: self.row.id.to_string(),
            filename: self.row.filename.clone(),
            rows,
            unreadable,
        })
    }
}

/// The files that may hold what is named: one and those of the same bytes, or all; without what was found in them.
pub(super) async fn named(
    store: &Store,
    scope: Scope<'_>,
    named: &Named,
) -> Result<Vec<FileRow>, PurgeError> {
    let only = match named.file() {
        Some(id) => Some(store.file(scope, id).await?),
        None => None,
    };
    let is_meant =
        |row: &FileRow| only.as_ref().is_none_or(|only| (&row.key, &row.sha256) == (&only.key, &only.sha256));
    let mut page = PageRequest { after: None, limit: PAGE, order: Order::Ascending };
    let mut rows = Vec::new();
    loop {
        let found = store.files_without_findings(scope, &page).await?;
        page.after = found.data.last().map(|row| row.id.clone());
        rows.extend(found.data.into_iter().filter(is_meant));
        if !found.has_more {
            return Ok(rows);
        }
    }
}

/// Looks into a file, on a thread that may block; also what the rows show, by digest.
pub(super) async fn look(
    app: &App,
    store: &Store,
    row: FileRow,
    wanted: Arc<Wanted>,
) -> Result<(Looked, HashSet<Content>), PurgeError> {
    let place = Arc::clone(&app.inspections).acquire_owned().await.map_err(|_| PurgeError::CutOff)?;
    let path = store.blobs().path(&row.sha256).await?;
    let limits = app.dataset_limits();
    let work = move || -> Result<_, PurgeError> {
        let _place = place;
        let file = std::fs::File::open(path).map_err(DatasetError::from)?;
        let source = Source::new(file, &row.filename).map_err(DatasetError::from)?;
        let mut contents = HashSet::new();
        let found = find(&source, &wanted, &limits, &mut |shows| {
            contents.insert(match shows {
                Shows::Text(text) => text_content(&text),
                Shows::Image(bytes) => image_content(&bytes),
                Shows::Audio(bytes) => sound_content(&bytes),
            });
        })?;
        Ok((Looked { row, found, versions: 0, reports: 0 }, contents))
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| PurgeError::CutOff)?
}

/// Writes a file again without the rows: the row it is to have, whose bytes are durable.
pub(super) async fn without(app: &App, store: &Store, looked: &Looked) -> Result<FileRow, PurgeError> {
    let row = &looked.row;
    let path = store.blobs().path(&row.sha256).await?;
    let (found, name, limits) = (looked.found.clone(), row.filename.clone(), app.dataset_limits());
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(4);
    let work = move || -> Result<(), DatasetError> {
        let source = Source::new(std::fs::File::open(path)?, &name)?;
        write_without(&source, &found, &limits, BufWriter::with_capacity(CHUNK, Pipe(sender)))
    };
    let writing = tokio::task::spawn_blocking(work);
    let mut writer = store.blobs().begin().await?;
    while let Some(piece) = pieces.recv().await {
        writer.write(&piece).await?;
    }
    writing.await.map_err(|_| PurgeError::CutOff)?.map_err(|error| match error {
        DatasetError::CannotRewrite(reason) => PurgeError::CannotRewrite { file: row.id.clone(), reason },
        error @ (DatasetError::Io(_)
        | DatasetError::Cancelled
        | DatasetError::Unusable(_)
        | DatasetError::Changed(_)
        | DatasetError::Bug(_)) => error.into(),
    })?;
    let upload = Upload {
        id: row.id.clone(),
        key: row.key.clone(),
        filename: row.filename.clone(),
        blob: writer.finish().await?,
        created_at: row.created_at,
        expires_at: row.expires_at,
    };
    let (row, _) = intake::file_row(app, store, upload).await?;
    Ok(row)
}

/// Hands bytes to whoever writes the blob.
struct Pipe(mpsc::Sender<Vec<u8>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Whoever asked for the purge has left.
        let left = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(bytes.to_vec()).map_err(left).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
