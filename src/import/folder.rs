//! Folders of Hugging Face's: their graphs are copied, or made of their weights; their files say what a manifest would.

use anyhow::Context as _;
use headstart_convert::{Converted, GRAPH, Options, Precision, WEIGHTS};
use headstart_types::hugging_face::{CONFIG, Contents, GRAPHS, Understood, both_towers, understand};

use super::draft::Draft;
use super::source::Source;
use super::trial::Trial;
use super::{ImportArguments, Kind, PrecisionName, reasons, scale, towers};
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

fn with_graphs(source: &Source, arguments: &ImportArguments, draft: &mut Draft<'_>) -> anyhow::Result<()> {
    arguments.refuse_precision("a graph is copied as it is")?;
    let mut contents = folders::look_into(source.path())?;
    if let Some(graph) = both_towers(&contents) {
        let path = source.path().join(&graph.file);
        towers::part(&path, draft)?;
        scale::state(&path, &mut contents, draft)?;
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
    let stated = manifest.backbone.licence != ImportArguments::NO_LICENCE;
    if let Some(licence) = &arguments.licence {
        manifest.backbone.licence.clone_from(licence);
    }
    let licence_from = match (&arguments.licence, stated, source.has(CARD)) {
        (Some(_), ..) => "it was given",
        (None, true, _) => "README.md says so",
        (None, false, true) => "README.md states none",
        (None, false, false) => "there is no README.md",
    };
    if let Some(task) = &arguments.source_task {
        manifest.backbone.source_task.clone_from(task);
    }
    let manifest = draft.facts().apply(&manifest)?;
    if manifest.backbone.licence == ImportArguments::NO_LICENCE {
        draft.note("licence not known: state it with `--licence`");
    }
    reasons::tell(&manifest, &contents, licence_from, draft.facts())?;
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
