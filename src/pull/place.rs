//! A backbone's folder while it is fetched. It is hidden, stays when the pull is cut off, and comes to its place whole.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use headstart_types::Manifest;

use super::transfer::{Fetched, hex, measure};

/// A folder in the making.
pub(super) struct Staging {
    id: String,
    place: PathBuf,
    root: PathBuf,
}

impl Staging {
    /// Begins, or goes on where an earlier pull of the same name was cut off.
    pub(super) fn open(models: &Path, id: &str) -> anyhow::Result<Self> {
        let root = models.join(format!(".{id}.pulling"));
        let parts = root.join("parts");
        std::fs::create_dir_all(&parts).with_context(|| parts.display().to_string())?;
        Ok(Self { id: id.to_owned(), place: models.join(id), root })
    }

    /// Where a file's bytes are gathered: by what it is to become where that is known, so that a part that was begun is
    /// found again wherever the file has moved, and is never taken for another.
    pub(super) fn part(&self, file: &str, sha256: Option<&str>) -> PathBuf {
        let name = sha256.map_or_else(|| file.replace('/', "@"), str::to_owned);
        self.root.join("parts").join(name)
    }

    /// The folder that holds the backbone's, as a models folder would.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The backbone's folder, under the name it will have.
    pub(super) fn folder(&self) -> PathBuf {
        self.root.join(&self.id)
    }

    /// Makes the folder of parts that are whole, anew.
    pub(super) fn assemble<'a>(&self, files: impl Iterator<Item = (&'a str, PathBuf)>) -> anyhow::Result<()> {
        let folder = self.folder();
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        for (file, part) in files {
            let path = folder.join(file);
            let link = || -> std::io::Result<()> {
                std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
                // The part stays: should the folder not load, nothing is fetched twice.
                std::fs::hard_link(&part, &path).or_else(|_| std::fs::copy(&part, &path).map(drop))
            };
            link().with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Writes the manifest; its digest.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> anyhow::Result<String> {
        use sha2::Digest as _;

        let text = toml::to_string(manifest)?;
        ensure!(Manifest::parse(&text)? == *manifest, "the manifest does not come back from its text");
        std::fs::write(self.folder().join("headstart.toml"), &text)?;
        Ok(hex(&sha2::Sha256::digest(text.as_bytes())))
    }

    /// Makes all of it durable.
    pub(super) fn sync<'a>(&self, files: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
        let folder = self.folder();
        for path in files.chain(["headstart.toml", ""]).map(|file| folder.join(file)) {
            let sync = || std::fs::File::open(&path)?.sync_all();
            sync().with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Brings the folder to its place, in which there may be an older one, makes the backbone's files read-only, and
    /// clears up. A process that has files of the older one open keeps them.
    pub(super) fn publish<'a>(self, files: impl Iterator<Item = &'a str>) -> anyhow::Result<PathBuf> {
        let context = || self.place.display().to_string();
        let older = self.root.join("older");
        if self.place.exists() {
            if older.exists() {
                std::fs::remove_dir_all(&older).with_context(context)?;
            }
            std::fs::rename(&self.place, &older).with_context(context)?;
        }
        std::fs::rename(self.folder(), &self.place).with_context(context)?;
        for path in files.map(|file| self.place.join(file)) {
            let seal = || -> std::io::Result<()> {
                let mut permissions = std::fs::metadata(&path)?.permissions();
                permissions.set_readonly(true);
                std::fs::set_permissions(&path, permissions)
            };
            seal().with_context(|| path.display().to_string())?;
        }
        std::fs::remove_dir_all(&self.root).with_context(|| self.root.display().to_string())?;
        Ok(self.place)
    }
}

/// Copies a file of this machine into a part; nothing unless it is what is expected.
pub(super) fn copy_in(from: &Path, part: &Path, sha256: Option<&str>) -> anyhow::Result<Option<Fetched>> {
    std::fs::copy(from, part).with_context(|| from.display().to_string())?;
    // The cache's files may be read-only, and the part may have to be written again.
    let mut permissions = std::fs::metadata(part)?.permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "it is nobody's but this process's")]
    permissions.set_readonly(false);
    std::fs::set_permissions(part, permissions)?;
    let found = measure(part)?;
    if sha256.is_none_or(|expected| expected == found.sha256) {
        return Ok(Some(found));
    }
    std::fs::remove_file(part)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_to_its_place_whole_and_takes_an_older_ones() {
        let models = tempfile::tempdir().unwrap();
        let made = |content: &str| {
            let staging = Staging::open(models.path(), "a").unwrap();
            let part = staging.part("onnx/model.onnx", Some("0"));
            std::fs::write(&part, content).unwrap();
            staging.assemble([("onnx/model.onnx", part)].into_iter()).unwrap();
            assert!(staging.folder().join("onnx/model.onnx").exists());
            staging
        };
        let file = models.path().join("a/onnx/model.onnx");
        assert!(!file.exists());
        let first = made("one");
        assert!(!file.exists(), "it is in its place before it is published");
        first.publish(["onnx/model.onnx"].into_iter()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
        assert!(std::fs::metadata(&file).unwrap().permissions().readonly());
        made("two").publish(["onnx/model.onnx"].into_iter()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(std::fs::read_dir(models.path()).unwrap().count(), 1, "something was left over");
    }
}
