//! Two towers, CLIP's and SigLIP's: one graph for pictures, one for texts, one space.

use super::{CONFIG, Config, Contents, FolderProblem, Graph, processor};
use crate::manifest::{
    FeaturesSpec, LabelSpec, Manifest, OutputSpec, PaddingSpec, Pooling, TextSpec, TextTowerSpec, TowersSpec,
    ZeroShotSpec,
};
use crate::payload::Modality;

/// The graph of each tower of a folder that has one for each, and its vectors where they are projected.
pub const TOWERS: [(&str, &str); 2] = [(TEXTS, TEXT_VECTORS), (PICTURES, PICTURE_VECTORS)];

const TEXTS: &str = "text_model.onnx";
const PICTURES: &str = "vision_model.onnx";
const TEXT_VECTORS: &str = "text_embeds";
const PICTURE_VECTORS: &str = "image_embeds";

/// Every CLIP that was published ended at the limit of its scale.
const CLIP_SCALE: f64 = 100.0;

/// Scale and bias of `google/siglip-base-patch16-224`.
const SIGLIP_SCALE: f64 = 117.33;
const SIGLIP_BIAS: f64 = -12.93;

/// How the zero-shot image pipeline of transformers puts labels, unless it is told otherwise.
const HYPOTHESIS: &str = "This is a photo of {}.";

/// How descriptions and examples of labels weigh, as in the bundled backbones.
const DESCRIPTION_WEIGHT: f32 = 0.5;
const EXAMPLE_PRIOR: f32 = 5.0;

/// The one graph of a folder that holds both towers, as Optimum exports them unless it is told otherwise. It is to be
/// parted before it is served: a request has texts or pictures, and it wants both.
#[must_use]
pub fn both_towers(contents: &Contents) -> Option<&Graph> {
    let config: Config = contents.json(CONFIG).ok().flatten()?;
    let two = config.text_config.is_some() && config.vision_config.is_some();
    let apart = TOWERS.iter().any(|(file, _)| contents.graphs.iter().any(|graph| graph.file.ends_with(file)));
    let graph = contents.graph(["onnx/model.onnx", "model.onnx"]).ok()?;
    let all = TOWERS.iter().all(|(_, vectors)| graph.outputs.contains_key(*vectors));
    (two && !apart && all).then_some(graph)
}

pub(super) fn manifest(
    contents: &Contents,
    config: &Config,
    assumed: &mut Vec<String>,
) -> Result<Manifest, FolderProblem> {
    if let Some(graph) = both_towers(contents) {
        return Err(FolderProblem::Unusable(format!(
            "{} holds both towers, and each is read from a graph of its own: `headstart import` of this folder parts it",
            graph.file
        )));
    }
    let pictures = contents.graph(["onnx/vision_model.onnx", PICTURES])?;
    let texts = contents.graph(["onnx/text_model.onnx", TEXTS])?;
    let (text, vision) = (config.text_config.as_ref(), config.vision_config.as_ref());
    let siglip = config.model_type.starts_with("siglip");
    let known = config.projection_dim.filter(|_| !siglip);
    let of_pictures = known.or_else(|| vision?.hidden_size);
    let of_texts = known.or_else(|| text?.hidden_size);
    let output =
        OutputSpec { features: Some(features(pictures, PICTURE_VECTORS, of_pictures)?), logits: None };
    let tower = TextTowerSpec {
        file: texts.file.clone(),
        sha256: texts.sha256.clone(),
        external: texts.external.clone(),
        features: features(texts, TEXT_VECTORS, of_texts)?,
    };
    let usual = if siglip { 64 } else { 77 };
    let max_tokens = text.and_then(|text| text.max_position_embeddings).unwrap_or(usual);
    // SigLIP reads the vector behind the last of all positions, and was only ever shown full ones.
    let padding = siglip.then(|| PaddingSpec {
        length: max_tokens,
        token: text.and_then(|text| text.pad_token_id).unwrap_or(1),
    });
    let spec = TextSpec { tokenizer: "tokenizer.json".into(), max_tokens, padding, ..TextSpec::default() };
    Ok(Manifest {
        text: Some(spec),
        words: None,
        text_tower: Some(tower),
        image: Some(processor::spec(contents, vision.and_then(|vision| vision.image_size), assumed)?),
        zero_shot: Some(ZeroShotSpec::Towers(scores(config, siglip, assumed))),
        ..contents.manifest(config, pictures, Modality::Image, output)
    })
}

fn features(graph: &Graph, projected: &str, known: Option<usize>) -> Result<FeaturesSpec, FolderProblem> {
    let names = [projected, "pooler_output"];
    let (tensor, stated, _) = graph.output(&names).ok_or_else(|| graph.without(&names))?;
    let dimension = stated.or(known).ok_or_else(|| {
        FolderProblem::Unusable(format!("neither {} nor config.json says how long vectors are", graph.file))
    })?;
    Ok(FeaturesSpec { tensor, pooling: Pooling::None, normalise: true, dimension })
}

/// Scale and bias are weights, which graphs of single towers do not have: a folder may state them in its `config.json`.
fn scores(config: &Config, siglip: bool, assumed: &mut Vec<String>) -> TowersSpec {
    let (scale, bias) = if siglip { (SIGLIP_SCALE, Some(SIGLIP_BIAS)) } else { (CLIP_SCALE, None) };
    if config.logit_scale.is_none() {
        let bias = bias.map_or_else(String::new, |bias| format!(" and logit_bias {bias}"));
        assumed.push(format!("config.json states no logit_scale: {scale}{bias}"));
    }
    TowersSpec {
        logit_scale: config.logit_scale.unwrap_or(scale),
        logit_bias: config.logit_bias.or(bias.filter(|_| config.logit_scale.is_none())),
        labels: LabelSpec {
            templates: vec![HYPOTHESIS.into()],
            description_weight: DESCRIPTION_WEIGHT,
            example_prior: EXAMPLE_PRIOR,
        },
    }
}
