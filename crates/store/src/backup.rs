//! Copies of the whole store: made while it serves, and brought back.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use headstart_types::ids::Sha256;
use sha2::Digest as _;

use crate::backend::{Statement, check_file, read_file};
use crate::blobs::{NAMED, bounds, decode, place, sync_folder};
use crate::error::StoreError;
use crate::store::{BLOBS, DATABASE, Store};

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Copies database and blobs into a new folder, as they were at one moment, while the store serves. Blobs are
    /// linked where the disk is the same. The folder appears when it is complete.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the folder exists; [`StoreError::Corrupt`] when a blob is missing.
    pub async fn backup(&self, to: &Path) -> Result<BackedUp, StoreError> {
        let partial = begin(to)?;
        // Blobs that the copied rows name must still be there when their turn comes.
        let _frozen = self.blobs().freeze().await?;
        self.backend().copy_to(&partial.path.join(DATABASE)).await?;
        let database = partial.path.join(DATABASE);
        let named = blocking(move || named_in(&database)).await?;
        let mut done = BackedUp { blobs: 0, bytes: 0 };
        for sha256 in named {
            let from = match self.blobs().path(&sha256).await {
                Ok(from) => from,
                Err(StoreError::NotFound { .. }) => return Err(lacking(&sha256)),
                Err(error) => return Err(error),
            };
            let to = place(&partial.path.join(BLOBS), &sha256);
            done.bytes += blocking(move || link(&from, &to).map_err(copying)).await?;
            done.blobs += 1;
        }
        blocking(move || partial.settle()).await?;
        Ok(done)
    }
}

/// Brings a backup back as a new data folder, after checking the database and every blob. Blocking.
///
/// # Errors
/// [`StoreError::Conflict`] when the folder exists and is not empty; [`StoreError::Corrupt`] for a backup that is
/// damaged.
pub fn restore(from: &Path, to: &Path) -> Result<BackedUp, StoreError> {
    let database = from.join(DATABASE);
    if !database.is_file() {
        return Err(StoreError::missing("backup", from.display()));
    }
    check_file(&database)?;
    let partial = begin(to)?;
    let mut done = BackedUp { blobs: 0, bytes: 0 };
    for sha256 in named_in(&database)? {
        let (source, target) = (place(&from.join(BLOBS), &sha256), place(&partial.path.join(BLOBS), &sha256));
        match copy(&source, &target) {
            Ok((found, bytes)) if found == sha256 => done.bytes += bytes,
            Ok(_) => return Err(StoreError::corrupt(format!("blob {sha256}"), "its bytes have changed")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(lacking(&sha256)),
            Err(error) => return Err(copying(error)),
        }
        done.blobs += 1;
    }
    copy(&database, &partial.path.join(DATABASE)).map_err(copying)?;
    partial.settle()?;
    Ok(done)
}

fn copying(error: io::Error) -> StoreError {
    StoreError::io("copy the store", error)
}

fn lacking(sha256: &Sha256) -> StoreError {
    StoreError::corrupt(format!("blob {sha256}"), "it is missing")
}

/// A folder that has its name only once it is complete.
struct Partial {
    path: PathBuf,
    to: PathBuf,
}

fn begin(to: &Path) -> Result<Partial, StoreError> {
    let begin = || -> io::Result<Option<Partial>> {
        let occupied = match fs::read_dir(to) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if occupied {
            return Ok(None);
        }
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = to.with_file_name(name);
        match fs::remove_dir_all(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::create_dir_all(path.join(BLOBS))?;
        Ok(Some(Partial { path, to: to.to_owned() }))
    };
    begin()
        .map_err(copying)?
        .ok_or_else(|| StoreError::Conflict(format!("`{}` exists and is not empty", to.display())))
}

impl Partial {
    fn settle(self) -> Result<(), StoreError> {
        let settle = || -> io::Result<()> {
            let blobs = self.path.join(BLOBS);
            for entry in fs::read_dir(&blobs)? {
                sync_folder(&entry?.path())?;
            }
            sync_folder(&blobs)?;
            sync_folder(&self.path)?;
            match fs::remove_dir(&self.to) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            fs::rename(&self.path, &self.to)?;
            match self.to.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
                Some(_) | None => sync_folder(Path::new(".")),
            }
        };
        settle().map_err(copying)
    }
}

/// The blobs that a database's rows name.
fn named_in(database: &Path) -> Result<BTreeSet<Sha256>, StoreError> {
    decode(read_file(database, &Statement::new(NAMED, bounds("")))?)
}

/// Blobs never change, so a second name is as good as a copy.
fn link(from: &Path, to: &Path) -> io::Result<u64> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to)?;
        File::open(to)?.sync_all()?;
    }
    Ok(fs::metadata(to)?.len())
}

/// Copies a file: the digest and length of what was copied, durable on return.
fn copy(from: &Path, to: &Path) -> io::Result<(Sha256, u64)> {
    let mut source = File::open(from)?;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let (mut target, mut digest) = (File::create(to)?, sha2::Sha256::new());
    let (mut chunk, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        let read = source.read(&mut chunk)?;
        let Some(piece) = chunk.get(..read).filter(|piece| !piece.is_empty()) else { break };
        digest.update(piece);
        target.write_all(piece)?;
        bytes += read as u64;
    }
    target.sync_all()?;
    Ok((Sha256::from_bytes(digest.finalize().into()), bytes))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}
