//! The cache that the hub's own clients keep on this machine; only read here.

use std::path::{Path, PathBuf};

use super::answers::is_commit;

/// A cache, which need not be there.
#[derive(Debug, Clone)]
pub(super) struct Cache(PathBuf);

impl Cache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// The commit that a revision was when a client last asked for it.
    pub(super) fn commit(&self, repository: &str, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let stated = std::fs::read_to_string(self.repository(repository).join("refs").join(revision)).ok()?;
        Some(stated.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// A file of a commit, if a client fetched it.
    pub(super) fn file(&self, repository: &str, commit: &str, file: &str) -> Option<PathBuf> {
        let path = self.repository(repository).join("snapshots").join(commit).join(file);
        path.is_file().then_some(path)
    }

    fn repository(&self, repository: &str) -> PathBuf {
        self.0.join(format!("models--{}", repository.replace('/', "--")))
    }
}
