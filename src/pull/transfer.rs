//! One file, whole and as it should be: begun parts go on, what breaks is asked for again, and nothing is believed that
//! has other bytes than the hub and the lock file say.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use headstart_types::hex;
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};

use super::answers::Remote;
use super::hub::{Bytes, Hub};
use super::refusal::{HubError, Patience};

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 18;

/// A file as it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fetched {
    /// Bytes.
    pub(super) size: u64,
    /// SHA-256, lower-case hex.
    pub(super) sha256: String,
}

/// A file that is wanted.
pub(super) struct Wanted<'a> {
    pub(super) repository: &'a str,
    pub(super) commit: &'a str,
    /// Its path in the repository.
    pub(super) file: &'a str,
    /// What is known of it.
    pub(super) of: &'a Remote,
    /// The most bytes it may have.
    pub(super) most: u64,
}

/// A file in the making: as much as came, and its digest so far.
struct Part {
    file: File,
    hash: Sha256,
    length: u64,
}

/// Why an attempt ended.
enum Ended {
    /// The hub, or the way to it; perhaps for now.
    Hub(HubError),
    /// Something that no attempt mends.
    Here(anyhow::Error),
}

impl From<HubError> for Ended {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

/// Fetches a file into `part`, where an earlier attempt may have begun it, also one of another process.
///
/// # Errors
/// Naming the file, when the hub gives it not, or gives something else. What came of it stays in `part` unless it is wrong.
pub(super) fn fetch(
    hub: &Hub,
    wanted: &Wanted<'_>,
    part: &Path,
    attempts: u32,
    bar: &ProgressBar,
) -> anyhow::Result<Fetched> {
    let context = || part.display().to_string();
    let mut begun = Part::open(part, wanted).with_context(context)?;
    bar.inc(begun.length);
    let mut patience = Patience::new(attempts);
    let mut twice = false;
    loop {
        let before = begun.length;
        let fetched = match attempt(hub, wanted, &mut begun, bar) {
            Ok(of) => begun.finish(wanted, &of),
            Err(Ended::Here(error)) => return Err(error),
            Err(Ended::Hub(error)) => {
                if begun.length > before {
                    patience.encouraged();
                }
                if matches!(error, HubError::Refused { status: 416, .. }) {
                    begun.restart(bar)?;
                }
                let wait = patience.after(error).with_context(|| wanted.file.to_owned())?;
                std::thread::sleep(wait);
                continue;
            }
        };
        match fetched {
            Ok(fetched) => return Ok(fetched),
            // What an earlier process left may have been damaged since: the whole of it is asked for once more.
            Err(_) if !twice => {
                twice = true;
                begun.restart(bar)?;
            }
            Err(error) => {
                std::fs::remove_file(part).with_context(context)?;
                return Err(error);
            }
        }
    }
}

/// One request, and all that comes of it; what the answer says of the file.
fn attempt(hub: &Hub, wanted: &Wanted<'_>, part: &mut Part, bar: &ProgressBar) -> Result<Remote, Ended> {
    if part.length > 0 && wanted.of.size == Some(part.length) {
        return Ok(Remote::default());
    }
    let Bytes { from, of, mut reader } =
        hub.file(wanted.repository, wanted.commit, wanted.file, part.length)?;
    agree(wanted, &of).map_err(Ended::Here)?;
    if from != part.length {
        part.restart(bar).map_err(Ended::Here)?;
    }
    let most = wanted.of.size.or(of.size).unwrap_or(wanted.most).min(wanted.most);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(HubError::Broke(error).into()),
        };
        if part.length + read as u64 > most {
            return Err(Ended::Here(anyhow::anyhow!("{}: more than {most} bytes come", wanted.file)));
        }
        part.add(chunk.get(..read).unwrap_or_default()).map_err(Ended::Here)?;
        bar.inc(read as u64);
    }
    match wanted.of.size.or(of.size) {
        Some(expected) if part.length < expected => {
            Err(HubError::Short { found: part.length, expected }.into())
        }
        Some(_) | None => Ok(of),
    }
}

/// What is known of a file and what an answer says of it are the same, and not too much.
fn agree(wanted: &Wanted<'_>, said: &Remote) -> anyhow::Result<()> {
    let file = wanted.file;
    if let (Some(known), Some(said)) = (wanted.of.size, said.size) {
        ensure!(known == said, "{file}: has {said} bytes at the hub, {known} were expected");
    }
    if let (Some(known), Some(said)) = (&wanted.of.sha256, &said.sha256) {
        ensure!(known == said, "{file}: has the sha-256 {said} at the hub, {known} was expected");
    }
    let size = said.size.unwrap_or(0);
    ensure!(size <= wanted.most, "{file}: has {size} bytes, at most {} are taken", wanted.most);
    Ok(())
}

impl Part {
    /// Goes on with what is there if it can be told what it is to become.
    fn open(path: &Path, wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        let known = wanted.of.sha256.is_some() && wanted.of.size.is_some_and(|size| length <= size);
        if !known {
            file.set_len(0)?;
        }
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut length = 0;
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            hash.update(chunk.get(..read).unwrap_or_default());
            length += read as u64;
        }
        Ok(Self { file, hash, length })
    }

    fn add(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self, bar: &ProgressBar) -> anyhow::Result<()> {
        bar.dec(self.length);
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hash = Sha256::new();
        self.length = 0;
        Ok(())
    }

    /// Durable, and compared with all that is known.
    fn finish(&self, wanted: &Wanted<'_>, said: &Remote) -> anyhow::Result<Fetched> {
        let sha256 = hex(&self.hash.clone().finalize());
        let expected = wanted.of.sha256.as_ref().or(said.sha256.as_ref());
        if let Some(expected) = expected.filter(|expected| **expected != sha256) {
            bail!("{}: has the sha-256 {sha256}, {expected} was expected", wanted.file);
        }
        self.file.sync_all()?;
        Ok(Fetched { size: self.length, sha256 })
    }
}

/// A file's size and digest.
pub(super) fn measure(path: &Path) -> anyhow::Result<Fetched> {
    let context = || path.display().to_string();
    let sha256 = headstart_engine::Folder::digest(path)?;
    Ok(Fetched { size: std::fs::metadata(path).with_context(context)?.len(), sha256 })
}
