//! A backbone in the making, tried as a server would run it: it must load, and give finite vectors for an example.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use headstart_engine::{Engine, Folder};
use headstart_tasks::features::{Features, FeaturesParams, Vector};
use headstart_tasks::rerank::{Rerank, RerankAnswer, RerankParams};
use headstart_tasks::tensors::{NamedTensor, TensorData, TensorForm, infer};
use headstart_tasks::zero_shot::{ZeroShotLabels, ZeroShotParams};
use headstart_tasks::{Caller, Entry, Label, Labels, Served, Task as _};
use headstart_types::payload::Modality;
use headstart_types::tensor::{DataType, Values};
use headstart_types::{Manifest, Media, Payload};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::runtime::Runtime;

use crate::app::App;
use crate::config::Config;

/// A photo of a cat: scikit-image's Chelsea, CC0.
pub(super) const CAT: &[u8] = include_bytes!("cat.jpg");

const TEXT: &str = "The cat sits on the mat.";
const ALIKE: &str = "A cat is sitting on a mat.";
const APART: &str = "Interest rates rose again in March.";

/// Seconds of the built-in sound, and samples of each.
const SECONDS: u32 = 2;
const RATE: u32 = 16_000;

/// Sizes tried for dimensions that a graph leaves open, but the first, which is 1.
const SIZES: [usize; 4] = [8, 64, 224, 1];

/// An engine with one backbone on it.
pub(super) struct Trial {
    app: App,
    engine: Engine,
    runtime: Runtime,
}

/// A body of the open inference protocol.
#[derive(Deserialize)]
struct Body {
    inputs: Vec<BodyInput>,
}

#[derive(Deserialize)]
struct BodyInput {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    data: Box<RawValue>,
}

impl Trial {
    pub(super) fn start(config: &Config) -> anyhow::Result<Self> {
        // A second call is to be computed, not remembered.
        let app = App::at_terminal(Config { cache_bytes: 0, ..config.clone() })?;
        let engine = app.start_engine()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { app, engine, runtime })
    }

    /// Loads a folder in place of what was loaded before.
    pub(super) fn load(&self, folder: &Path, manifest: Manifest) -> anyhow::Result<Arc<Served>> {
        self.app.tasks.catalog.clear();
        let id = manifest.backbone.id.clone();
        let served = Arc::new(Served::load(&self.engine, Folder::with_manifest(folder, manifest), 0)?);
        self.app.tasks.catalog.insert(id, Entry::Served(Arc::clone(&served)));
        Ok(served)
    }

    /// What the graph gives for tensors.
    pub(super) fn tensors(&self, id: &str, inputs: Vec<TensorForm>) -> anyhow::Result<Vec<NamedTensor>> {
        let run = infer(&self.app.tasks, id, inputs, &[], Caller::default());
        Ok(self.runtime.block_on(run)?.0)
    }

    /// Tries a backbone on an example, or on a built-in one; what there is to tell.
    pub(super) fn check(
        &self,
        folder: &Path,
        manifest: &Manifest,
        example: Option<&Path>,
    ) -> anyhow::Result<Vec<String>> {
        let given = example.map(|path| std::fs::read(path).with_context(|| path.display().to_string()));
        let given = given.transpose()?;
        let plain = as_it_comes(manifest);
        let served = self.load(folder, plain).context("the backbone does not load")?;
        let id = &manifest.backbone.id;
        if manifest.backbone.modality == Modality::Tensor {
            return self.check_tensors(id, &served, given);
        }
        if manifest.reads_pairs() {
            return self.check_pair(id, given);
        }
        let mut told = vec![self.check_features(manifest, manifest.backbone.modality, given.as_deref())?];
        if manifest.text_tower.is_some() {
            told.push(self.check_features(manifest, Modality::Text, None)?);
        }
        if manifest.modalities().contains(&Modality::Text) && given.is_none() {
            let texts = [TEXT, ALIKE, APART].map(str::to_owned).to_vec();
            let vectors = self.features(id, &Payload::texts(texts))?.0;
            if let [text, alike, apart] = vectors.as_slice() {
                let (near, far) = (cosine(text, alike), cosine(text, apart));
                told.push(format!("the cosine to “{ALIKE}” is {near:.3}, to “{APART}” {far:.3}"));
            }
        }
        Ok(told)
    }

    fn check_features(
        &self,
        manifest: &Manifest,
        modality: Modality,
        given: Option<&[u8]>,
    ) -> anyhow::Result<String> {
        let (payload, what) = example(modality, given)?;
        let id = &manifest.backbone.id;
        self.features(id, &payload)?;
        let (vectors, took) = self.features(id, &payload)?;
        let vector = vectors.first().context("no vector came of the example")?;
        let (length, expected) = (vector.len(), manifest.dimension());
        ensure!(
            length == expected,
            "{what} gives {length} values, `output.features.dimension` is {expected}"
        );
        let wrong = vector.iter().filter(|value| !value.is_finite()).count();
        ensure!(wrong == 0, "{wrong} of the {length} values that {what} gives are not finite numbers");
        let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        ensure!(norm > 0.0, "all {length} values that {what} gives are zero");
        let took = milliseconds(took);
        Ok(format!(
            "tried on {what}: {length} values, all finite, length {norm:.4} before normalisation, {took}"
        ))
    }

    /// Vectors of a payload, and how long they took.
    fn features(&self, id: &str, payload: &Payload) -> anyhow::Result<(Vec<Vec<f32>>, Duration)> {
        let (model, input) = (Some(id.to_owned()), Some(payload.clone()));
        let params = FeaturesParams { model, input, ..FeaturesParams::default() };
        let started = Instant::now();
        let done = self.runtime.block_on(Features::run(&self.app.tasks, params, Caller::default()))?;
        let took = started.elapsed();
        let vectors = done.answer.data.into_iter().filter_map(|datum| match datum.embedding {
            Vector::Float(vector) => Some(vector.as_slice().to_vec()),
            Vector::Base64(_) => None,
        });
        Ok((vectors.collect(), took))
    }

    fn check_pair(&self, id: &str, given: Option<Vec<u8>>) -> anyhow::Result<Vec<String>> {
        let given = given.map(String::from_utf8).transpose().context("the example is not UTF-8")?;
        let (query, documents) = match &given {
            None => (TEXT, vec![ALIKE, APART]),
            Some(text) => {
                let mut lines = text.lines().filter(|line| !line.trim().is_empty());
                (lines.next().unwrap_or_default(), lines.collect())
            }
        };
        ensure!(!documents.is_empty(), "the example has two lines for a model that reads pairs");
        let served = self.app.tasks.catalog.at_hand(id)?;
        if served.manifest().output.logits.as_ref().is_some_and(|logits| logits.classes.len() != 1) {
            return self.check_labels(id, query);
        }
        let params = RerankParams {
            model: Some(id.to_owned()),
            query: Some(Payload::texts(vec![query.to_owned()])),
            documents: Some(Payload::texts(documents.iter().map(|&text| text.to_owned()).collect())),
            raw_scores: Some(true),
            ..RerankParams::default()
        };
        let started = Instant::now();
        let done = self.runtime.block_on(Rerank::run(&self.app.tasks, params, Caller::default()))?;
        let took = milliseconds(started.elapsed());
        let RerankAnswer::Ranked(ranked) = done.answer else { bail!("no scores came of the example") };
        let mut told = vec![format!("tried on “{query}” with {} others, {took}", documents.len())];
        for result in ranked.results {
            let (score, text) = (result.relevance_score, documents.get(result.index).copied());
            ensure!(score.is_finite(), "the score of the example is not a finite number");
            told.push(format!("the logit of “{}” is {score:.3}", text.unwrap_or_default()));
        }
        Ok(told)
    }

    /// A cross-encoder that tells entailment is asked for labels.
    fn check_labels(&self, id: &str, text: &str) -> anyhow::Result<Vec<String>> {
        let label = |label: &str| Label { label: label.to_owned(), description: None, examples: Vec::new() };
        let params = ZeroShotParams {
            model: Some(id.to_owned()),
            input: Some(Payload::texts(vec![text.to_owned()])),
            labels: Some(Labels::from(vec![label("animals"), label("money")])),
            ..ZeroShotParams::default()
        };
        let started = Instant::now();
        let done = self.runtime.block_on(ZeroShotLabels::run(&self.app.tasks, params, Caller::default()))?;
        let took = milliseconds(started.elapsed());
        let scores: Vec<_> = done.answer.data.iter().flat_map(|item| &item.scores).collect();
        ensure!(
            !scores.is_empty() && scores.iter().all(|score| score.score.is_finite()),
            "the scores of the example are not finite numbers"
        );
        let scores: Vec<String> =
            scores.iter().map(|score| format!("{} {:.3}", score.label, score.score)).collect();
        Ok(vec![format!("tried on “{text}”: by labels {}, {took}", scores.join(", "))])
    }

    fn check_tensors(
        &self,
        id: &str,
        served: &Served,
        given: Option<Vec<u8>>,
    ) -> anyhow::Result<Vec<String>> {
        let own = given.is_some();
        let inputs = match given {
            Some(body) => {
                let body: Body = serde_json::from_slice(&body).context(
                    "the example is a body of the open inference protocol: {\"inputs\": [{\"name\", \"shape\", \
                     \"datatype\", \"data\"}]}",
                )?;
                let form = |input: BodyInput| TensorForm {
                    name: input.name,
                    datatype: input.datatype,
                    shape: input.shape,
                    data: TensorData::Json(input.data),
                };
                let started = Instant::now();
                let outputs = self.tensors(id, body.inputs.into_iter().map(form).collect())?;
                return told_of(&outputs, "the example", own, started.elapsed());
            }
            None => &served.graph()?.signature().inputs,
        };
        let mut failed = None;
        for size in SIZES {
            let made = inputs.iter().map(|spec| {
                let free = |(place, size_of): (usize, &Option<usize>)| {
                    size_of.unwrap_or(if place == 0 { 1 } else { size })
                };
                let shape: Vec<usize> = spec.shape.iter().enumerate().map(free).collect();
                form(&spec.name, spec.datatype, shape)
            });
            let made = made.collect();
            let started = Instant::now();
            match self.tensors(id, made) {
                Ok(outputs) => return told_of(&outputs, "zeros", own, started.elapsed()),
                Err(error) => failed = Some(error),
            }
        }
        let reason = failed.map_or_else(String::new, |error| format!(": {error}"));
        Ok(vec![format!("loads, but takes no zeros; give `--example` to see what it computes{reason}")])
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.app.tasks.catalog.clear();
    }
}

/// The backbone without what is behind its vectors: they come as long as the graph makes them.
fn as_it_comes(manifest: &Manifest) -> Manifest {
    let mut plain = manifest.clone();
    plain.zero_shot = plain.zero_shot.filter(|_| manifest.reads_pairs());
    if let Some(features) = &mut plain.output.features {
        features.normalise = false;
    }
    if let Some(tower) = &mut plain.text_tower {
        tower.features.normalise = false;
    }
    plain
}

/// A tensor of zeros.
pub(super) fn form(name: &str, datatype: DataType, shape: Vec<usize>) -> TensorForm {
    let elements: usize = shape.iter().product();
    // A string of the protocol is its length and then itself.
    let bytes = vec![0; elements * datatype.size().unwrap_or(4)];
    filled(name, datatype, shape, bytes)
}

/// A tensor of such elements.
pub(super) fn filled(name: &str, datatype: DataType, shape: Vec<usize>, bytes: Vec<u8>) -> TensorForm {
    TensorForm {
        name: name.to_owned(),
        datatype: datatype.as_str().to_owned(),
        shape,
        data: TensorData::Binary(Bytes::from(bytes)),
    }
}

fn told_of(outputs: &[NamedTensor], what: &str, own: bool, took: Duration) -> anyhow::Result<Vec<String>> {
    let took = milliseconds(took);
    let mut told = Vec::new();
    for NamedTensor { name, tensor } in outputs {
        let wrong = not_finite(&tensor.values);
        ensure!(wrong == 0 || !own, "the output `{name}` has {wrong} values that are not finite numbers");
        let finite = if wrong == 0 {
            "all finite".to_owned()
        } else {
            format!("{wrong} of them not finite: give `--example` to see it on real values")
        };
        told.push(format!("tried on {what}: the output `{name}` is {:?}, {finite}, {took}", tensor.shape));
    }
    Ok(told)
}

/// How many values of a tensor of floats are no finite numbers.
fn not_finite(values: &Values) -> usize {
    match values {
        Values::Fixed { datatype: DataType::Fp32, bytes } => {
            bytes.as_chunks().0.iter().filter(|value| !f32::from_le_bytes(**value).is_finite()).count()
        }
        Values::Fixed { datatype: DataType::Fp16, bytes } => {
            bytes.as_chunks().0.iter().filter(|value| !half::f16::from_le_bytes(**value).is_finite()).count()
        }
        Values::Fixed { .. } | Values::Strings(_) => 0,
    }
}

/// The example, and what to call it.
fn example(modality: Modality, given: Option<&[u8]>) -> anyhow::Result<(Payload, String)> {
    let file = |bytes: &[u8]| Payload::files(vec![Media::Bytes(Bytes::copy_from_slice(bytes))]);
    Ok(match (modality, given) {
        (Modality::Text, None) => (Payload::texts(vec![TEXT.to_owned()]), format!("“{TEXT}”")),
        (Modality::Text, Some(bytes)) => {
            let text = std::str::from_utf8(bytes).context("the example is not UTF-8")?.trim().to_owned();
            (Payload::texts(vec![text]), "the example".to_owned())
        }
        (Modality::Image, None) => (file(CAT), "a photo of a cat".to_owned()),
        (Modality::Audio, None) => (file(&chirp()), format!("a tone that rises for {SECONDS} s")),
        (Modality::Image | Modality::Audio, Some(bytes)) => (file(bytes), "the example".to_owned()),
        (Modality::Tensor, _) => bail!("tensors have no example of this kind"),
    })
}

/// A WAV file of a tone that rises from 100 Hz to 4 kHz.
fn chirp() -> Vec<u8> {
    let samples = SECONDS * RATE;
    let mut file = Vec::with_capacity(44 + 2 * samples as usize);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + 2 * samples).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&RATE.to_le_bytes());
    file.extend_from_slice(&(2 * RATE).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&(2 * samples).to_le_bytes());
    for sample in 0..samples {
        let at = f64::from(sample) / f64::from(RATE);
        let phase = std::f64::consts::TAU * at * (100.0 + 1950.0 * at / f64::from(SECONDS));
        file.extend_from_slice(&((phase.sin() * 16_000.0) as i16).to_le_bytes());
    }
    file
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt().max(f64::MIN_POSITIVE)
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}
