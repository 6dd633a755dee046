//! `headstart.lock` in the models folder: what every pulled backbone was made of, down to each file's digest.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::answers::is_commit;
use super::paths;

/// The file's name, and the format this build reads.
const NAME: &str = "headstart.lock";
const VERSION: u32 = 1;

const HEADING: &str = "# Written by `headstart pull`, which compares what it finds and fetches with this.\n";

/// The lock file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    version: u32,
    /// Backbones by their names.
    #[serde(default)]
    pub(super) backbones: BTreeMap<String, Locked>,
}

/// What a backbone was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Locked {
    /// The entry that it was pulled by: a name of the catalogue, or a file.
    pub(super) entry: String,
    /// Owner and name at the hub.
    pub(super) repository: String,
    /// What was asked for.
    pub(super) revision: String,
    /// What that was.
    pub(super) commit: String,
    /// SHA-256 of the manifest that the pull wrote; it may be corrected by hand.
    pub(super) manifest: String,
    /// Files by their paths.
    pub(super) files: BTreeMap<String, LockedFile>,
}

/// A file of a backbone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockedFile {
    /// Bytes.
    pub(super) size: u64,
    /// SHA-256, lower-case hex.
    pub(super) sha256: String,
}

impl Lock {
    /// Reads a models folder's lock file; an empty one where there is none.
    ///
    /// # Errors
    /// When it cannot be read, another build wrote it, or somebody else did.
    pub(super) fn read(models: &Path) -> anyhow::Result<Self> {
        let path = models.join(NAME);
        let context = || path.display().to_string();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { version: VERSION, backbones: BTreeMap::new() });
            }
            Err(error) => return Err(error).with_context(context),
        };
        Self::parse(&text).with_context(context)
    }

    /// One backbone's entry on its own.
    pub(super) fn of(id: &str, locked: Locked) -> Self {
        Self { version: VERSION, backbones: BTreeMap::from([(id.to_owned(), locked)]) }
    }

    /// Removes a folder's lock file, if it has one.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn remove(folder: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(folder.join(NAME)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Reads a lock file's text.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let lock: Self = toml::from_str(text)?;
        ensure!(lock.version == VERSION, "`version` is {}; this build reads {VERSION}", lock.version);
        for (id, locked) in &lock.backbones {
            let hex = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let good = is_commit(&locked.commit)
                && locked.files.iter().all(|(path, file)| paths::is_inside(path) && hex(&file.sha256));
            ensure!(good, "the entry `{id}` is damaged");
        }
        Ok(lock)
    }

    /// What a file of it says.
    ///
    /// # Errors
    /// When a number is too large for TOML.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        Ok(format!("{HEADING}{}", toml::to_string(self)?))
    }

    /// Writes it in the place of the one that was.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn write(&self, models: &Path) -> anyhow::Result<()> {
        let (path, draft) = (models.join(NAME), models.join(format!(".{NAME}.new")));
        let text = self.text()?;
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)
        };
        write().with_context(|| path.display().to_string())
    }
}

/// One pull at a time in a models folder; ends with the value, or the process.
pub(super) struct Turn {
    _file: std::fs::File,
}

impl Turn {
    /// Takes the turn.
    ///
    /// # Errors
    /// When another process has it.
    pub(super) fn take(models: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(models).with_context(|| models.display().to_string())?;
        let path: PathBuf = models.join(".headstart.pulling");
        let file = std::fs::File::create(&path).with_context(|| path.display().to_string())?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => {
                anyhow::bail!("another `headstart pull` is at work in {}", models.display())
            }
            Err(std::fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| path.display().to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        let file = LockedFile { size: 3, sha256: "a".repeat(64) };
        let locked = Locked {
            entry: "a".into(),
            repository: "o/n".into(),
            revision: "main".into(),
            commit: "0".repeat(40),
            manifest: "b".repeat(64),
            files: BTreeMap::from([("onnx/model.onnx".into(), file)]),
        };
        Lock { version: VERSION, backbones: BTreeMap::from([("a.b".into(), locked)]) }
    }

    #[test]
    fn a_lock_file_comes_back_and_one_that_was_tampered_with_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Lock::read(folder.path()).unwrap().backbones.is_empty());
        lock().write(folder.path()).unwrap();
        assert_eq!(Lock::read(folder.path()).unwrap(), lock());
        let path = folder.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("onnx/model", "../model"),
            ("size = 3", "size = -3"),
            ("aaaa", "zzzz"),
            ("version = 1", "version = 2"),
        ] {
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            Lock::read(folder.path()).unwrap_err();
        }
    }

    #[test]
    fn two_pulls_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let turn = Turn::take(folder.path()).unwrap();
        Turn::take(folder.path()).map(drop).unwrap_err();
        drop(turn);
        Turn::take(folder.path()).unwrap();
    }
}
