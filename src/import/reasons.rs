//! Why a folder of Hugging Face's has the manifest that it gets: each field with the file that says so, or that none does.

use headstart_types::Manifest;
use headstart_types::hugging_face::{CONFIG, Contents};
use headstart_types::manifest::{FeaturesSpec, ImageSpec, Pooling, TextSpec};
use serde_json::Value;

use super::facts::Facts;

/// Most classes that are told by name.
const SHOWN: usize = 8;

const PREPROCESSOR: &str = "preprocessor_config.json";

/// Tells what was read, and where; where the licence is from, only who has the arguments knows.
pub(super) fn tell(
    manifest: &Manifest,
    contents: &Contents,
    licence_from: &str,
    facts: &mut Facts,
) -> anyhow::Result<()> {
    let read = if contents.files.contains_key(PREPROCESSOR) { "there is a" } else { "there is no" };
    facts.tell("backbone.modality", &manifest.backbone.modality, format!("{read} {PREPROCESSOR}"))?;
    facts.tell("backbone.licence", &manifest.backbone.licence, licence_from)?;
    if let Some(text) = &manifest.text {
        let length = length_from(text, manifest.text_tower.is_some(), contents);
        facts.tell("text.max_tokens", &text.max_tokens, length)?;
        if text.pairs {
            facts.tell("text.pairs", &true, "config.json is of a classifier of sequences")?;
        }
        for (name, prompt) in &text.prompts {
            let from = says(contents, "config_sentence_transformers.json", "it was given");
            facts.tell(&format!("text.prompts.{name}"), prompt, from)?;
        }
    }
    if let Some(image) = &manifest.image {
        tell_image(image, contents, facts)?;
    }
    if let Some(features) = &manifest.output.features {
        tell_features(features, manifest, contents, facts)?;
    }
    if let Some(logits) = &manifest.output.logits {
        let classes = match logits.classes.as_slice() {
            few if few.len() <= SHOWN => few.join(", "),
            many => format!("{} names", many.len()),
        };
        facts.tell("output.logits.classes", &classes, "config.json names them")?;
    }
    Ok(())
}

fn says(contents: &Contents, file: &str, otherwise: &str) -> String {
    if contents.files.contains_key(file) { format!("{file} says so") } else { otherwise.to_owned() }
}

/// Tells how outputs become vectors.
fn tell_features(
    features: &FeaturesSpec,
    manifest: &Manifest,
    contents: &Contents,
    facts: &mut Facts,
) -> anyhow::Result<()> {
    let graph = &manifest.backbone.file;
    facts.tell("output.features.tensor", &features.tensor, format!("it is an output of {graph}"))?;
    // What is one vector already, or of pictures, no file of sentence-transformers decides.
    let form = if manifest.image.is_some() || features.pooling == Pooling::None {
        "of the output's form".to_owned()
    } else {
        says(contents, "1_Pooling/config.json", "no 1_Pooling/config.json says otherwise")
    };
    facts.tell("output.features.pooling", &features.pooling, form)?;
    let length = if manifest.reads_pairs() {
        "scores of pairs stay as they are".to_owned()
    } else if manifest.image.is_some() {
        "most encoders are compared so".to_owned()
    } else {
        says(contents, "modules.json", "most encoders are compared so")
    };
    facts.tell("output.features.normalise", &features.normalise, length)?;
    facts.tell("output.features.dimension", &features.dimension, "the output is so long")
}

/// Why texts are cut where they are: a file has that very number, or none states one.
fn length_from(text: &TextSpec, is_tower: bool, contents: &Contents) -> &'static str {
    // Of RoBERTa's positions two are not for tokens.
    let places: &[(&str, &str, &[f64])] = if is_tower {
        &[(CONFIG, "/text_config/max_position_embeddings", &[0.0])]
    } else {
        &[
            ("sentence_bert_config.json", "/max_seq_length", &[0.0]),
            ("tokenizer_config.json", "/model_max_length", &[0.0]),
            (CONFIG, "/max_position_embeddings", &[0.0, 2.0]),
        ]
    };
    let states = |(file, field, more): &(&str, &str, &[f64])| {
        let file = contents.files.get(file).and_then(|text| serde_json::from_str::<Value>(text).ok());
        let stated = file.and_then(|file| file.pointer(field)?.as_f64());
        stated.is_some_and(|stated| more.iter().any(|more| stated - more == text.max_tokens as f64))
    };
    match (places.iter().any(states), is_tower) {
        (true, _) => "it is the shortest length that the files state",
        (false, true) => "it is usual, and config.json states none for texts",
        (false, false) => "it is usual, and no file states one",
    }
}

/// Tells how pictures become tensors, and which of it the file says.
fn tell_image(image: &ImageSpec, contents: &Contents, facts: &mut Facts) -> anyhow::Result<()> {
    let file = contents.files.get(PREPROCESSOR).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let states =
        |field: &&str| file.as_ref().and_then(|file| file.get(field)).is_some_and(|it| !it.is_null());
    let from = |fields: &[&str]| {
        if fields.iter().any(states) {
            format!("{PREPROCESSOR} says so")
        } else {
            format!("it is usual for its processor, and {PREPROCESSOR} states none")
        }
    };
    let side = if states(&"size") { PREPROCESSOR } else { CONFIG };
    let side = format!("{side} says so");
    facts.tell("image.size", &image.size, &side)?;
    facts.tell("image.resize", &image.resize, &side)?;
    facts.tell("image.fit", &image.fit, &side)?;
    facts.tell("image.filter", &image.filter, from(&["resample"]))?;
    facts.tell("image.scale", &image.scale, from(&["rescale_factor", "do_rescale"]))?;
    // Where nothing is normalised, no mean that the file may have is used.
    let plain = image.mean == [0.0; 3] && image.std == [1.0; 3];
    let mean: &[&str] = if plain { &["do_normalize"] } else { &["image_mean"] };
    let std: &[&str] = if plain { &["do_normalize"] } else { &["image_std"] };
    facts.tell("image.mean", &image.mean, from(mean))?;
    facts.tell("image.std", &image.std, from(std))?;
    facts.tell("image.channel_order", &image.channel_order, from(&["do_flip_channel_order"]))
}
