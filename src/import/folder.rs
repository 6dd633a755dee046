//! Folders of Hugging Face's: their graphs are copied, or made of their weights; their files say what a manifest would.

use anyhow::Context as _;
use headstart_convert::{Converted, GRAPH, Options, Precision, WEIGHTS};
use headstart_types::Manifest;
use headstart_types::hugging_face::{CONFIG, Contents, GRAPHS, Understood, both_towers, understand};
use headstart_types::manifest::ImageSpec;
use serde_json::Value;

use super::draft::Draft;
use super::facts::Facts;
use super::source::Source;
use super::trial::Trial;
use super::{ImportArguments, Kind, PrecisionName, towers};
use crate::folders;

/// A folder with its graphs.
pub(super) const HUGGING_FACE: Kind = Kind {
    name: "hugging-face",
    what: "a folder of Hugging Face's with ONNX graphs",
    recognise: |source| source.has(CONFIG) && GRAPHS.iter().any(|graph| source.has(graph)),
    import: with_graphs,
};

/// A folder with weights that become a graph.
pub(super) const SAFETENSORS: Kind = Kind {
    name: "safetensors",
    what: "a folder of Hugging Face's with weights as safetensors",
    recognise: |source| source.has(CONFIG) && WEIGHTS.iter().any(|weights| source.has(weights)),
    import: converted,
};

const CARD: &str = "README.md";
/// Most classes that are told by name.
const SHOWN: usize = 8;

const PREPROCESSOR: &str = "preprocessor_config.json";

fn with_graphs(source: &Source, arguments: &ImportArguments, draft: &mut Draft<'_>) -> anyhow::Result<()> {
    arguments.refuse_precision("a graph is copied as it is")?;
    let mut contents = folders::look_into(source.path())?;
    if let Some(graph) = both_towers(&contents) {
        towers::part(&source.path().join(&graph.file), draft)?;
        contents.graphs = folders::look_into(draft.folder())?.graphs;
    }
    finish(source, contents, arguments, draft)
}

fn converted(source: &Source, arguments: &ImportArguments, draft: &mut Draft<'_>) -> anyhow::Result<()> {
    let half = arguments.precision == Some(PrecisionName::F16);
    let precision = if half { Precision::Half } else { Precision::Single };
    let options = Options { precision, ..Options::default() };
    let made = headstart_convert::convert(source.path(), draft.folder(), options)?;
    let Converted { model_type, layers, width, heads, parameters, external, .. } = made;
    draft.note(format!(
        "converted: {model_type} of {layers} layers, width {width}, {heads} heads, {parameters} weights in {} bits{}",
        if half { 16 } else { 32 },
        if external { ", beside the graph" } else { "" }
    ));
    let mut contents = folders::look_into(source.path())?;
    contents.graphs = folders::look_into(draft.folder())?.graphs;
    draft.seal(GRAPH)?;
    if external {
        draft.seal(headstart_convert::EXTERNAL)?;
    }
    finish(source, contents, arguments, draft)
}

/// Understands the folder, copies what the manifest names and is not there yet, and tries it.
fn finish(
    source: &Source,
    mut contents: Contents,
    arguments: &ImportArguments,
    draft: &mut Draft<'_>,
) -> anyhow::Result<()> {
    arguments.graph.refuse_labels("a folder's config.json names the classes")?;
    draft.id().clone_into(&mut contents.name);
    let Understood { mut manifest, assumed } = understand(&contents)?;
    if let Some(licence) = &arguments.licence {
        manifest.backbone.licence.clone_from(licence);
    }
    if let Some(task) = &arguments.source_task {
        manifest.backbone.source_task.clone_from(task);
    }
    let manifest = draft.facts().apply(&manifest)?;
    if manifest.backbone.licence == ImportArguments::NO_LICENCE {
        draft.note("licence not known: state it with `--licence`");
    }
    tell(&manifest, &contents, draft.facts())?;
    for assumption in assumed {
        draft.note(format!("guessed: {assumption}"));
    }
    for (_, file) in manifest.files() {
        let given = arguments.graph.tokenizer.as_ref();
        let given = given.filter(|_| manifest.text.as_ref().is_some_and(|text| text.tokenizer == file));
        if !draft.folder().join(file).exists() {
            let from = given.cloned().unwrap_or_else(|| source.path().join(file));
            draft.copy(&from, file).with_context(|| {
                let hint = if file == "tokenizer.json" {
                    "; `save_pretrained` of a fast tokenizer writes it"
                } else {
                    ""
                };
                format!("the folder needs {file}{hint}")
            })?;
        }
    }
    if source.has(CARD) {
        draft.copy(&source.path().join(CARD), CARD)?;
    }
    let trial = Trial::start(draft.config())?;
    for line in trial.check(draft.folder(), &manifest, arguments.graph.example.as_deref())? {
        draft.note(line);
    }
    draft.write_manifest(&manifest)
}

/// Tells what was read, and where.
fn tell(manifest: &Manifest, contents: &Contents, facts: &mut Facts) -> anyhow::Result<()> {
    let says = |file: &str, otherwise: &str| {
        if contents.files.contains_key(file) { format!("{file} says so") } else { otherwise.to_owned() }
    };
    let read = if contents.files.contains_key(PREPROCESSOR) { "there is a" } else { "there is no" };
    facts.tell("backbone.modality", &manifest.backbone.modality, format!("{read} {PREPROCESSOR}"))?;
    facts.tell("backbone.licence", &manifest.backbone.licence, says(CARD, "no card states one"))?;
    if let Some(text) = &manifest.text {
        facts.tell("text.max_tokens", &text.max_tokens, "it is the shortest length that the files state")?;
        if text.pairs {
            facts.tell("text.pairs", &true, "config.json is of a classifier of sequences")?;
        }
        for (name, prompt) in &text.prompts {
            let from = says("config_sentence_transformers.json", "it was given");
            facts.tell(&format!("text.prompts.{name}"), prompt, from)?;
        }
    }
    if let Some(image) = &manifest.image {
        tell_image(image, contents, facts)?;
    }
    if let Some(features) = &manifest.output.features {
        let graph = &manifest.backbone.file;
        facts.tell("output.features.tensor", &features.tensor, format!("it is an output of {graph}"))?;
        let form = says("1_Pooling/config.json", "of the output's form");
        facts.tell("output.features.pooling", &features.pooling, form)?;
        let length = says("modules.json", "most encoders are compared so");
        facts.tell("output.features.normalise", &features.normalise, length)?;
        facts.tell("output.features.dimension", &features.dimension, "the output is so long")?;
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
