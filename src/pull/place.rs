//! A backbone's folder while it is fetched. It is hidden, stays when the pull is cut off, and comes to its place whole.

use std::fs::{File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use headstart_engine::MANIFEST;
use headstart_types::{Manifest, hex};

use super::lock::{Lock, Locked};
use super::transfer::{Fetched, measure};

/// A folder in the making.
pub(super) struct Staging {
    id: String,
    place: PathBuf,
    root: PathBuf,
    /// What was in the place when the pull began.
    found: Option<Standing>,
}

/// What stands in a place, so that it is told from what comes there later.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Standing {
    device: u64,
    inode: u64,
    // An inode that became free is given away again.
    made: Option<SystemTime>,
}

/// A file that is taken over from the older folder, by its path there and in the new one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) was: PathBuf,
    pub(super) is: PathBuf,
}

// No backbone's name begins with a dot: nothing in the hidden folder is taken for the backbone's own.
const PARTS: &str = ".parts";
const OLDER: &str = ".older";

/// What stands in a place; nothing where nothing does.
pub(super) fn standing(place: &Path) -> Option<Standing> {
    let there = std::fs::symlink_metadata(place).ok()?;
    Some(Standing { device: there.dev(), inode: there.ino(), made: there.created().ok() })
}

impl Staging {
    /// Begins, or goes on where an earlier pull of the same name was cut off. `found` is what was in the place before.
    pub(super) fn open(models: &Path, id: &str, found: Option<Standing>) -> anyhow::Result<Self> {
        let root = models.join(format!(".{id}.pulling"));
        let parts = root.join(PARTS);
        std::fs::create_dir_all(&parts).with_context(|| parts.display().to_string())?;
        let mut staging = Self { id: id.to_owned(), place: models.join(id), root, found };
        staging.ensure_as_found()?;
        staging.recover().with_context(|| staging.place.display().to_string())?;
        Ok(staging)
    }

    /// Puts right what a pull left that was killed while it published: between its two renames no folder is in the place.
    fn recover(&mut self) -> std::io::Result<()> {
        let older = self.root.join(OLDER);
        let is_there = standing(&older).is_some();
        if is_there && self.found.is_none() {
            std::fs::rename(&older, &self.place)?;
            self.found = standing(&self.place);
        } else if is_there {
            // What was known of the older one says nothing of the one in its place.
            Lock::remove(&self.root)?;
            std::fs::remove_dir_all(&older)?;
        }
        if self.found.is_none() { Lock::remove(&self.root) } else { Ok(()) }
    }

    /// What the folder in the place was made of, where a pull that was cut off has written the lock file for another.
    pub(super) fn made_of(&self) -> Option<Locked> {
        // One that was not written whole is of a pull that left the lock file as it was.
        Lock::read(&self.root).ok()?.backbones.remove(&self.id)
    }

    /// Keeps what the folder in the place was made of until another is there: the lock file is written before.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn remember(&self, made_of: &Locked) -> anyhow::Result<()> {
        Lock::of(&self.id, made_of.clone()).write(&self.root)
    }

    /// What came to the place while files were fetched is somebody else's.
    ///
    /// # Errors
    /// When there is such a thing.
    pub(super) fn ensure_as_found(&self) -> anyhow::Result<()> {
        let now = standing(&self.place);
        ensure!(
            now.is_none() || now == self.found,
            "{} came there meanwhile and was not pulled: remove it, or choose another `--id`",
            self.place.display()
        );
        Ok(())
    }

    /// Where a file's bytes are gathered: by what it is to become where that is known, so that a part that was begun is
    /// found again wherever the file has moved, and is never taken for another.
    pub(super) fn part(&self, file: &str, sha256: Option<&str>) -> PathBuf {
        let name = sha256.map_or_else(|| file.replace('/', "@"), str::to_owned);
        self.root.join(PARTS).join(name)
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

    /// Takes files over from the folder in the place, all but those that the older pull brought. One whose name the new
    /// folder needs itself gets another.
    pub(super) fn keep(&self, pulled: impl Fn(&Path) -> bool) -> anyhow::Result<Vec<Kept>> {
        if self.found.is_none() {
            return Ok(Vec::new());
        }
        let context = || self.place.display().to_string();
        let mut files = files_under(&self.place).with_context(context)?;
        files.retain(|file| !pulled(file));
        let taken = |file: &Path| standing(&self.folder().join(file)).is_some();
        // Names that are free first: none of them is given to another file.
        files.sort_by_cached_key(|file| (taken(file), file.clone()));
        let mut kept = Vec::new();
        for was in files {
            let path = self.place.join(&was);
            if let Some(is) = self.keep_one(&path, &was).with_context(|| path.display().to_string())? {
                kept.push(Kept { was, is });
            }
        }
        Ok(kept)
    }

    /// Takes a file over; its path in the new folder, which has it already where there is none.
    fn keep_one(&self, from: &Path, file: &Path) -> anyhow::Result<Option<PathBuf>> {
        let folder = self.folder();
        for name in std::iter::once(file.to_path_buf()).chain((1..).map(|count| before(file, count))) {
            let to = folder.join(&name);
            if standing(&to).is_none() {
                std::fs::create_dir_all(to.parent().unwrap_or(&folder))?;
                std::fs::hard_link(from, &to).or_else(|_| copied(from, &to))?;
                return Ok(Some(name));
            }
            if from.is_file() && to.is_file() && measure(from)? == measure(&to)? {
                break;
            }
        }
        Ok(None)
    }

    /// Writes the manifest; its digest.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> anyhow::Result<String> {
        use sha2::Digest as _;

        let text = toml::to_string(manifest)?;
        ensure!(Manifest::parse(&text)? == *manifest, "the manifest does not come back from its text");
        std::fs::write(self.folder().join(MANIFEST), &text)?;
        Ok(hex(&sha2::Sha256::digest(text.as_bytes())))
    }

    /// Makes all of it durable.
    pub(super) fn sync<'a>(&self, files: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
        let folder = self.folder();
        for path in files.chain([MANIFEST, ""]).map(|file| folder.join(file)) {
            let sync = || std::fs::File::open(&path)?.sync_all();
            sync().with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Brings the folder to its place, in which there may be an older one, makes the backbone's files read-only, and
    /// clears up. A process that has files of the older one open keeps them.
    ///
    /// # Errors
    /// As [`Self::ensure_as_found`]; when the system refuses.
    pub(super) fn publish<'a>(self, files: impl Iterator<Item = &'a str>) -> anyhow::Result<PathBuf> {
        let context = || self.place.display().to_string();
        self.ensure_as_found()?;
        if standing(&self.place).is_some() {
            std::fs::rename(&self.place, self.root.join(OLDER)).with_context(context)?;
        }
        // A folder that came at this very moment is not written over: it is not empty.
        std::fs::rename(self.folder(), &self.place).with_context(context)?;
        Lock::remove(&self.root).with_context(context)?;
        // They are the same files: a pull that is cut off here must not leave read-only ones to write to.
        gone(std::fs::remove_dir_all(self.root.join(PARTS))).with_context(context)?;
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

/// Every file under a folder, by its path in it; links are files.
fn files_under(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(within) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&within))? {
            let entry = entry?;
            let path = within.join(entry.file_name());
            if entry.file_type()?.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

/// What a file is called beside the one that has its name now: `FILE.before`, `FILE.before.2` and so on.
fn before(file: &Path, count: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".before");
    if count > 1 {
        name.push(format!(".{count}"));
    }
    name.into()
}

/// A copy that a loss of power leaves whole.
fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::copy(from, to)?;
    File::open(to)?.sync_all()
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

    fn open(models: &Path) -> Staging {
        Staging::open(models, "a", standing(&models.join("a"))).unwrap()
    }

    #[test]
    fn a_folder_comes_to_its_place_whole_and_takes_an_older_ones() {
        let models = tempfile::tempdir().unwrap();
        let made = |content: &str| {
            let staging = open(models.path());
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

    #[test]
    fn what_was_not_pulled_is_kept_under_a_name_that_is_free() {
        let models = tempfile::tempdir().unwrap();
        let place = models.path().join("a");
        std::fs::create_dir_all(place.join("own")).unwrap();
        let written =
            [("headstart.toml", "two"), ("headstart.toml.before", "one"), ("own/a", ""), ("same", "")];
        for (file, content) in written.into_iter().chain([("model.onnx", "older")]) {
            std::fs::write(place.join(file), content).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", place.join("link")).unwrap();
        let staging = open(models.path());
        staging.assemble(std::iter::empty()).unwrap();
        for (file, content) in [("headstart.toml", "three"), ("same", "")] {
            std::fs::write(staging.folder().join(file), content).unwrap();
        }
        let kept = staging.keep(|file| file == Path::new("model.onnx")).unwrap();
        let kept: Vec<_> =
            kept.iter().map(|kept| [&kept.was, &kept.is].map(|path| path.to_str().unwrap())).collect();
        let moved = ["headstart.toml", "headstart.toml.before.2"];
        assert_eq!(kept, [["headstart.toml.before"; 2], ["link"; 2], ["own/a"; 2], moved]);
        let place = staging.publish(std::iter::empty()).unwrap();
        let read = |file: &str| std::fs::read_to_string(place.join(file)).unwrap();
        let manifests = ["", ".before", ".before.2"].map(|end| read(&format!("headstart.toml{end}")));
        assert_eq!(manifests, ["three", "one", "two"]);
        assert!(standing(&place.join("link")).is_some() && !place.join("model.onnx").exists());
    }

    #[test]
    fn what_came_to_the_place_meanwhile_stays_there() {
        let models = tempfile::tempdir().unwrap();
        let place = models.path().join("a");
        let staging = open(models.path());
        staging.assemble(std::iter::empty()).unwrap();
        std::fs::create_dir(&place).unwrap();
        assert!(staging.publish(std::iter::empty()).unwrap_err().to_string().contains("was not pulled"));
        // One in the place of another, too.
        let staging = open(models.path());
        std::fs::rename(&place, models.path().join("b")).unwrap();
        staging.assemble(std::iter::empty()).unwrap();
        std::fs::create_dir(&place).unwrap();
        staging.ensure_as_found().unwrap_err();
        std::fs::remove_dir(&place).unwrap();
        staging.publish(std::iter::empty()).unwrap();
    }

    #[test]
    fn what_an_older_folder_was_made_of_is_known_until_another_is_in_its_place() {
        let models = tempfile::tempdir().unwrap();
        let (place, left) = (models.path().join("a"), models.path().join(".a.pulling"));
        let locked = |commit: &str| Locked {
            entry: "a".into(),
            repository: "o/n".into(),
            revision: "main".into(),
            commit: commit.repeat(40),
            manifest: String::new(),
            files: std::collections::BTreeMap::new(),
        };
        assert_eq!(open(models.path()).made_of(), None);
        std::fs::create_dir(&place).unwrap();
        open(models.path()).remember(&locked("1")).unwrap();
        // Killed before its first rename, and between the two.
        assert_eq!(open(models.path()).made_of(), Some(locked("1")));
        std::fs::rename(&place, left.join(OLDER)).unwrap();
        assert_eq!(open(models.path()).made_of(), Some(locked("1")));
        // Behind the second, and where there is no folder any more.
        std::fs::create_dir(left.join(OLDER)).unwrap();
        assert_eq!(open(models.path()).made_of(), None);
        open(models.path()).remember(&locked("2")).unwrap();
        std::fs::remove_dir(&place).unwrap();
        assert_eq!(open(models.path()).made_of(), None);
        std::fs::write(left.join("headstart.lock"), "version = ").unwrap();
        std::fs::create_dir(&place).unwrap();
        assert_eq!(open(models.path()).made_of(), None, "it was not written whole");
    }

    #[test]
    fn a_folder_that_a_kill_left_without_a_place_comes_back_to_it() {
        let models = tempfile::tempdir().unwrap();
        let (place, older) = (models.path().join("a"), models.path().join(".a.pulling").join(OLDER));
        std::fs::create_dir_all(&older).unwrap();
        drop(open(models.path()));
        assert!(place.exists() && !older.exists());
        // Behind the second rename the older one is of no use.
        std::fs::create_dir_all(older.join("within")).unwrap();
        drop(open(models.path()));
        assert!(place.exists() && !older.exists());
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
        let staging = open(models.path());
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
