//! A backbone's folder while it is fetched. It is hidden, stays when the pull is cut off, and comes to its place whole.

use std::fs::{File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
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
        // They are the same files: a pull that is cut off here must not leave read-only ones to write to.
        gone(std::fs::remove_dir_all(self.root.join("parts"))).with_context(context)?;
        for path in files.map(|file| self.place.join(file)) {
            // Those that were copied are nobody else's so far; who may come here, the folder says.
            let seal = || std::fs::set_permissions(&path, Permissions::from_mode(0o444));
            seal().with_context(|| path.display().to_string())?;
        }
        std::fs::remove_dir_all(&self.root).with_context(|| self.root.display().to_string())?;
        Ok(self.place)
    }
}

/// Copies a file of this machine into a part; nothing unless it is what is expected. The part stays as it is until then:
/// what was fetched of it is not lost to a file that is another.
pub(super) fn copy_in(from: &Path, part: &Path, sha256: Option<&str>) -> anyhow::Result<Option<Fetched>> {
    // Another file takes no room.
    if let Some(expected) = sha256
        && measure(from)?.sha256 != expected
    {
        return Ok(None);
    }
    let mut copy = part.as_os_str().to_owned();
    copy.push(".copy");
    let copy = PathBuf::from(copy);
    let written = || -> std::io::Result<()> {
        // What an earlier pull left, which may be read-only.
        gone(std::fs::remove_file(&copy))?;
        let mut into = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy)?;
        std::io::copy(&mut File::open(from)?, &mut into).map(drop)
    };
    written().with_context(|| from.display().to_string())?;
    let found = measure(&copy)?;
    if sha256.is_none_or(|expected| expected == found.sha256) {
        std::fs::rename(&copy, part).with_context(|| part.display().to_string())?;
        return Ok(Some(found));
    }
    std::fs::remove_file(&copy)?;
    Ok(None)
}

/// What was not there is as good as removed.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
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

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_that_is_another_leaves_what_was_fetched_of_a_part() {
        let folder = tempfile::tempdir().unwrap();
        let (old, part) = (folder.path().join("model.onnx"), folder.path().join("part"));
        std::fs::write(&old, "older").unwrap();
        std::fs::set_permissions(&old, Permissions::from_mode(0o444)).unwrap();
        std::fs::write(&part, "new").unwrap();
        assert_eq!(copy_in(&old, &part, Some(&"0".repeat(64))).unwrap(), None);
        assert_eq!(std::fs::read_to_string(&part).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "the copy was left over");
    }

    #[test]
    fn a_copied_part_may_be_written_by_its_owner_alone_and_is_readable_in_its_place() {
        let models = tempfile::tempdir().unwrap();
        let old = models.path().join("old");
        std::fs::write(&old, "whole").unwrap();
        let sha256 = measure(&old).unwrap().sha256;
        let staging = Staging::open(models.path(), "a").unwrap();
        let part = staging.part("model.onnx", Some(&sha256));
        // An earlier pull was cut off while it copied.
        let begun = PathBuf::from(format!("{}.copy", part.display()));
        std::fs::write(&begun, "wh").unwrap();
        for from in [&old, &begun] {
            std::fs::set_permissions(from, Permissions::from_mode(0o444)).unwrap();
        }
        assert_eq!(copy_in(&old, &part, Some(&sha256)).unwrap().unwrap().size, 5);
        assert_eq!((mode(&part), begun.exists()), (0o600, false));
        staging.assemble([("model.onnx", part)].into_iter()).unwrap();
        std::fs::write(staging.folder().join("headstart.toml"), "").unwrap();
        let place = staging.publish(["model.onnx"].into_iter()).unwrap();
        assert_eq!(mode(&place.join("model.onnx")), 0o444);
    }
}
