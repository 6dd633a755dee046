//! An ONNX file by itself: what it reads and gives is guessed from its inputs, its first nodes, names and one run.

mod anatomy;
mod image;
mod known;
mod outputs;
mod sound;
mod text;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use headstart_engine::beside;
use headstart_onnx::Outline;
use headstart_tasks::tensors::TensorForm;
use headstart_types::manifest::{BackboneSpec, EngineSpec, OutputSpec, VERSION};
use headstart_types::payload::Modality;
use headstart_types::tensor::{DataType, Values};
use headstart_types::{Manifest, Tensor};

use super::draft::Draft;
use super::source::Source;
use super::trial::Trial;
use super::{ImportArguments, Kind};
use anatomy::Anatomy;

/// A graph.
pub(super) const ONNX: Kind = Kind {
    name: "onnx",
    what: "an ONNX graph",
    recognise: |source| {
        // The first field of nearly every such file: the version of its format.
        let begins = source.head().first() == Some(&8);
        let named = source.path().extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
        (named || begins) && File::open(source.path()).is_ok_and(|file| Outline::read(file).is_ok())
    },
    import,
};

const GRAPH: &str = "model.onnx";
const TOKENIZER: &str = "tokenizer.json";
const LABELS: &str = "labels.txt";

/// What only graphs have.
#[derive(Debug, Args)]
pub(super) struct GraphArguments {
    /// The tokenizer of a graph that reads texts [default: tokenizer.json beside the source]
    #[arg(long, value_name = "FILE")]
    pub(super) tokenizer: Option<PathBuf>,
    /// Names of an ONNX file's classes, one a line, in the order of its logits
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// What a graph is tried on: a text, a picture, a sound, or the body of a call with tensors [default: one that is built in]
    #[arg(long, value_name = "FILE")]
    pub(super) example: Option<PathBuf>,
}

impl GraphArguments {
    /// Refuses all of them for another kind of source.
    pub(super) fn refuse(&self, kind: &str) -> anyhow::Result<()> {
        let all = [("tokenizer", &self.tokenizer), ("labels", &self.labels), ("example", &self.example)];
        match all.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => bail!("`--{name}` belongs to graphs, and the source is {kind}"),
            None => Ok(()),
        }
    }

    pub(super) fn refuse_labels(&self, reason: &str) -> anyhow::Result<()> {
        ensure!(self.labels.is_none(), "`--labels` belongs to an ONNX file by itself: {reason}");
        Ok(())
    }
}

/// What a run gave under one name.
#[derive(Debug, Clone, PartialEq)]
struct Output {
    name: String,
    dims: Vec<usize>,
    /// Empty where they are no floats.
    values: Vec<f32>,
}

/// The graph in the draft's folder, run with whatever it takes.
struct Probe<'a> {
    trial: &'a Trial,
    id: String,
}

impl Probe<'_> {
    fn run(&self, inputs: Vec<TensorForm>) -> anyhow::Result<Vec<Output>> {
        let outputs = self.trial.tensors(&self.id, inputs)?;
        Ok(outputs.into_iter().map(|output| read(output.name, output.tensor)).collect())
    }
}

fn read(name: String, tensor: Tensor) -> Output {
    let values = match tensor.values {
        Values::Fixed { datatype: DataType::Fp32, bytes } => {
            bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
        }
        Values::Fixed { datatype: DataType::Fp16, bytes } => {
            bytes.as_chunks().0.iter().map(|value| half::f16::from_le_bytes(*value).to_f32()).collect()
        }
        Values::Fixed { .. } | Values::Strings(_) => Vec::new(),
    };
    Output { name, dims: tensor.shape, values }
}

fn import(source: &Source, arguments: &ImportArguments, draft: &mut Draft<'_>) -> anyhow::Result<()> {
    arguments.refuse_precision("a graph is copied as it is")?;
    let path = source.path();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let outline = Outline::read(file).with_context(|| path.display().to_string())?;
    let clue = format!("{}-{}", path.file_stem().unwrap_or_default().to_string_lossy(), draft.id());
    let anatomy = Anatomy::of(&outline, &clue);
    draft.note(anatomy.summary());
    let mut manifest = copy(path, &outline, arguments, draft)?;
    if arguments.licence.is_none() {
        draft.note("licence not known: state it with `--licence`");
    }
    let trial = Trial::start(draft.config())?;
    trial.load(draft.folder(), manifest.clone()).context("the graph does not load")?;
    let probe = Probe { trial: &trial, id: draft.id().to_owned() };
    let (modality, because) = anatomy.modality();
    let modality = draft.facts().decide("backbone.modality", modality, because)?;
    manifest.backbone.modality = modality;
    let labels = labels(arguments, draft)?;
    match modality {
        Modality::Text => {
            let beside = path.with_file_name(TOKENIZER);
            let tokenizer = arguments.graph.tokenizer.clone().unwrap_or(beside);
            ensure!(
                tokenizer.is_file(),
                "a graph that reads texts needs `--tokenizer FILE`, a tokenizer.json; there is no {}",
                tokenizer.display()
            );
            draft.copy(&tokenizer, TOKENIZER)?;
            text::fill(&mut manifest, &anatomy, &tokenizer, &probe, draft.facts())?;
        }
        Modality::Image => image::fill(&mut manifest, &anatomy, labels.as_deref(), &probe, draft.facts())?,
        Modality::Audio => sound::fill(&mut manifest, &anatomy, &probe, draft.facts())?,
        Modality::Tensor => draft.note("it is served for raw tensors only, under /v2"),
    }
    let named = manifest.output.logits.as_ref().is_some_and(|logits| logits.labels.is_some());
    ensure!(
        labels.is_none() || named,
        "`--labels`: no output of the graph has as many values as it has lines"
    );
    let manifest = draft.facts().apply(&manifest)?;
    for line in trial.check(draft.folder(), &manifest, arguments.graph.example.as_deref())? {
        draft.note(line);
    }
    draft.note("what was guessed can be given: `--set FIELD=VALUE`");
    draft.write_manifest(&manifest)
}

/// Copies the graph and the files that hold weights of it; a manifest for raw tensors.
fn copy(
    path: &Path,
    outline: &Outline,
    arguments: &ImportArguments,
    draft: &Draft<'_>,
) -> anyhow::Result<Manifest> {
    let mut external = BTreeMap::new();
    for file in outline.external_files() {
        let inside = Path::new(&file).components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(inside, "the graph has weights in `{file}`, which does not lie beside it");
        let place = beside(GRAPH, &file);
        let digest = draft.copy(&path.with_file_name(&file), &place)?;
        external.insert(place, digest);
    }
    let sha256 = draft.copy(path, GRAPH)?;
    let task = arguments.source_task.clone();
    Ok(Manifest {
        version: VERSION,
        backbone: BackboneSpec {
            id: draft.id().to_owned(),
            modality: Modality::Tensor,
            file: GRAPH.to_owned(),
            sha256,
            external,
            licence: arguments.licence().to_owned(),
            source_task: task.unwrap_or_else(|| "not stated: imported from an ONNX file".to_owned()),
            original: None,
            requantise: false,
        },
        text: None,
        words: None,
        text_tower: None,
        image: None,
        audio: None,
        output: OutputSpec::default(),
        zero_shot: None,
        engine: EngineSpec::default(),
    })
}

/// The names of classes, copied as lines.
fn labels(arguments: &ImportArguments, draft: &Draft<'_>) -> anyhow::Result<Option<Vec<String>>> {
    let Some(path) = &arguments.graph.labels else { return Ok(None) };
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let labels: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    ensure!(!labels.is_empty(), "{} names no class", path.display());
    draft.write(LABELS, (labels.join("\n") + "\n").as_bytes())?;
    Ok(Some(labels))
}
