//! Folders of backbones: with a manifest, or as Hugging Face's exporters write them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use headstart_engine::{Folder, FolderError, MANIFEST, beside};
use headstart_onnx::Outline;
use headstart_onnx::proto::ValueInfo;
use headstart_types::hugging_face::{CONFIG, Contents, FILES, GRAPHS, Graph, Understood, understand};

/// The folders under `root` that hold a backbone, or were meant to, in order of name.
///
/// # Errors
/// [`FolderError::Read`] when `root` cannot be listed.
pub fn list(root: &Path) -> Result<Vec<PathBuf>, FolderError> {
    Folder::list(root, |path| missing(path).is_none() || is_meant(path))
}

/// What a folder without a manifest lacks of Hugging Face's files, if anything.
fn missing(path: &Path) -> Option<&'static str> {
    if !path.join(CONFIG).is_file() {
        return Some(CONFIG);
    }
    GRAPHS.iter().all(|graph| !path.join(graph).is_file()).then_some("ONNX file where exports have one")
}

/// Whether a folder, though it cannot be read as one, was meant to be a backbone's: it holds a graph somewhere, or weights or
/// a tokeniser beside a configuration. Left out without a word it would be missed.
fn is_meant(path: &Path) -> bool {
    const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
    const READERS: [&str; 4] =
        ["tokenizer.json", "tokenizer_config.json", "vocab.txt", "preprocessor_config.json"];
    let graph = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|file| file.extension().is_some_and(|ending| ending == "onnx"))
    };
    let beside = || WEIGHTS.iter().chain(&READERS).any(|file| path.join(file).is_file());
    graph(path) || graph(&path.join("onnx")) || (path.join(CONFIG).is_file() && beside())
}

/// The folders under several roots that hold a backbone; of two of one name the first.
///
/// # Errors
/// As [`list`].
pub fn list_all(roots: &[PathBuf]) -> Result<Vec<PathBuf>, FolderError> {
    let mut found: Vec<PathBuf> = Vec::new();
    for root in roots {
        for folder in list(root)? {
            if found.iter().all(|known| known.file_name() != folder.file_name()) {
                found.push(folder);
            }
        }
    }
    Ok(found)
}

/// A backbone's graph, read whole, and the name of its features; nothing for one without features.
///
/// # Errors
/// As [`Folder::verified_graph`].
pub(crate) fn features_graph(folder: &Folder) -> Result<Option<(Vec<u8>, String)>, FolderError> {
    let Some(features) = &folder.manifest().output.features else { return Ok(None) };
    let path = folder.verified_graph()?;
    let graph = std::fs::read(&path).map_err(|source| FolderError::Read { path, source })?;
    Ok(Some((graph, features.tensor.clone())))
}

/// Opens a folder. One without a manifest is understood by its own files, and what they leave open is logged.
///
/// # Errors
/// [`FolderError`] naming the file and what is wrong with it.
pub fn open(path: &Path) -> Result<Folder, FolderError> {
    if Folder::has_manifest(path) {
        return Folder::open(path);
    }
    if let Some(missing) = missing(path) {
        let problem = format!(
            "no {MANIFEST} and no {missing}; `headstart import` makes a folder that has what it needs"
        );
        return Err(not_understood(path, &problem));
    }
    let understood = read(path)?;
    let model = &understood.manifest.backbone.id;
    for assumption in &understood.assumed {
        tracing::warn!(model, assumption, "a folder without a manifest leaves something open");
    }
    Ok(Folder::with_manifest(path, understood.manifest))
}

/// What the files of a folder without a manifest say, and what they leave open.
///
/// # Errors
/// [`FolderError`] naming the file and what is wrong with it.
pub fn read(path: &Path) -> Result<Understood, FolderError> {
    understand(&look_into(path)?).map_err(|error| not_understood(path, &error))
}

/// Reads what says what a folder holds: small files, and of its graphs their digests and outputs.
///
/// # Errors
/// [`FolderError`] naming the file that cannot be read.
pub(crate) fn look_into(path: &Path) -> Result<Contents, FolderError> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut contents = Contents { name, ..Contents::default() };
    for file in FILES {
        let full = path.join(file);
        if full.is_file() {
            let text = std::fs::read_to_string(&full);
            let text = text.map_err(|source| FolderError::Read { path: full, source })?;
            contents.files.insert(file, text);
        }
    }
    for file in GRAPHS {
        if path.join(file).is_file() {
            contents.graphs.push(graph(path, file)?);
        }
    }
    Ok(contents)
}

/// A graph of a folder: its digests, those of the files that hold weights of it, and its outputs.
///
/// # Errors
/// [`FolderError`] naming the file that cannot be read.
pub fn graph(folder: &Path, file: &str) -> Result<Graph, FolderError> {
    let full = &folder.join(file);
    let read = |source| FolderError::Read { path: full.clone(), source };
    let opened = File::open(full).map_err(read)?;
    let outline =
        Outline::read(opened).map_err(|error| not_understood(folder, &format!("{file}: {error}")))?;
    let mut external = BTreeMap::new();
    for other in outline.external_files() {
        let place = beside(file, &other);
        // What lies elsewhere is not vouched for, and the graph refused for it.
        let inside = Path::new(&place).components().all(|part| matches!(part, Component::Normal(_)));
        if inside && folder.join(&place).is_file() {
            external.insert(place.clone(), Folder::digest(&folder.join(&place))?);
        }
    }
    let outputs: BTreeMap<String, Vec<Option<usize>>> = outline.outputs().iter().filter_map(output).collect();
    Ok(Graph { file: file.to_owned(), sha256: Folder::digest(full)?, external, outputs })
}

/// An output's name and dimensions.
fn output(value: &ValueInfo) -> Option<(String, Vec<Option<usize>>)> {
    let shape = value.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    let fixed = |size: Option<i64>| size.and_then(|size| usize::try_from(size).ok());
    let dimensions = shape.dim.iter().map(|dimension| fixed(dimension.dim_value)).collect();
    Some((value.name.clone()?, dimensions))
}

fn not_understood(path: &Path, problem: &impl ToString) -> FolderError {
    FolderError::NotUnderstood { path: path.to_path_buf(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_meant_for_a_backbone_is_listed_and_says_what_it_lacks() {
        let root = tempfile::tempdir().unwrap();
        let put = |file: &str| {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "{}").unwrap();
        };
        for file in [
            "graph/model.onnx",
            "below/onnx/model_int8.onnx",
            "below/config.json",
            "weights/model.safetensors",
        ] {
            put(file);
        }
        for file in ["weights/config.json", "words/config.json", "words/tokenizer.json"] {
            put(file);
        }
        // Nobody means these for a backbone.
        for file in ["notes/README.md", "page/config.json", ".import/model.onnx", "model.onnx"] {
            put(file);
        }
        std::fs::create_dir(root.path().join("empty")).unwrap();
        let found = list(root.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["below", "graph", "weights", "words"]);
        for path in &found {
            let lacks = if path.ends_with("graph") { "no config.json" } else { "no ONNX file" };
            let reason = open(path).unwrap_err().reason();
            assert!(reason.starts_with("no headstart.toml and ") && reason.contains(lacks), "{reason}");
            assert!(reason.contains("`headstart import`"), "{reason}");
        }
    }
}
