//! Blobs in a folder: `aa/bb…`, each moved to its name only once its bytes are on the disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use headstart_types::ids::Sha256;
use sha2::Digest as _;

use super::staging::{self, Staging};
use super::{BlobInfo, BlobReader, BlobStore, BlobWriter, Withdrawn, Young};
use crate::error::StoreError;

/// Bytes gathered before they go to the disk, off the runtime's threads.
const CHUNK: usize = 1 << 20;

/// A folder of blobs.
pub struct LocalBlobs {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    staging: Staging,
}

impl LocalBlobs {
    /// Opens or makes a folder of blobs and clears what dead processes left in staging. Blocking.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let staging = Staging::open(&root.join("staging"))
            .map_err(|error| StoreError::io("open the folder of blobs", error))?;
        Ok(Self { inner: Arc::new(Inner { root: root.to_owned(), staging }) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| StoreError::Closed)?
    }
}

/// Where a blob is under the root.
pub(crate) fn place(root: &Path, sha256: &Sha256) -> PathBuf {
    let (folder, name) = sha256.as_str().split_at(2);
    root.join(folder).join(name)
}

fn info_of(sha256: &Sha256, data: &fs::Metadata) -> BlobInfo {
    let written = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let written_at = written.map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    BlobInfo { sha256: sha256.clone(), bytes: data.len(), written_at }
}

impl Inner {
    fn info(&self, sha256: &Sha256) -> Result<Option<BlobInfo>, StoreError> {
        match fs::metadata(place(&self.root, sha256)) {
            Ok(data) => Ok(Some(info_of(sha256, &data))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(format!("look at blob {sha256}"), error)),
        }
    }

    fn list(&self, first: u8) -> io::Result<Vec<BlobInfo>> {
        let folder = format!("{first:02x}");
        let entries = match fs::read_dir(self.root.join(&folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut blobs = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(Ok(sha256)) = name.to_str().map(|name| format!("{folder}{name}").parse()) else {
                continue;
            };
            match entry.metadata() {
                Ok(data) => blobs.push(info_of(&sha256, &data)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        blobs.sort_by(|a, b| a.sha256.cmp(&b.sha256));
        Ok(blobs)
    }

    /// Takes a file from its name. Its age is looked at before, so that a young one never lacks its name, and again after:
    /// one that was written in between is another file.
    fn withdraw(&self, sha256: &Sha256, young: Young) -> io::Result<Option<Aside>> {
        let is_old =
            |path: &Path| fs::metadata(path).map(|data| !young.holds(info_of(sha256, &data).written_at));
        let name = place(&self.root, sha256);
        let path = self.staging.aside(sha256);
        let taken = match is_old(&name) {
            Ok(false) => return Ok(None),
            Ok(true) => fs::rename(&name, &path),
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Aside { name, path: None }));
            }
            Err(error) => return Err(error),
        }
        let mut aside = Aside { name, path: Some(path.clone()) };
        if is_old(&path)? {
            return Ok(Some(aside));
        }
        aside.put_back()?;
        Ok(None)
    }

    fn collector_lock(&self) -> io::Result<File> {
        File::create(self.root.join("collect.lock"))
    }
}

#[async_trait]
impl BlobStore for LocalBlobs {
    async fn begin(&self) -> Result<Box<dyn BlobWriter>, StoreError> {
        let inner = self.inner.clone();
        let part = self.blocking(|inner| Part::create(inner.staging.fresh())).await?;
        Ok(Box::new(LocalWriter { inner, part: Some(part), gathered: Vec::new() }))
    }

    async fn open(&self, sha256: &Sha256) -> Result<BlobReader, StoreError> {
        match tokio::fs::File::open(place(&self.inner.root, sha256)).await {
            Ok(mut file) => {
                file.set_max_buf_size(CHUNK);
                Ok(Box::new(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::missing("blob", sha256)),
            Err(error) => Err(StoreError::io(format!("open blob {sha256}"), error)),
        }
    }

    async fn path(&self, sha256: &Sha256) -> Result<PathBuf, StoreError> {
        match self.info(sha256).await? {
            Some(_) => Ok(place(&self.inner.root, sha256)),
            None => Err(StoreError::missing("blob", sha256)),
        }
    }

    async fn info(&self, sha256: &Sha256) -> Result<Option<BlobInfo>, StoreError> {
        let sha256 = sha256.clone();
        self.blocking(move |inner| inner.info(&sha256)).await
    }

    async fn list(&self, first: u8) -> Result<Vec<BlobInfo>, StoreError> {
        self.blocking(move |inner| inner.list(first).map_err(|error| StoreError::io("list blobs", error)))
            .await
    }

    async fn withdraw(
        &self,
        sha256: &Sha256,
        young: Young,
    ) -> Result<Option<Box<dyn Withdrawn>>, StoreError> {
        let sha256 = sha256.clone();
        let work = move |inner: &Inner| {
            let taken = inner.withdraw(&sha256, young);
            taken.map_err(|error| StoreError::io(format!("withdraw blob {sha256}"), error))
        };
        Ok(self.blocking(work).await?.map(|aside| Box::new(aside) as Box<dyn Withdrawn>))
    }

    async fn tidy(&self) -> Result<(), StoreError> {
        let tidied = |error| StoreError::io("clear what was left of blobs", error);
        self.blocking(move |inner| Staging::clear(&inner.root.join("staging")).map(drop).map_err(tidied))
            .await
    }

    async fn freeze(&self) -> Result<Box<dyn Send + Sync>, StoreError> {
        let lock = |inner: &Inner| inner.collector_lock().and_then(|file| file.lock_shared().map(|()| file));
        let locked =
            self.blocking(move |inner| lock(inner).map_err(|error| StoreError::io("freeze blobs", error)));
        Ok(Box::new(locked.await?))
    }

    async fn thaw(&self) -> Result<Option<Box<dyn Send + Sync>>, StoreError> {
        let lock = |inner: &Inner| match inner.collector_lock().map(|file| (file.try_lock(), file)) {
            Ok((Ok(()), file)) => Ok(Some(file)),
            Ok((Err(fs::TryLockError::WouldBlock), _)) => Ok(None),
            Ok((Err(fs::TryLockError::Error(error)), _)) | Err(error) => {
                Err(StoreError::io("lock blobs", error))
            }
        };
        Ok(self.blocking(lock).await?.map(|file| Box::new(file) as Box<dyn Send + Sync>))
    }
}

/// A file that was taken from its name.
struct Aside {
    name: PathBuf,
    /// Where it is; `None` once it has its name back, and where there was none.
    path: Option<PathBuf>,
}

impl Aside {
    fn put_back(&mut self) -> io::Result<()> {
        self.path.take().map_or(Ok(()), |path| staging::put_back(&path, &self.name))
    }

    async fn settled(
        mut self: Box<Self>,
        settle: impl FnOnce(&mut Self) -> io::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let settled = tokio::task::spawn_blocking(move || settle(&mut self)).await;
        settled
            .map_err(|_| StoreError::Closed)?
            .map_err(|error| StoreError::io("settle a withdrawn blob", error))
    }
}

#[async_trait]
impl Withdrawn for Aside {
    async fn remove(self: Box<Self>) -> Result<(), StoreError> {
        self.settled(|aside| aside.path.take().map_or(Ok(()), fs::remove_file)).await
    }

    async fn put_back(self: Box<Self>) -> Result<(), StoreError> {
        self.settled(Self::put_back).await
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // What cannot be put back now is put back at the next start.
        let _ = self.put_back();
    }
}

/// A file in staging with the digest of what is in it.
struct Part {
    path: PathBuf,
    file: File,
    digest: sha2::Sha256,
}

impl Part {
    fn create(path: PathBuf) -> Result<Self, StoreError> {
        let file = File::options().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| StoreError::io("begin a blob", error))?;
        Ok(Self { path, file, digest: sha2::Sha256::new() })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.digest.update(bytes);
        self.file.write_all(bytes).map_err(|error| StoreError::io("write a blob", error))
    }

    /// Moves the file to its name. A blob of that name is replaced by its equal, so that it counts as just written.
    fn settle(mut self, root: &Path) -> Result<BlobInfo, StoreError> {
        let sha256 = Sha256::from_bytes(std::mem::take(&mut self.digest).finalize().into());
        let to = place(root, &sha256);
        let settle = || -> io::Result<BlobInfo> {
            self.file.sync_all()?;
            let folder = to.parent().unwrap_or(root);
            fs::create_dir_all(folder)?;
            // Also when it was there: whoever made it may not have come this far.
            sync_folder(root)?;
            fs::rename(&self.path, &to)?;
            sync_folder(folder)?;
            Ok(info_of(&sha256, &self.file.metadata()?))
        };
        settle().map_err(|error| StoreError::io("finish a blob", error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After `settle` nothing has this name any more: names in staging are used once.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

struct LocalWriter {
    inner: Arc<Inner>,
    /// `None` once a write has failed or was given up half-way.
    part: Option<Part>,
    gathered: Vec<u8>,
}

impl LocalWriter {
    async fn flush(&mut self) -> Result<(), StoreError> {
        let mut part = self.part.take().ok_or(StoreError::Bug("a blob is written on after it failed"))?;
        let bytes = std::mem::take(&mut self.gathered);
        let append = move || part.append(&bytes).map(|()| (part, bytes));
        let (part, mut bytes) =
            tokio::task::spawn_blocking(append).await.map_err(|_| StoreError::Closed)??;
        bytes.clear();
        (self.part, self.gathered) = (Some(part), bytes);
        Ok(())
    }
}

#[async_trait]
impl BlobWriter for LocalWriter {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        for piece in bytes.chunks(CHUNK) {
            self.gathered.extend_from_slice(piece);
            if self.gathered.len() >= CHUNK {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<BlobInfo, StoreError> {
        self.flush().await?;
        let part = self.part.take().ok_or(StoreError::Bug("a finished blob has no file"))?;
        let inner = self.inner.clone();
        let settled = tokio::task::spawn_blocking(move || part.settle(&inner.root)).await;
        settled.map_err(|_| StoreError::Closed)?
    }

    async fn abort(mut self: Box<Self>) -> Result<(), StoreError> {
        let part = self.part.take();
        tokio::task::spawn_blocking(move || drop(part)).await.map_err(|_| StoreError::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_of_its_own() {
        let path = PathBuf::from("/dev/full");
        let file = File::options().write(true).open(&path).unwrap();
        let mut part = std::mem::ManuallyDrop::new(Part { path, file, digest: sha2::Sha256::new() });
        assert!(matches!(part.append(b"bytes"), Err(StoreError::DiskFull)));
    }
}
