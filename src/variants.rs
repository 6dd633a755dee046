//! Backbones that a job tuned: a backbone's own folder with another graph, made of the backbone's and of what is stored of
//! the tuning when it is first asked for. What is made can be made again, and is kept in the data folder.
//!
//! A variant has a name that no folder of a backbone may have, `backbone+digest`, is in no list of backbones, and comes
//! and goes as they do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use headstart_engine::{Folder, FolderError, SharedWeights};
use headstart_methods::head::Backbone;
use headstart_methods::tune::{Delta, Parted};
use headstart_methods::{MethodError, artifact};
use headstart_store::{Store, StoreError, is_full};
use headstart_tasks::Entry;
use headstart_types::Manifest;
use headstart_types::classifier::{TUNED, untuned};
use headstart_types::ids::Sha256;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::clock::now_ms;
use crate::config::Config;
use crate::folders;
use crate::rollout::LARGEST_ARTIFACT;

/// Hexadecimal digits of a delta's digest in a variant's name.
const DIGITS: usize = 16;

/// The folder of variants in the data folder.
const FOLDER: &str = "variants";

const GRAPH: &str = "model.onnx";
const ABOUT: &str = "variant.json";

/// In a variant's folder what it left alone of its backbone's weights: one file, linked to by all variants of the backbone
/// from the folder of such files, where it is named by its digest.
const WEIGHTS: &str = "weights.bin";
const COMMON: &str = "weights";

/// A folder that nobody knows and that is younger may be one that another process is making.
const SAFE_AGE: Duration = Duration::from_secs(60 * 60);

/// Why a variant cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VariantError {
    /// No version here has it.
    #[error("no version here was tuned to it")]
    Unknown,
    /// The backbone is another than the one that was tuned.
    #[error("it was made of `{backbone}` with sha-256 {made_of}, the one here has {found}")]
    OtherBackbone {
        /// The backbone, or its original.
        backbone: String,
        /// The digest it was made of.
        made_of: String,
        /// The digest of the backbone at hand.
        found: String,
    },
    /// There is no folder of the backbone, or of its original.
    #[error("it is made of the backbone `{0}`, which is not here")]
    NoBackbone(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The backbone's folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is stored of the tuning.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The data folder.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The thread that did it.
    #[error("it was cut off")]
    CutOff,
}

impl VariantError {
    /// Whether it was for want of room in the data folder.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Write { source, .. } => is_full(source.kind()),
            Self::Store(error) => matches!(error, StoreError::DiskFull),
            Self::Unknown
            | Self::OtherBackbone { .. }
            | Self::NoBackbone(_)
            | Self::Folder(_)
            | Self::Method(_)
            | Self::CutOff => false,
        }
    }

    /// What is wrong, for clients: no path of the machine.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Unknown | Self::OtherBackbone { .. } | Self::NoBackbone(_) | Self::CutOff => {
                self.to_string()
            }
            Self::Folder(error) => error.reason(),
            Self::Store(_) | Self::Method(_) | Self::Write { .. } => {
                "its weights cannot be put together; the log has the reason".into()
            }
        }
    }
}

/// What is known of variants, by name: the bytes that hold each one's delta.
#[derive(Debug, Default)]
pub(crate) struct Variants(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    sources: HashMap<String, Sources>,
    /// Whether all versions of the data folder are known here: a worker alone follows no registry.
    complete: bool,
}

/// Where one variant's delta lies.
#[derive(Debug, Default)]
struct Sources {
    version: Option<Sha256>,
    /// Of jobs that have not ended, each for itself: these bytes go with the job, a version's do not.
    held: Vec<Sha256>,
}

impl Sources {
    /// All of them, those that stay longest first.
    fn all(&self) -> Vec<Sha256> {
        self.version.iter().chain(self.held.iter().rev()).cloned().collect()
    }
}

impl Known {
    fn know(&mut self, id: &str, artifact: &Sha256) {
        self.sources.entry(id.to_owned()).or_default().version = Some(artifact.clone());
    }

    fn hold(&mut self, id: &str, artifact: &Sha256) {
        self.sources.entry(id.to_owned()).or_default().held.push(artifact.clone());
    }

    fn let_go(&mut self, id: &str, artifact: &Sha256) {
        if let Some(sources) = self.sources.get_mut(id)
            && let Some(at) = sources.held.iter().position(|held| held == artifact)
        {
            sources.held.remove(at);
        }
    }

    fn all(&self, id: &str) -> Vec<Sha256> {
        self.sources.get(id).map(Sources::all).unwrap_or_default()
    }
}

/// Keeps a variant known for as long as it lives.
pub(crate) struct Hold {
    app: Arc<App>,
    id: String,
    artifact: Sha256,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.app.variants.known().let_go(&self.id, &self.artifact);
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct About {
    backbone_sha256: String,
    graph_sha256: String,
    /// Absent where the graph holds all of its weights.
    #[serde(default)]
    weights_sha256: Option<String>,
    /// What was copied from the backbone's folder, by name. Absent in folders of earlier builds.
    #[serde(default)]
    copied: BTreeMap<String, String>,
}

/// The name of the variant that a delta makes of a backbone.
pub(crate) fn name(backbone: &str, delta: &[u8]) -> String {
    let digest = artifact::address(delta);
    format!("{backbone}{TUNED}{}", digest.get(..DIGITS).unwrap_or_default())
}

/// The backbone that a variant was made of; nothing for a backbone itself.
pub(crate) fn base(id: &str) -> Option<&str> {
    id.split_once(TUNED).map(|(base, _)| base)
}

impl Variants {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says which bytes hold a variant's delta: from now on it can be asked.
pub(crate) fn know(app: &App, id: &str, artifact: &Sha256) {
    let mut known = app.variants.known();
    known.know(id, artifact);
    // Under the same lock as what a sweep forgets.
    app.tasks.catalog.insert_unlisted(id);
}

/// The same for as long as what is returned lives, whatever versions there are.
pub(crate) fn hold(app: &Arc<App>, id: &str, artifact: &Sha256) -> Hold {
    let mut known = app.variants.known();
    known.hold(id, artifact);
    app.tasks.catalog.insert_unlisted(id);
    drop(known);
    Hold { app: Arc::clone(app), id: id.to_owned(), artifact: artifact.clone() }
}

/// Says whether the variants of all versions are known by now.
pub(crate) fn know_all(app: &App, complete: bool) {
    app.variants.known().complete = complete;
}

/// Whether it can be asked.
pub(crate) fn is_known(app: &App, id: &str) -> bool {
    !app.variants.known().all(id).is_empty()
}

/// A variant's folder, made where it is not there.
///
/// # Errors
/// [`VariantError`].
pub(crate) async fn folder(app: &Arc<App>, id: &str) -> Result<Folder, VariantError> {
    let artifacts = app.variants.known().all(id);
    let store = app.store().ok_or(VariantError::Unknown)?;
    first_there(artifacts, |artifact| async move { in_folders(store, &app.config, (id, &artifact)).await })
        .await
}

/// What comes of the first of some bytes that are there: a version's may have gone with it.
async fn first_there<T, F: Future<Output = Result<T, VariantError>>>(
    artifacts: Vec<Sha256>,
    made_of: impl Fn(Sha256) -> F,
) -> Result<T, VariantError> {
    let mut outcome = Err(VariantError::Unknown);
    for artifact in artifacts {
        outcome = made_of(artifact).await;
        if !matches!(outcome, Err(VariantError::Store(StoreError::NotFound { .. }))) {
            break;
        }
    }
    outcome
}

/// The same without an app, for the bytes that hold the delta.
///
/// # Errors
/// [`VariantError`].
pub(crate) async fn in_folders(
    store: &Store,
    config: &Config,
    (id, artifact): (&str, &Sha256),
) -> Result<Folder, VariantError> {
    let (place, roots, name) =
        (config.data.join(FOLDER).join(id), config.models.clone(), untuned(id).to_owned());
    let found = tokio::task::spawn_blocking(move || {
        let folders = Backbones(folders::list_all(&roots)?);
        let base = folders.open(&name)?;
        Ok::<_, VariantError>((made(&base, &place), folders, base, place))
    });
    let (made, folders, base, place) = found.await.map_err(|_| VariantError::CutOff)??;
    if let Some(folder) = made {
        return Ok(folder);
    }
    let bytes = store.blobs().read(artifact, LARGEST_ARTIFACT).await?;
    let id = id.to_owned();
    let making = tokio::task::spawn_blocking(move || make(&folders, &base, &place, (&id, &bytes)));
    making.await.map_err(|_| VariantError::CutOff)?
}

/// Takes away a variant's folder whose files are not what they were, with the weights in common if it is these. Whether it is to be
/// made anew: what is whole stays, since what it was made of may be gone. Blocking.
pub(crate) fn discard_damaged(data: &Path, id: &str) -> bool {
    let place = data.join(FOLDER).join(id);
    let about = std::fs::read(place.join(ABOUT)).ok();
    let Some(about) = about.and_then(|about| serde_json::from_slice::<About>(&about).ok()) else {
        return true;
    };
    let whole = |path: &Path, sha256: &str| Folder::digest(path).is_ok_and(|found| found == sha256);
    let mut damaged = !whole(&place.join(GRAPH), &about.graph_sha256)
        || about.copied.iter().any(|(file, sha256)| !whole(&place.join(file), sha256));
    if let Some(sha256) = &about.weights_sha256 {
        damaged |= !whole(&place.join(WEIGHTS), sha256);
        let kept = place.with_file_name(COMMON).join(sha256);
        if !whole(&kept, sha256) {
            let _ = std::fs::remove_file(kept);
        }
    }
    if damaged {
        let _ = std::fs::remove_dir_all(place);
    }
    damaged
}

/// The folder as it was made before, of the backbone as it is now; none where a file of it is gone.
fn made(base: &Folder, place: &Path) -> Option<Folder> {
    let about: About = serde_json::from_slice(&std::fs::read(place.join(ABOUT)).ok()?).ok()?;
    let same = about.backbone_sha256 == base.manifest().backbone.sha256.to_lowercase();
    let id = place.file_name()?.to_str()?;
    let made = same.then(|| described(base, place, id, about))?;
    let whole = made.manifest().files().iter().all(|(_, file)| place.join(file).is_file());
    whole.then_some(made)
}

fn described(base: &Folder, place: &Path, id: &str, about: About) -> Folder {
    let folder = Folder::with_manifest(place, manifest(base, id, &about));
    match about.weights_sha256 {
        Some(sha256) => folder.sharing(SharedWeights { file: WEIGHTS.to_owned(), sha256 }),
        None => folder,
    }
}

/// The folders of all backbones.
struct Backbones(Vec<PathBuf>);

impl Backbones {
    fn open(&self, id: &str) -> Result<Folder, VariantError> {
        let path = self.0.iter().find(|path| path.file_name().is_some_and(|name| name == id));
        Ok(folders::open(path.ok_or_else(|| VariantError::NoBackbone(id.to_owned()))?)?)
    }
}

/// A backbone's graph and the name of its features, once it is seen to be the one that something was made of.
fn graph_of(folder: &Folder, made_of: &Backbone) -> Result<(Vec<u8>, String), VariantError> {
    let found = folder.manifest().backbone.sha256.to_lowercase();
    if made_of.sha256 != found {
        let backbone = folder.manifest().backbone.id.clone();
        return Err(VariantError::OtherBackbone { backbone, made_of: made_of.sha256.clone(), found });
    }
    folders::features_graph(folder)?.ok_or(VariantError::Unknown)
}

/// Makes a variant's folder beside its place and moves it there whole. Another process may have been faster.
fn make(
    backbones: &Backbones,
    base: &Folder,
    place: &Path,
    (id, artifact): (&str, &[u8]),
) -> Result<Folder, VariantError> {
    let (head, graft) = artifact::load_tuned(artifact)?.ok_or(VariantError::Unknown)?;
    let made_of = &head.parts().backbone;
    let (graph, features) = graph_of(base, made_of)?;
    let delta = Delta::from_bytes(&graft.delta)?;
    let Parted { graph, weights } = match &graft.original {
        None => delta.graft(&graph, &features, WEIGHTS)?,
        Some(original) => {
            let (first, of_first) = graph_of(&backbones.open(&original.id)?, original)?;
            delta.requantise((&first, &of_first), (&graph, &features), WEIGHTS)?
        }
    };
    let mut about = About {
        backbone_sha256: made_of.sha256.clone(),
        graph_sha256: artifact::address(&graph),
        weights_sha256: (!weights.is_empty()).then(|| artifact::address(&weights)),
        copied: BTreeMap::new(),
    };
    let beside = place.with_file_name(format!(".{id}-{}", uuid::Uuid::now_v7().simple()));
    let mut written = || -> Result<(), VariantError> {
        std::fs::create_dir_all(&beside)
            .map_err(|source| VariantError::Write { path: beside.clone(), source })?;
        write(beside.join(GRAPH), &graph)?;
        if let Some(sha256) = &about.weights_sha256 {
            put_weights(&place.with_file_name(COMMON), sha256, &weights, &beside.join(WEIGHTS))?;
        }
        for file in manifest(base, id, &about).files().into_iter().map(|(_, file)| file) {
            if file != GRAPH && file != WEIGHTS {
                let bytes = base.read(file)?;
                about.copied.insert(file.to_owned(), artifact::address(&bytes));
                write_within(&beside, file, &bytes)?;
            }
        }
        write(beside.join(ABOUT), &serde_json::to_vec(&about).unwrap_or_default())?;
        synced(&beside)?;
        if made(base, place).is_some() {
            // Another process was faster, and may be reading it.
            return Ok(());
        }
        // What was made of another backbone of the name goes.
        let _ = std::fs::remove_dir_all(place);
        match std::fs::rename(&beside, place) {
            Err(_) if place.join(ABOUT).is_file() => Ok(()),
            Ok(()) => place.parent().map_or(Ok(()), synced),
            Err(source) => Err(VariantError::Write { path: place.to_owned(), source }),
        }
    };
    let outcome = written();
    let _ = std::fs::remove_dir_all(&beside);
    outcome?;
    tracing::info!(model = id, bytes = graph.len(), "tuned backbone made");
    Ok(described(base, place, id, about))
}

/// Writes a file that outlives a loss of power: a folder that looks whole has to be.
fn write(path: PathBuf, bytes: &[u8]) -> Result<(), VariantError> {
    let written = || {
        let mut file = File::create(&path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().map_err(|source| VariantError::Write { path, source })
}

/// The same for a file by its path in a folder, with the folders between.
fn write_within(folder: &Path, file: &str, bytes: &[u8]) -> Result<(), VariantError> {
    let path = folder.join(file);
    let between: Vec<&Path> = path.ancestors().skip(1).take_while(|within| *within != folder).collect();
    if let Some(within) = between.first() {
        std::fs::create_dir_all(within)
            .map_err(|source| VariantError::Write { path: within.to_path_buf(), source })?;
    }
    write(path.clone(), bytes)?;
    between.into_iter().try_for_each(synced)
}

/// The same for a folder's names.
fn synced(folder: &Path) -> Result<(), VariantError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| VariantError::Write { path: folder.to_owned(), source })
}

/// Puts the weights that variants have in common among such files, unless they are there, and links `target` to them. Where
/// the file system has no links they are written there once more.
fn put_weights(common: &Path, sha256: &str, weights: &[u8], target: &Path) -> Result<(), VariantError> {
    let kept = common.join(sha256);
    if std::fs::hard_link(&kept, target).is_ok() {
        return Ok(());
    }
    std::fs::create_dir_all(common)
        .map_err(|source| VariantError::Write { path: common.to_owned(), source })?;
    write(target.to_owned(), weights)?;
    // Whole from the start; whoever was faster has the same.
    let _ = std::fs::hard_link(target, &kept);
    Ok(())
}

/// What the backbone's manifest says of a variant: other weights, features alone.
fn manifest(base: &Folder, id: &str, about: &About) -> Manifest {
    let mut manifest = base.manifest().without_text_tower();
    id.clone_into(&mut manifest.backbone.id);
    GRAPH.clone_into(&mut manifest.backbone.file);
    manifest.backbone.sha256.clone_from(&about.graph_sha256);
    manifest.backbone.external =
        about.weights_sha256.iter().map(|sha256| (WEIGHTS.to_owned(), sha256.clone())).collect();
    manifest.output.logits = None;
    manifest.zero_shot = None;
    manifest
}

/// Forgets variants that no version and no job here uses; removes folders of those that nobody knows, where all are known.
pub(crate) async fn sweep(app: &Arc<App>) -> std::io::Result<()> {
    let forgotten: Vec<Option<Entry>> = {
        let mut known = app.variants.known();
        let used: BTreeSet<String> = app.tasks.classifiers.backbones().into_iter().collect();
        let gone = |(id, of): &(&String, &Sources)| !used.contains(*id) && of.held.is_empty();
        let forgotten: Vec<String> = known.sources.iter().filter(gone).map(|(id, _)| id.clone()).collect();
        let forget = |id: String| {
            known.sources.remove(&id);
            app.forget_model(&id)
        };
        forgotten.into_iter().map(forget).collect()
    };
    // Their memory.
    let _ = tokio::task::spawn_blocking(move || drop(forgotten)).await;
    let known: BTreeSet<String> = {
        let known = app.variants.known();
        if !known.complete {
            return Ok(());
        }
        known.sources.keys().cloned().collect()
    };
    let root = app.config.data.join(FOLDER);
    let now = Duration::from_millis(now_ms().unsigned_abs());
    let removing = tokio::task::spawn_blocking(move || remove_unknown(&root, &known, now));
    removing.await.unwrap_or(Ok(()))
}

fn remove_unknown(root: &Path, known: &BTreeSet<String>, now: Duration) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name() == COMMON {
            remove_unlinked(&entry.path(), now)?;
            continue;
        }
        let known = entry.file_name().to_str().is_some_and(|name| known.contains(name));
        if !known && entry.metadata().is_ok_and(|metadata| is_old(&metadata, now)) {
            match std::fs::remove_dir_all(entry.path()) {
                // Another process's sweep was there first.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

/// Whether nobody is at work on it any more.
fn is_old(metadata: &Metadata, now: Duration) -> bool {
    let at = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    at.and_then(|at| now.checked_sub(at)).is_some_and(|age| age > SAFE_AGE)
}

/// Removes weights that no variant has any more.
fn remove_unlinked(common: &Path, now: Duration) -> std::io::Result<()> {
    for entry in std::fs::read_dir(common)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.nlink() == 1 && is_old(&metadata, now) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_version_has_outlives_the_bytes_of_a_job_that_made_the_same() {
        let (version, one, other) =
            (Sha256::from_bytes([1; 32]), Sha256::from_bytes([2; 32]), Sha256::from_bytes([3; 32]));
        let mut known = Known::default();
        known.hold("x", &one);
        known.know("x", &version);
        known.hold("x", &other);
        assert_eq!(known.all("x"), [version.clone(), other.clone(), one.clone()]);
        known.let_go("x", &one);
        assert_eq!(known.all("x"), [version.clone(), other.clone()]);
        known.let_go("x", &other);
        assert_eq!(known.all("x"), [version]);

        known.hold("y", &one);
        known.hold("y", &one);
        known.let_go("y", &one);
        assert_eq!(known.all("y"), std::slice::from_ref(&one), "another job holds the same");
        known.let_go("y", &one);
        assert_eq!(known.all("y"), []);
    }

    #[test]
    fn a_quota_that_is_used_up_is_a_full_disk() {
        use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, StorageFull};

        let written =
            |kind: std::io::ErrorKind| VariantError::Write { path: PathBuf::new(), source: kind.into() };
        let full = [StorageFull, QuotaExceeded, PermissionDenied].map(|kind| written(kind).is_full());
        assert_eq!(full, [true, true, false]);
    }

    #[tokio::test]
    async fn bytes_that_are_gone_make_way_for_others_and_other_faults_are_told() {
        let (gone, damaged, there) =
            (Sha256::from_bytes([1; 32]), Sha256::from_bytes([2; 32]), Sha256::from_bytes([3; 32]));
        let made = |artifacts: &[&Sha256]| {
            let (gone, damaged) = (gone.clone(), damaged.clone());
            first_there(artifacts.iter().copied().cloned().collect(), move |artifact| {
                let missing = StoreError::NotFound { what: "blob", id: String::new() };
                let made = match artifact {
                    artifact if artifact == gone => Err(missing.into()),
                    artifact if artifact == damaged => Err(VariantError::CutOff),
                    artifact => Ok(artifact),
                };
                async move { made }
            })
        };
        assert_eq!(made(&[&gone, &there]).await.unwrap(), there);
        assert!(matches!(made(&[&damaged, &there]).await, Err(VariantError::CutOff)));
        assert!(matches!(made(&[&gone]).await, Err(VariantError::Store(_))));
        assert!(matches!(made(&[]).await, Err(VariantError::Unknown)));
    }
}
