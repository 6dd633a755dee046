//! A backbone's folder in the making: it has another name until it is whole, and goes away where it never is.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use headstart_types::Manifest;

/// A folder in the making.
pub(super) struct Draft {
    id: String,
    place: PathBuf,
    folder: PathBuf,
    notes: Vec<String>,
    finished: bool,
}

impl Draft {
    /// Begins beside the place it is to have, which must be free.
    pub(super) fn begin(models: &Path, id: &str) -> anyhow::Result<Self> {
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
        Ok(Self { id: id.to_owned(), place, folder, notes: Vec::new(), finished: false })
    }

    /// The backbone's name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Where its files go.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Something that was found out or guessed, to be told at the end.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Writes a file, durable and read-only.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        use std::io::Write as _;

        let path = self.folder.join(name);
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::File::create_new(&path)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            let mut permissions = file.metadata()?.permissions();
            permissions.set_readonly(true);
            file.set_permissions(permissions)
        };
        write().with_context(|| path.display().to_string())
    }

    /// Writes the manifest, after checking it as a server would.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let text = toml::to_string(manifest)?;
        ensure!(Manifest::parse(&text)? == *manifest, "the manifest does not come back from its text");
        std::fs::write(self.folder.join("headstart.toml"), text)?;
        Ok(())
    }

    /// Brings the folder to its place; gives the place and what there is to tell.
    pub(super) fn finish(mut self) -> anyhow::Result<(PathBuf, Vec<String>)> {
        std::fs::File::open(&self.folder)?.sync_all()?;
        std::fs::rename(&self.folder, &self.place).with_context(|| self.place.display().to_string())?;
        self.finished = true;
        Ok((self.place.clone(), std::mem::take(&mut self.notes)))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
