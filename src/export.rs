//! A version as one ONNX file: for a route that sends it and for `headstart export`, which writes it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use headstart_engine::{Folder, FolderError};
use headstart_export::{Composed, ExportError, Subject, compose};
use headstart_methods::{MethodError, artifact};
use headstart_store::{Store, StoreError, is_full};
use headstart_types::classifier::{ClassifierId, ClassifierVersion, Origin, untuned};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Config;
use crate::folders;
use crate::rollout::LARGEST_ARTIFACT;
use crate::variants;

/// Exports that hold a whole graph in memory, twice: those of tuned versions. One at a time; the others wait.
static WHOLE: Semaphore = Semaphore::const_new(1);

/// Why a version cannot be written as a file.
#[derive(Debug, thiserror::Error)]
pub enum CannotExport {
    /// Labels and examples, no weights.
    #[error("version `{0}` comes from labels and examples; only versions that a job fitted can be exported")]
    NoHead(String),
    /// Its backbone is no graph.
    #[error(
        "version `{version}` was fitted on `{backbone}`, a table of word vectors, which is no graph to extend"
    )]
    NoGraph {
        /// The version.
        version: String,
        /// The backbone.
        backbone: String,
    },
    /// Its backbone is gone.
    #[error("backbone `{backbone}` of version `{version}` is not loaded")]
    NoBackbone {
        /// The version.
        version: String,
        /// The backbone.
        backbone: String,
    },
    /// Another backbone has the name now.
    #[error(
        "version `{version}` was fitted on `{backbone}` with sha-256 {fitted}, the one here has {found}: its scores would be others"
    )]
    OtherBackbone {
        /// The version.
        version: String,
        /// The backbone.
        backbone: String,
        /// The digest it was fitted on.
        fitted: String,
        /// The digest of the backbone at hand.
        found: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The backbone's folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The stored head.
    #[error(transparent)]
    Head(#[from] MethodError),
    /// Graph and head.
    #[error(transparent)]
    Compose(#[from] ExportError),
    /// The thread that did it.
    #[error("the export was cut off")]
    CutOff,
}

/// A version ready to be sent or written.
#[derive(Debug)]
pub struct Exported {
    /// The file, as parts of `backbone` and new ones.
    pub composed: Composed,
    /// The backbone's graph, whose digest was right a moment ago.
    pub backbone: File,
    /// What to call the file.
    pub file_name: String,
}

/// Composes a version's file over the backbone in `folder`. Reads the backbone's file once, to compare its digest.
///
/// # Errors
/// [`CannotExport`].
pub async fn export(
    store: &Store,
    version: &ClassifierVersion,
    folder: Option<Folder>,
) -> Result<Exported, CannotExport> {
    let model = version.model_name();
    if version.origin != Origin::Job {
        return Err(CannotExport::NoHead(model));
    }
    let backbone = version.backbone.clone();
    let folder = folder.ok_or(CannotExport::NoBackbone { version: model.clone(), backbone })?;
    if folder.manifest().words.is_some() {
        return Err(CannotExport::NoGraph { version: model, backbone: version.backbone.clone() });
    }
    let found = match variants::base(&version.backbone) {
        // Whoever made the variant's folder has compared what it was made of.
        Some(_) => version.backbone_sha256.to_lowercase(),
        None => folder.manifest().backbone.sha256.to_lowercase(),
    };
    if found != version.backbone_sha256.to_lowercase() {
        return Err(CannotExport::OtherBackbone {
            version: model,
            backbone: version.backbone.clone(),
            fitted: version.backbone_sha256.clone(),
            found,
        });
    }
    let turn = turn(&WHOLE, folder.shared().is_some()).await?;
    let head = store.blobs().read(&version.artifact, LARGEST_ARTIFACT).await?;
    let (name, number) = (version.classifier.name.clone(), version.number);
    let work = move || {
        // Held by the thread: it goes on when the client has left.
        let _turn = turn;
        build(&folder, &head, &name, number)
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| CannotExport::CutOff)?
}

/// A place among the exports that hold a whole graph, where this one does.
async fn turn(places: &Semaphore, whole: bool) -> Result<Option<SemaphorePermit<'_>>, CannotExport> {
    if !whole {
        return Ok(None);
    }
    places.acquire().await.map(Some).map_err(|_| CannotExport::CutOff)
}

fn build(folder: &Folder, head: &[u8], name: &str, version: u32) -> Result<Exported, CannotExport> {
    let head = match artifact::load_tuned(head)? {
        Some((head, _)) => head,
        None => artifact::load(head)?,
    };
    let path = folder.verified_graph()?;
    let read = |source| FolderError::Read { path: path.clone(), source };
    let backbone = if folder.shared().is_some() {
        let bytes = headstart_onnx::whole(&path)
            .map_err(|source| FolderError::Graph { path: path.clone(), source })?;
        let written = |source| not_written(&path, source);
        let mut file = tempfile::tempfile().map_err(written)?;
        file.write_all(&bytes).map_err(written)?;
        file
    } else {
        File::open(&path).map_err(read)?
    };
    // Of two towers the file has the one that reads pictures.
    let manifest = &folder.manifest().without_text_tower();
    let tokenizer = manifest.text.as_ref().map(|text| folder.read(&text.tokenizer)).transpose()?;
    let subject = Subject {
        name,
        version,
        head: &head,
        manifest,
        tokenizer: tokenizer.as_deref(),
        producer_version: env!("CARGO_PKG_VERSION"),
    };
    let composed = compose(&backbone, &subject)?;
    Ok(Exported { composed, backbone, file_name: file_name(name, version) })
}

/// Why the whole graph came not to the disk.
fn not_written(path: &Path, source: std::io::Error) -> CannotExport {
    if is_full(source.kind()) {
        StoreError::DiskFull.into()
    } else {
        FolderError::Read { path: path.to_owned(), source }.into()
    }
}

/// A name that every file system takes: letters, digits, `.`, `_` and `-`.
fn file_name(name: &str, version: u32) -> String {
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '-' };
    format!("{}-{version}.onnx", name.chars().map(plain).collect::<String>())
}

/// Arguments of `headstart export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The classifier's version: `name@3`, `name@alias`, or `name` for the one in production
    #[arg(value_name = "NAME[@VERSION]")]
    model: String,
    /// Where to write it [default: the name and version with `.onnx`, in this folder]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The API key's name it belongs to, where keys are used
    #[arg(long, value_name = "NAME", default_value = "")]
    owner: String,
}

/// Writes a version of the data folder as a file; no server is needed, nor ONNX Runtime.
///
/// # Errors
/// Naming what is not there or does not fit.
pub fn run(config: &Config, arguments: ExportArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(write(config, arguments))
}

async fn write(config: &Config, arguments: ExportArguments) -> anyhow::Result<()> {
    let data = &config.data;
    anyhow::ensure!(data.is_dir(), "`data`: there is no folder {}", data.display());
    let store = Store::open(data).await.with_context(|| format!("`data`: {}", data.display()))?;
    let (name, selector) = match arguments.model.split_once('@') {
        Some((name, selector)) => (name, Some(selector).filter(|selector| *selector != "production")),
        None => (arguments.model.as_str(), None),
    };
    let id = ClassifierId { key: arguments.owner, name: name.to_owned() };
    let classifier = store.classifier(&id).await?;
    let Some(number) = classifier.resolve(selector) else {
        bail!("`{}` names no version", arguments.model);
    };
    let version = store.version(&id, number).await?;
    let backbone = untuned(&version.backbone);
    let folder = config.models.iter().map(|root| root.join(backbone)).find(|path| path.is_dir());
    let folder = match folder {
        Some(_) if variants::base(&version.backbone).is_some() => {
            let variant = (version.backbone.as_str(), &version.artifact);
            Some(variants::in_folders(&store, config, variant).await?)
        }
        folder => folder.map(|path| folders::open(&path)).transpose()?,
    };
    let exported = export(&store, &version, folder).await?;
    let path = arguments.output.unwrap_or_else(|| PathBuf::from(&exported.file_name));
    let bytes = exported.composed.assembly.bytes();
    write_file(&exported, &path).with_context(|| path.display().to_string())?;
    writeln!(std::io::stderr(), "{} is in {}, {bytes} bytes", version.model_name(), path.display())?;
    Ok(())
}

/// Writes beside the place and moves it there whole.
fn write_file(exported: &Exported, path: &PathBuf) -> anyhow::Result<()> {
    let mut beside = path.clone().into_os_string();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let written = File::create(&beside).map_err(anyhow::Error::from).and_then(|mut file| {
        exported.composed.assembly.write(&mut &exported.backbone, &mut file)?;
        Ok(std::fs::rename(&beside, path)?)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn exports_that_hold_a_whole_graph_wait_for_each_other_and_others_do_not() {
        let places = Semaphore::const_new(1);
        let context = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(Some(first))) = pin!(turn(&places, true)).poll(context) else { panic!("none") };
        let mut second = pin!(turn(&places, true));
        assert!(second.as_mut().poll(context).is_pending());
        assert!(matches!(pin!(turn(&places, false)).poll(context), Poll::Ready(Ok(None))));
        drop(first);
        assert!(matches!(second.poll(context), Poll::Ready(Ok(Some(_)))));
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_folder_that_is_not_read() {
        let of = |kind: ErrorKind| not_written(Path::new("model.onnx"), kind.into());
        assert!(matches!(of(ErrorKind::StorageFull), CannotExport::Store(StoreError::DiskFull)));
        assert!(matches!(of(ErrorKind::QuotaExceeded), CannotExport::Store(StoreError::DiskFull)));
        assert!(matches!(of(ErrorKind::PermissionDenied), CannotExport::Folder(FolderError::Read { .. })));
    }
}
