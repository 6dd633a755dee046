//! Image classifiers and encoders: `preprocessor_config.json` and what the graph gives.

use serde::Deserialize;

use super::{Config, Contents, FolderProblem, PREPROCESSOR, processor};
use crate::manifest::{FeaturesSpec, LogitsSpec, Manifest, OutputSpec, Pooling};
use crate::payload::Modality;

/// Outputs that are features, the best known first.
const FEATURES: [&str; 4] = ["image_embeds", "pooler_output", HIDDEN, "logits"];
const HIDDEN: &str = "last_hidden_state";

/// A size as any of these files writes it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum Sides {
    Side(u32),
    Pair([u32; 2]),
    Shortest { shortest_edge: u32, longest_edge: Option<u32> },
    Both { height: u32, width: u32 },
}

impl Sides {
    /// The side of a square, or the shorter side that is asked for.
    pub(super) fn side(self) -> Result<u32, FolderProblem> {
        match self {
            Self::Shortest { longest_edge: Some(longest), .. } => Err(FolderProblem::Unusable(format!(
                "{PREPROCESSOR}: `longest_edge` is {longest}, and pictures are not bounded so here: write a manifest"
            ))),
            Self::Side(side) | Self::Shortest { shortest_edge: side, longest_edge: None } => Ok(side),
            Self::Pair([height, width]) | Self::Both { height, width } if height == width => Ok(height),
            Self::Pair([height, width]) | Self::Both { height, width } => {
                Err(FolderProblem::Unusable(format!(
                    "{PREPROCESSOR}: {height} × {width} is no square, and graphs of squares only are served"
                )))
            }
        }
    }

    /// Whether this is a square's side; `None` where that depends on who reads it.
    pub(super) fn is_square(self) -> Option<bool> {
        match self {
            Self::Side(_) => None,
            Self::Pair(_) | Self::Both { .. } => Some(true),
            Self::Shortest { .. } => Some(false),
        }
    }
}

pub(super) fn manifest(
    contents: &Contents,
    config: &Config,
    assumed: &mut Vec<String>,
) -> Result<Manifest, FolderProblem> {
    let graph = contents.graph(["onnx/model.onnx", "model.onnx"])?;
    let image = processor::spec(contents, config.image_size, assumed)?;
    let (tensor, stated, rank) = graph.output(&FEATURES).ok_or_else(|| graph.without(&FEATURES))?;
    let pooling = match (tensor.as_str(), rank) {
        (HIDDEN, 4) => Pooling::Mean,
        (HIDDEN, _) => Pooling::Cls,
        _ => Pooling::None,
    };
    if pooling == Pooling::Cls {
        assumed.push("the graph gives the vectors of patches: the first of them is the picture's".into());
    }
    let classes = config.classes();
    let logits = graph.output(&["logits"]).filter(|_| !classes.is_empty());
    if tensor == "logits" {
        assumed.push("the graph gives nothing but its logits: they are its features".into());
    }
    let known = if tensor == "logits" { Some(classes.len()) } else { config.hidden_size };
    let dimension = stated.or(known).ok_or_else(|| {
        FolderProblem::Unusable(format!("neither {} nor config.json says how long vectors are", graph.file))
    })?;
    let output = OutputSpec {
        features: Some(FeaturesSpec { tensor, pooling, normalise: true, dimension }),
        logits: logits.map(|(tensor, _, _)| LogitsSpec { tensor, labels: None, classes }),
    };
    Ok(Manifest { image: Some(image), ..contents.manifest(config, graph, Modality::Image, output) })
}
