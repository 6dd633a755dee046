//! A backbone's folder: manifest read, files there, checksum right.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use headstart_onnx::{OnnxError, Outline};
use headstart_types::{Manifest, ManifestError, hex};
use sha2::{Digest, Sha256};

/// The file name of a folder's manifest.
pub const MANIFEST: &str = "headstart.toml";

/// Why a folder was refused.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The manifest is wrong.
    #[error("{path}: {source}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The key and what is wrong with it.
        source: ManifestError,
    },
    /// The manifest's id is not the folder's name.
    #[error("{path}: `backbone.id` is `{id}` but the folder is named `{folder}`")]
    Name {
        /// The manifest.
        path: PathBuf,
        /// The id in the manifest.
        id: String,
        /// The folder's name.
        folder: String,
    },
    /// There is no manifest, and the other files do not say what it would.
    #[error("{path}: {problem}")]
    NotUnderstood {
        /// The folder.
        path: PathBuf,
        /// The file and what is wrong with it.
        problem: String,
    },
    /// The graph cannot be read as one.
    #[error("{path}: {source}")]
    Graph {
        /// The graph.
        path: PathBuf,
        /// What is wrong with it.
        source: OnnxError,
    },
    /// The graph has weights in a file that the manifest does not vouch for.
    #[error("{path}: has weights in `{file}`, which `backbone.external` does not list")]
    External {
        /// The graph.
        path: PathBuf,
        /// The other file, as the graph writes it.
        file: String,
    },
    /// A file of the graph is not the one the manifest speaks of.
    #[error("{path}: sha-256 is {found}, the manifest says {expected}")]
    Checksum {
        /// The file.
        path: PathBuf,
        /// What the file hashes to.
        found: String,
        /// What the manifest says.
        expected: String,
    },
}

impl FolderError {
    /// What is wrong, for who may not see where the folder is or what its files hold: the file's name and the field.
    #[must_use]
    pub fn reason(&self) -> String {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self {
            Self::Read { path, .. } => format!("{} cannot be read", name(path)),
            Self::Manifest { source: ManifestError::Parse(error), .. } => {
                format!("{MANIFEST}: {}", error.message())
            }
            Self::Manifest { source, .. } => format!("{MANIFEST}: {source}"),
            Self::Name { id, folder, .. } => {
                format!("{MANIFEST}: `backbone.id` is `{id}` but the folder is named `{folder}`")
            }
            Self::Graph { path, .. } => format!("{} is not an ONNX file", name(path)),
            Self::External { path, file } => {
                format!("{} has weights in `{file}`, which `backbone.external` does not list", name(path))
            }
            Self::NotUnderstood { problem, .. } => problem.clone(),
            Self::Checksum { path, .. } => format!("the sha-256 of {} is not the manifest's", name(path)),
        }
    }
}

/// A backbone's folder with its manifest.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    manifest: Manifest,
    shared: Option<SharedWeights>,
}

/// A file of weights that several backbones have beside their graphs, each the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedWeights {
    /// Its name in the folder.
    pub file: String,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
}

impl Folder {
    /// Reads the manifest of a folder. The graph is not read yet.
    ///
    /// # Errors
    /// [`FolderError`] naming the file and the field.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let file = path.join(MANIFEST);
        let text = std::fs::read_to_string(&file)
            .map_err(|source| FolderError::Read { path: file.clone(), source })?;
        let manifest =
            Manifest::parse(&text).map_err(|source| FolderError::Manifest { path: file.clone(), source })?;
        let folder = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if folder != manifest.backbone.id {
            return Err(FolderError::Name { path: file, id: manifest.backbone.id, folder });
        }
        Ok(Self { path: path.to_path_buf(), manifest, shared: None })
    }

    /// A folder without a manifest, of which somebody else knows what it would say.
    #[must_use]
    pub fn with_manifest(path: &Path, manifest: Manifest) -> Self {
        Self { path: path.to_path_buf(), manifest, shared: None }
    }

    /// The same folder, whose backbone holds the weights in that file together with all that have them too.
    #[must_use]
    pub fn sharing(self, weights: SharedWeights) -> Self {
        Self { shared: Some(weights), ..self }
    }

    /// The weights that it holds together with others.
    #[must_use]
    pub fn shared(&self) -> Option<&SharedWeights> {
        self.shared.as_ref()
    }

    /// Whether a folder has a manifest.
    #[must_use]
    pub fn has_manifest(path: &Path) -> bool {
        path.join(MANIFEST).is_file()
    }

    /// SHA-256 of a file, lower-case hex.
    ///
    /// # Errors
    /// [`FolderError::Read`].
    pub fn digest(path: &Path) -> Result<String, FolderError> {
        sha256(path).map_err(|source| FolderError::Read { path: path.to_path_buf(), source })
    }

    /// The folders under `root` that hold a manifest, or are taken for a backbone's by `also`, in order of name. Hidden
    /// ones are left out: an import makes one.
    ///
    /// # Errors
    /// [`FolderError::Read`] when `root` cannot be listed.
    pub fn list(root: &Path, also: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, FolderError> {
        let entries = std::fs::read_dir(root)
            .map_err(|source| FolderError::Read { path: root.to_path_buf(), source })?;
        let mut folders: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")))
            .filter(|path| Self::has_manifest(path) || also(path))
            .collect();
        folders.sort();
        Ok(folders)
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder's own path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a file that the manifest names.
    ///
    /// # Errors
    /// [`FolderError::Read`].
    pub fn read(&self, file: &str) -> Result<Vec<u8>, FolderError> {
        let path = self.path.join(file);
        std::fs::read(&path).map_err(|source| FolderError::Read { path, source })
    }

    /// The folder as that of its text tower alone, where it has one.
    #[must_use]
    pub fn text_half(&self) -> Option<Self> {
        Some(Self { path: self.path.clone(), manifest: self.manifest.text_half()?, shared: None })
    }

    /// Class names of the source head, in the order of its logits; empty without one.
    ///
    /// # Errors
    /// [`FolderError::Read`].
    pub fn classes(&self) -> Result<Vec<String>, FolderError> {
        let Some(logits) = &self.manifest.output.logits else { return Ok(Vec::new()) };
        let Some(file) = &logits.labels else { return Ok(logits.classes.clone()) };
        let bytes = self.read(file)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Bytes of memory that the backbone is counted with: its files, and a tenth for what the runtime makes beside them, for
    /// each of so many sessions. Weights that it shares are not among them.
    pub(crate) fn memory(&self, sessions: usize) -> u64 {
        let own = |file: &&str| self.shared.as_ref().is_none_or(|shared| shared.file != **file);
        let files = self.manifest.files();
        let bytes: u64 = files.iter().map(|(_, file)| *file).filter(own).map(|file| self.size(file)).sum();
        (bytes + bytes / 10).saturating_mul(sessions as u64)
    }

    /// The digest of the weights it shares, and the bytes of memory that these are counted with, once for all: as they are,
    /// and packed for products.
    #[must_use]
    pub fn shared_memory(&self) -> Option<(String, u64)> {
        self.shared.as_ref().map(|shared| (shared.sha256.clone(), 2 * self.size(&shared.file)))
    }

    fn size(&self, file: &str) -> u64 {
        std::fs::metadata(self.path.join(file)).map_or(0, |file| file.len())
    }

    /// The graph's path, once the checksums of all that it is made of have been compared with the manifest's.
    ///
    /// # Errors
    /// [`FolderError::Read`], [`FolderError::Checksum`], [`FolderError::Graph`] and [`FolderError::External`].
    pub fn verified_graph(&self) -> Result<PathBuf, FolderError> {
        let spec = &self.manifest.backbone;
        self.verified_with_weights(&spec.file, &spec.sha256)
    }

    /// The same of the graph between samples and the backbone's, where the manifest names one.
    ///
    /// # Errors
    /// As [`Self::verified_graph`].
    pub fn verified_stage(&self) -> Result<Option<PathBuf>, FolderError> {
        let stage = self.manifest.audio.as_ref().and_then(|audio| audio.stage.as_ref());
        stage.map(|stage| self.verified_with_weights(&stage.file, &stage.sha256)).transpose()
    }

    fn verified_with_weights(&self, file: &str, sha256: &str) -> Result<PathBuf, FolderError> {
        let spec = &self.manifest.backbone;
        let path = self.verified(file, sha256)?;
        let graph = File::open(&path).map_err(|source| FolderError::Read { path: path.clone(), source })?;
        let outline =
            Outline::read(graph).map_err(|source| FolderError::Graph { path: path.clone(), source })?;
        // The runtime opens whatever the graph names; nothing is opened that the manifest does not vouch for.
        for named in outline.external_files() {
            let place = beside(file, &named);
            let digest = spec
                .external
                .get(&place)
                .ok_or_else(|| FolderError::External { path: path.clone(), file: named.clone() })?;
            self.verified(&place, digest)?;
        }
        Ok(path)
    }

    fn verified(&self, file: &str, sha256_of_manifest: &str) -> Result<PathBuf, FolderError> {
        let path = self.path.join(file);
        let found = Self::digest(&path)?;
        let expected = sha256_of_manifest.to_lowercase();
        if found == expected { Ok(path) } else { Err(FolderError::Checksum { path, found, expected }) }
    }
}

/// The place in the folder of a file that a graph names, which is said from where the graph is.
#[must_use]
pub fn beside(graph: &str, file: &str) -> String {
    match graph.rsplit_once('/') {
        Some((within, _)) => format!("{within}/{file}"),
        None => file.to_owned(),
    }
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
    }
    Ok(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backbone_counts_once_for_each_of_its_sessions() {
        let folder = std::env::temp_dir().join(format!("headstart-memory-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.onnx"), [0; 1000]).unwrap();
        let text = format!(
            "version = 1\n[backbone]\nid = \"a\"\nmodality = \"tensor\"\nfile = \"a.onnx\"\nsha256 = \"{}\"\n\
             licence = \"MIT\"\nsource_task = \"b\"\n",
            "0".repeat(64)
        );
        let counted =
            |sessions| Folder::with_manifest(&folder, Manifest::parse(&text).unwrap()).memory(sessions);
        let (one, three) = (counted(1), counted(3));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((one, three), (1100, 3300));
    }

    #[test]
    fn a_file_hashes_to_the_published_vector() {
        let path = std::env::temp_dir().join(format!("headstart-sha256-{}", std::process::id()));
        std::fs::write(&path, "abc").unwrap();
        let found = sha256(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        // FIPS 180-4, example of "abc".
        assert_eq!(found, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
