//! Folders as Hugging Face's exporters write them, understood without a manifest: their configuration files and the
//! outputs of their graphs say what a manifest would.
//!
//! Nothing is read from a disk here: whoever has the folder gives the files' texts and what its graphs are. What the
//! files leave open is assumed, and every assumption is said.

mod image;
mod processor;
mod text;
mod towers;

use std::collections::BTreeMap;

pub use towers::{TOWERS, both_towers};

use serde::Deserialize;

use crate::manifest::{BackboneSpec, EngineSpec, Manifest, ManifestError, OutputSpec, VERSION};
use crate::payload::Modality;

/// The files that say what a folder holds; `config.json` alone must be there.
pub const FILES: [&str; 8] = [
    CONFIG,
    PREPROCESSOR,
    "tokenizer_config.json",
    "1_Pooling/config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "README.md",
];

/// The file that makes a folder one of these.
pub const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";

/// Where graphs lie, the usual place of exports first.
pub const GRAPHS: [&str; 6] = [
    "onnx/model.onnx",
    "model.onnx",
    "onnx/text_model.onnx",
    "text_model.onnx",
    "onnx/vision_model.onnx",
    "vision_model.onnx",
];

/// A graph of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Its file, relative to the folder.
    pub file: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// SHA-256 of the files that hold weights of it, by their paths in the folder.
    pub external: BTreeMap<String, String>,
    /// Its outputs with their dimensions; `None` for one that is not fixed.
    pub outputs: BTreeMap<String, Vec<Option<usize>>>,
}

/// A folder as far as it was looked at.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The folder's name, by which clients will ask.
    pub name: String,
    /// Texts of those of [`FILES`] that are there.
    pub files: BTreeMap<&'static str, String>,
    /// Those of [`GRAPHS`] that are there.
    pub graphs: Vec<Graph>,
}

/// What a folder says.
#[derive(Debug, Clone)]
pub struct Understood {
    /// The manifest it might have had.
    pub manifest: Manifest,
    /// What its files do not say, one sentence each.
    pub assumed: Vec<String>,
}

/// Why a folder is not understood.
#[derive(Debug, thiserror::Error)]
pub enum FolderProblem {
    /// A file is no JSON of the expected form.
    #[error("{file}: {source}")]
    Json {
        /// The file.
        file: &'static str,
        /// The parser's message.
        source: serde_json::Error,
    },
    /// A file that is needed is not there, or says nothing that could be served.
    #[error("{0}")]
    Unusable(String),
    /// What the files say together makes no good manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What every `config.json` may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    model_type: String,
    architectures: Option<Vec<String>>,
    hidden_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    id2label: Option<BTreeMap<String, String>>,
    image_size: Option<image::Sides>,
    projection_dim: Option<usize>,
    logit_scale: Option<f64>,
    logit_bias: Option<f64>,
    text_config: Option<TextConfig>,
    vision_config: Option<VisionConfig>,
}

/// The text tower's part of a `config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TextConfig {
    hidden_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    pad_token_id: Option<u32>,
}

/// The picture tower's part of a `config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VisionConfig {
    image_size: Option<image::Sides>,
    hidden_size: Option<usize>,
}

impl Config {
    /// Class names in order of their numbers, where there are any.
    fn classes(&self) -> Vec<String> {
        let named = self.id2label.iter().flatten();
        let mut classes: Vec<(usize, &String)> =
            named.filter_map(|(id, label)| Some((id.parse().ok()?, label))).collect();
        classes.sort_unstable_by_key(|(id, _)| *id);
        classes.into_iter().map(|(_, label)| label.clone()).collect()
    }

    fn is_for(&self, task: &str) -> bool {
        self.architectures.iter().flatten().any(|name| name.contains(task))
    }
}

/// Reads a folder.
///
/// # Errors
/// [`FolderProblem`] naming the file and what is wrong with it or missing.
pub fn understand(contents: &Contents) -> Result<Understood, FolderProblem> {
    let config: Config = contents.json(CONFIG)?.ok_or_else(|| missing(CONFIG))?;
    let mut assumed = Vec::new();
    let manifest = if config.text_config.is_some() && config.vision_config.is_some() {
        towers::manifest(contents, &config, &mut assumed)?
    } else if contents.files.contains_key(PREPROCESSOR) {
        image::manifest(contents, &config, &mut assumed)?
    } else {
        text::manifest(contents, &config, &mut assumed)?
    };
    manifest.check()?;
    Ok(Understood { manifest, assumed })
}

impl Contents {
    fn json<T: for<'de> Deserialize<'de>>(&self, file: &'static str) -> Result<Option<T>, FolderProblem> {
        let text = self.files.get(file);
        text.map(|text| serde_json::from_str(text))
            .transpose()
            .map_err(|source| FolderProblem::Json { file, source })
    }

    /// The graph whose file has one of these names.
    fn graph(&self, names: [&str; 2]) -> Result<&Graph, FolderProblem> {
        let found = names.iter().find_map(|name| self.graphs.iter().find(|graph| graph.file == *name));
        found.ok_or_else(|| missing(names[0]))
    }

    /// A manifest with what every folder says alike.
    fn manifest(&self, config: &Config, graph: &Graph, modality: Modality, output: OutputSpec) -> Manifest {
        Manifest {
            version: VERSION,
            backbone: BackboneSpec {
                id: self.name.clone(),
                modality,
                file: graph.file.clone(),
                sha256: graph.sha256.clone(),
                external: graph.external.clone(),
                licence: self.licence(),
                source_task: format!("not stated: the folder's configuration says `{}`", config.model_type),
                original: None,
                requantise: false,
            },
            text: None,
            words: None,
            text_tower: None,
            image: None,
            audio: None,
            output,
            zero_shot: None,
            engine: EngineSpec::default(),
        }
    }

    /// What the front matter of the card says.
    fn licence(&self) -> String {
        let card = self.files.get("README.md").map_or("", String::as_str);
        let front =
            card.strip_prefix("---").and_then(|rest| rest.split_once("\n---")).map_or("", |(front, _)| front);
        let stated = front.lines().find_map(|line| line.strip_prefix("license:"));
        stated.map_or_else(|| "NOASSERTION".to_owned(), |licence| licence.trim().trim_matches('"').to_owned())
    }
}

impl Graph {
    /// The first of these outputs that the graph has, with the length of its vectors and the number of its dimensions.
    fn output(&self, names: &[&str]) -> Option<(String, Option<usize>, usize)> {
        names.iter().find_map(|name| {
            let dimensions = self.outputs.get(*name)?;
            // Vectors of a picture may come as maps of one place: `[n, dimension, 1, 1]`.
            let vectors = if dimensions.len() == 4 { dimensions.get(1) } else { dimensions.last() };
            Some(((*name).to_owned(), vectors.copied().flatten(), dimensions.len()))
        })
    }

    fn without(&self, names: &[&str]) -> FolderProblem {
        let has: Vec<&str> = self.outputs.keys().map(String::as_str).collect();
        FolderProblem::Unusable(format!(
            "{}: has none of the outputs {}; it has {}",
            self.file,
            names.join(", "),
            has.join(", ")
        ))
    }
}

fn missing(file: &str) -> FolderProblem {
    FolderProblem::Unusable(format!("{file} is missing"))
}

#[cfg(test)]
mod tests;
