//! Image classifiers and encoders: `preprocessor_config.json` and what the graph gives.

use serde::Deserialize;

use super::{Config, Contents, FolderProblem, PREPROCESSOR, missing};
use crate::manifest::{
    ChannelOrder, FeaturesSpec, Filter, Fit, ImageSpec, Layout, LogitsSpec, Manifest, OutputSpec, Pooling,
};
use crate::payload::Modality;

/// Mean and deviation where a file states none.
const HALF: [f32; 3] = [0.5; 3];

/// Outputs that are features, the best known first.
const FEATURES: [&str; 4] = ["image_embeds", "pooler_output", HIDDEN, "logits"];
const HIDDEN: &str = "last_hidden_state";

/// A size as any of these files writes it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum Sides {
    Side(u32),
    Pair([u32; 2]),
    Shortest { shortest_edge: u32 },
    Both { height: u32, width: u32 },
}

impl Sides {
    /// The side of a square, or the shorter side that is asked for.
    pub(super) fn side(self) -> Result<u32, FolderProblem> {
        match self {
            Self::Side(side) | Self::Shortest { shortest_edge: side } => Ok(side),
            Self::Pair([height, width]) | Self::Both { height, width } if height == width => Ok(height),
            Self::Pair([height, width]) | Self::Both { height, width } => {
                Err(FolderProblem::Unusable(format!(
                    "{PREPROCESSOR}: {height} × {width} is no square, and graphs of squares only are served"
                )))
            }
        }
    }

    /// Whether both sides become this long where nothing is cropped, whatever the picture's shape.
    fn stretches(self) -> bool {
        matches!(self, Self::Side(_) | Self::Pair(_) | Self::Both { .. })
    }
}

/// `preprocessor_config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Preprocessor {
    feature_extractor_type: Option<String>,
    size: Option<Sides>,
    crop_size: Option<Sides>,
    crop_pct: Option<f64>,
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    resample: Option<u8>,
    rescale_factor: Option<f32>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

pub(super) fn manifest(
    contents: &Contents,
    config: &Config,
    assumed: &mut Vec<String>,
) -> Result<Manifest, FolderProblem> {
    let graph = contents.graph(["onnx/model.onnx", "model.onnx"])?;
    let image = spec(contents, config.image_size)?;
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

/// How pictures become tensors. `own` is the side that the model's configuration states.
pub(super) fn spec(contents: &Contents, own: Option<Sides>) -> Result<ImageSpec, FolderProblem> {
    let file: Preprocessor = contents.json(PREPROCESSOR)?.ok_or_else(|| missing(PREPROCESSOR))?;
    let unusable = |problem: &str| FolderProblem::Unusable(format!("{PREPROCESSOR}: {problem}"));
    if file.do_resize == Some(false) {
        return Err(unusable("`do_resize` is false, and pictures come in all sizes"));
    }
    let asked = file.size.or(own).ok_or_else(|| unusable("states no `size`"))?;
    // Older files of CLIP's kind state the shorter side as a bare number, of ViT's kind a square.
    let clip = file.feature_extractor_type.as_deref().is_some_and(|name| name.starts_with("CLIP"));
    let crops = file.do_center_crop.unwrap_or(clip || file.crop_size.is_some() || file.crop_pct.is_some());
    let side = asked.side()?;
    let (size, resize) = match (file.crop_size, file.crop_pct) {
        (Some(crop), _) if crops => (crop.side()?, side),
        (None, Some(share)) if crops && share > 0.0 => (side, (f64::from(side) / share) as u32),
        _ => (side, side),
    };
    let fit = if asked.stretches() && !crops { Fit::Stretch } else { Fit::Crop };
    let rescales = file.do_rescale != Some(false);
    let scale = if rescales { file.rescale_factor.unwrap_or(1.0 / 255.0) } else { 1.0 };
    let normalises = file.do_normalize != Some(false);
    let (mean, std) = if normalises {
        (file.image_mean.unwrap_or(HALF), file.image_std.unwrap_or(HALF))
    } else {
        ([0.0; 3], [1.0; 3])
    };
    let filter = match file.resample {
        None | Some(2) => Filter::Bilinear,
        Some(3) => Filter::Bicubic,
        Some(1) => Filter::Lanczos,
        Some(other) => return Err(unusable(&format!("the resampling filter {other} is not known here"))),
    };
    Ok(ImageSpec {
        size,
        resize,
        fit,
        filter,
        scale,
        mean,
        std,
        channel_order: ChannelOrder::Rgb,
        layout: Layout::Nchw,
    })
}
