//! A backbone's folder in the making: it has another name until it is whole, and goes away where it never is.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use headstart_engine::{Folder, MANIFEST};
use headstart_types::Manifest;

use super::facts::Facts;
use crate::config::Config;

/// A folder in the making.
pub(super) struct Draft<'a> {
    config: &'a Config,
    id: String,
    place: PathBuf,
    folder: PathBuf,
    facts: Facts,
    notes: Vec<String>,
    finished: bool,
}

impl<'a> Draft<'a> {
    /// Begins in the first models folder, beside the place it is to have, which must be free.
    pub(super) fn begin(config: &'a Config, id: &str, facts: Facts) -> anyhow::Result<Self> {
        let models = config.models.first().context("`models` names no folder")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        ensure!(
            !id.is_empty() && !id.starts_with('.') && id.chars().all(plain),
            "`--id` is `{id}`; it may hold letters, digits, '-', '_' and '.', and does not begin with '.'"
        );
        let place = models.join(id);
        ensure!(!place.exists(), "{} is there already: remove it or choose another `--id`", place.display());
        std::fs::create_dir_all(models).with_context(|| models.display().to_string())?;
        let folder = models.join(format!(".{id}.importing"));
        if let Err(error) = std::fs::create_dir(&folder) {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                bail!(
                    "{} is there: another import makes it, or one was cut off; remove it then",
                    folder.display()
                );
            }
            return Err(error).with_context(|| folder.display().to_string());
        }
        Ok(Self { config, id: id.to_owned(), place, folder, facts, notes: Vec::new(), finished: false })
    }

    /// The options in force.
    pub(super) fn config(&self) -> &'a Config {
        self.config
    }

    /// The backbone's name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Where its files go.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is decided of the manifest.
    pub(super) fn facts(&mut self) -> &mut Facts {
        &mut self.facts
    }

    /// Something that was found out or guessed, to be told in the end.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        let told = self.facts.take_told();
        self.notes.extend(told);
        self.notes.push(note.into());
    }

    /// What there is to tell.
    pub(super) fn notes(&mut self) -> Vec<String> {
        let told = self.facts.take_told();
        self.notes.extend(told);
        std::mem::take(&mut self.notes)
    }

    /// Copies a file to a place in the folder, read-only; its SHA-256.
    pub(super) fn copy(&self, from: &Path, name: &str) -> anyhow::Result<String> {
        let to = self.folder.join(name);
        let copy = || -> std::io::Result<()> {
            to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::copy(from, &to)?;
            self.seal(name)
        };
        copy().with_context(|| format!("{} to {}", from.display(), to.display()))?;
        Ok(Folder::digest(&to)?)
    }

    /// Makes a file durable and read-only.
    pub(super) fn seal(&self, name: &str) -> std::io::Result<()> {
        let file = std::fs::File::open(self.folder.join(name))?;
        file.sync_all()?;
        let mut permissions = file.metadata()?.permissions();
        permissions.set_readonly(true);
        file.set_permissions(permissions)
    }

    /// Writes a file, durable and read-only.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        use std::io::Write as _;

        let path = self.folder.join(name);
        let write = || -> std::io::Result<()> {
            std::fs::File::create_new(&path)?.write_all(bytes)?;
            self.seal(name)
        };
        write().with_context(|| path.display().to_string())
    }

    /// Writes the manifest, after checking it as a server would.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let text = toml::to_string(manifest)?;
        ensure!(Manifest::parse(&text)? == *manifest, "the manifest does not come back from its text");
        std::fs::write(self.folder.join(MANIFEST), text)?;
        Ok(())
    }

    /// Brings the folder to its place, which it gives.
    pub(super) fn finish(mut self) -> anyhow::Result<PathBuf> {
        std::fs::File::open(&self.folder)?.sync_all()?;
        std::fs::rename(&self.folder, &self.place).with_context(|| self.place.display().to_string())?;
        self.finished = true;
        Ok(self.place.clone())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
