//! Files that are not blobs yet: each process has a folder of its own, and whoever starts next clears those of the dead.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use headstart_types::ids::Sha256;

use super::local::place;

const LOCK: &str = "lock";

/// What the name of a blob that was taken from its place ends in.
const ASIDE: &str = ".aside";

/// Gives a file that was taken aside its name back, unless equal bytes have got it.
pub(super) fn put_back(aside: &Path, name: &Path) -> io::Result<()> {
    match fs::hard_link(aside, name) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    fs::remove_file(aside)
}

/// This process's folder. It goes when dropped, or is cleared by the next start.
pub(crate) struct Staging {
    folder: PathBuf,
    next: AtomicU64,
    /// Locked as long as the process lives, however it ends.
    _alive: File,
}

impl Staging {
    /// Makes a folder under `root`, after removing those whose process is gone.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let (free, _gate) = Self::clear(root)?;
        let folder = root.join(free.to_string());
        fs::create_dir(&folder)?;
        let alive = File::create(folder.join(LOCK))?;
        alive.lock()?;
        Ok(Self { folder, next: AtomicU64::new(0), _alive: alive })
    }

    /// Removes the folders whose process is gone: a number that no folder has, and what keeps others from making one.
    pub(crate) fn clear(root: &Path) -> io::Result<(u64, File)> {
        // One start at a time: between a folder's making and its locking it looks dead.
        let gate = File::create(root.join(LOCK))?;
        gate.lock()?;
        let mut free = 0;
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            match Self::clear_one(&entry, root.parent().unwrap_or(root)) {
                Ok(used) => free = free.max(used.map_or(0, |number| number.saturating_add(1))),
                // Its process ends just now, and takes it along.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok((free, gate))
    }

    /// Removes a folder whose process is gone; the number of one that is in use.
    fn clear_one(entry: &fs::DirEntry, blobs: &Path) -> io::Result<Option<u64>> {
        if !entry.file_type()?.is_dir() {
            return Ok(None);
        }
        if File::create(entry.path().join(LOCK))?.try_lock().is_ok() {
            Self::restore(&entry.path(), blobs)?;
            fs::remove_dir_all(entry.path())?;
            return Ok(None);
        }
        Ok(entry.file_name().to_str().and_then(|name| name.parse().ok()))
    }

    /// Puts blobs back that a process had taken aside and not removed: a row may name them.
    fn restore(folder: &Path, blobs: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(ASIDE));
            if let Some(sha256) = name.and_then(|name| name.parse::<Sha256>().ok()) {
                put_back(&path, &place(blobs, &sha256))?;
            }
        }
        Ok(())
    }

    /// Whether a process has the blobs under `blobs` open. Blocking.
    pub(crate) fn in_use(blobs: &Path) -> bool {
        let Ok(entries) = fs::read_dir(blobs.join("staging")) else { return false };
        entries.flatten().any(|entry| {
            let lock = File::open(entry.path().join(LOCK));
            lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)))
        })
    }

    /// The name of a blob that is taken from its place; one party at a time takes any.
    pub(crate) fn aside(&self, sha256: &Sha256) -> PathBuf {
        self.folder.join(format!("{sha256}{ASIDE}"))
    }

    /// A name nobody else uses.
    pub(crate) fn fresh(&self) -> PathBuf {
        self.folder.join(format!("{}.part", self.next.fetch_add(1, Ordering::Relaxed)))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
