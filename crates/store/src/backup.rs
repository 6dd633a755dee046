//! Copies of the whole store: made while it serves, and brought back.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use headstart_types::ids::Sha256;
use sha2::Digest as _;

use crate::backend::{Reader, Statement, check_file, migrate_file, read_file};
use crate::blobs::{NAMED, Staging, bounds, decode, place, sync_folder};
use crate::error::StoreError;
use crate::private::make_private;
use crate::store::{BLOBS, DATABASE, Store};

/// The folder in which a copy grows, under its target where that exists.
const PARTIAL: &str = ".partial";
/// What may stand in a folder that counts as empty: file systems put the one at the root of a volume, a copy that was
/// cut off left the other.
const NOTHING: [&str; 2] = ["lost+found", PARTIAL];

/// What a backup holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackedUp {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the database.
    pub database: u64,
    /// Uploaded files.
    pub files: u64,
    /// Jobs.
    pub jobs: u64,
    /// Versions of classifiers.
    pub versions: u64,
}

impl Store {
    /// Copies database and blobs into a new or empty folder, as they were at one moment, while the store serves. Blobs
    /// are linked where the disk is the same. The database appears last: without it there is no backup.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the folder is not empty; [`StoreError::DiskFull`]; [`StoreError::Corrupt`] when a
    /// blob is missing. Nothing is left behind then.
    pub async fn backup(&self, to: &Path) -> Result<BackedUp, StoreError> {
        let partial = begin(to)?;
        // Blobs that the copied rows name must still be there when their turn comes.
        let _frozen = self.blobs().freeze().await?;
        self.backend().copy_to(&partial.path.join(DATABASE)).await?;
        let database = partial.path.join(DATABASE);
        let (named, mut done) = blocking(move || Ok((named_in(&database)?, contents_of(&database)?))).await?;
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
/// [`StoreError::NotFound`] when there is no backup; [`StoreError::Conflict`] when the target is not empty or the source
/// is in use; [`StoreError::Newer`] for the backup of a newer build; [`StoreError::Corrupt`] for one that is damaged;
/// [`StoreError::DiskFull`]. Nothing is left behind then.
pub fn restore(from: &Path, to: &Path) -> Result<BackedUp, StoreError> {
    let database = from.join(DATABASE);
    if !database.is_file() {
        return Err(StoreError::missing("backup", from.display()));
    }
    if database.with_extension("db-wal").exists() {
        let message = format!("`{}` is a data folder in use, not a backup", from.display());
        return Err(StoreError::Conflict(message));
    }
    check_file(&database)?;
    let partial = begin(to)?;
    let mut done = contents_of(&database)?;
    let copied = partial.path.join(DATABASE);
    copy(&database, &copied).map_err(copying)?;
    // An earlier build's rows name blobs in fewer places.
    migrate_file(&copied)?;
    for sha256 in named_in(&copied)? {
        let (source, target) = (place(&from.join(BLOBS), &sha256), place(&partial.path.join(BLOBS), &sha256));
        match copy(&source, &target) {
            Ok((found, bytes)) if found == sha256 => done.bytes += bytes,
            Ok(_) => return Err(StoreError::corrupt(format!("blob {sha256}"), "its bytes have changed")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(lacking(&sha256)),
            Err(error) => return Err(copying(error)),
        }
        done.blobs += 1;
    }
    partial.settle()?;
    Ok(done)
}

fn copying(error: io::Error) -> StoreError {
    StoreError::io("copy the store", error)
}

fn lacking(sha256: &Sha256) -> StoreError {
    StoreError::corrupt(format!("blob {sha256}"), "it is missing")
}

/// A copy that is not complete yet. Dropped, it leaves nothing.
struct Partial {
    path: PathBuf,
    to: PathBuf,
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After `settle` there is nothing of this name.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn begin(to: &Path) -> Result<Partial, StoreError> {
    let occupied = match fs::read_dir(to) {
        Ok(entries) => Some(occupied(entries).map_err(copying)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(copying(error)),
    };
    if occupied == Some(true) {
        return Err(StoreError::Conflict(in_the_way(to)));
    }
    let path = if occupied.is_some() {
        // The folder may be the root of a volume, which cannot be replaced.
        to.join(PARTIAL)
    } else {
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(PARTIAL);
        to.with_file_name(name)
    };
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(copying(error)),
        Ok(()) | Err(_) => {}
    }
    let partial = Partial { path, to: to.to_owned() };
    make_private(&partial.path).map_err(copying)?;
    fs::create_dir_all(partial.path.join(BLOBS)).map_err(copying)?;
    Ok(partial)
}

fn occupied(entries: fs::ReadDir) -> io::Result<bool> {
    for entry in entries {
        let name = entry?.file_name();
        if !NOTHING.iter().any(|nothing| name == *nothing) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why a folder with something in it is not written to.
fn in_the_way(to: &Path) -> String {
    if Staging::in_use(&to.join(BLOBS)) {
        format!("`{}` is in use: a server or worker has it open", to.display())
    } else if to.join(DATABASE).exists() {
        format!("`{}` has a store already", to.display())
    } else {
        format!("`{}` is not empty", to.display())
    }
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
            if self.path.parent() == Some(&self.to) {
                // Neither replaces what a server that started meanwhile has made; the database comes last.
                fs::rename(&blobs, self.to.join(BLOBS))?;
                let named = sync_folder(&self.to).and_then(|()| {
                    name(&self.path.join(DATABASE), &self.to.join(DATABASE), |from, to| {
                        fs::hard_link(from, to)
                    })
                });
                if named.is_err() {
                    // They go with what is not complete.
                    fs::rename(self.to.join(BLOBS), &blobs)?;
                }
                named?;
                return sync_folder(&self.to);
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

/// Gives a file a name that nothing has, also where the file system has no links.
fn name(from: &Path, to: &Path, link: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    match link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            File::create_new(to)?;
            fs::rename(from, to).inspect_err(|_| drop(fs::remove_file(to)))
        }
        linked => linked,
    }
}

/// How much a database's rows describe. Its blobs are not counted.
fn contents_of(database: &Path) -> Result<BackedUp, StoreError> {
    let bytes = fs::metadata(database).map_err(copying)?.len();
    let counts = "SELECT (SELECT COUNT(*) FROM files), (SELECT COUNT(*) FROM jobs), \
        (SELECT COUNT(*) FROM versions)";
    let row =
        read_file(database, &Statement::new(counts, Vec::new()))?.into_iter().next().unwrap_or_default();
    let mut row = Reader::new("backup", row);
    let (files, jobs, versions) = (row.count()?, row.count()?, row.count()?);
    Ok(BackedUp { database: bytes, files, jobs, versions, ..BackedUp::default() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_without_links_and_taken_from_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let without_links = |_: &Path, _: &Path| Err(io::ErrorKind::Unsupported.into());
        fs::write(&from, "rows").unwrap();
        name(&from, &to, without_links).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"rows");
        fs::write(&from, "others").unwrap();
        assert!(name(&from, &to, without_links).is_err());
        assert!(name(&from, &to, |from, to| fs::hard_link(from, to)).is_err());
        assert_eq!(fs::read(&to).unwrap(), b"rows");
    }

    #[test]
    fn a_copy_that_finds_a_database_in_its_place_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let partial = begin(folder.path()).unwrap();
        fs::create_dir_all(partial.path.join(BLOBS).join("ab")).unwrap();
        fs::write(partial.path.join(DATABASE), "rows").unwrap();
        // A server that started meanwhile.
        fs::write(folder.path().join(DATABASE), "its own").unwrap();
        assert!(partial.settle().is_err());
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [DATABASE]);
        assert_eq!(fs::read(folder.path().join(DATABASE)).unwrap(), b"its own");
    }
}
