//! A training itself: the fitted head and the backbone's graph as one classifier, its weights changed, and what was changed
//! kept apart from what came with the backbone. Blocking; nothing here knows of jobs.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use headstart_engine::{Device, Folder, FolderError, Runtime, Workbench};
use headstart_export::{Subject, compose};
use headstart_methods::artifact::{self, Graft};
use headstart_methods::data::Targets;
use headstart_methods::evaluate::tuned::compared;
use headstart_methods::head::{Backbone, Head, HeadParts, Tail};
use headstart_methods::tune::{self, Choice, Delta, Feed, Plan, Tunable, Tuned, Work};
use headstart_methods::{Control, Method, MethodError, Params};
use headstart_types::manifest::BackboneSpec;
use headstart_types::report::{Mixture, Pass, Tuning};
use ndarray::ArcArray2;
use serde_json::Map;

use crate::variants;
use crate::worker::examples::Examples;
use crate::worker::prefix::Cached;
use crate::worker::training_rows::TrainingRows;

/// What a classifier's file calls its features and its logits.
const NAMES: (&str, &str) = ("embedding", "logits");

/// What is trained, as the step that trains has it at hand.
pub(super) struct Subjects {
    pub(super) folder: Folder,
    /// What the version is to be made of: the same backbone, or one of low precision.
    pub(super) answering: Backbone,
    pub(super) head: Head,
    pub(super) method: &'static dyn Method,
    pub(super) params: Params,
    pub(super) plan: Plan,
    pub(super) targets: Targets,
    pub(super) training_rows: TrainingRows,
    pub(super) examples: Examples,
    pub(super) seed: u64,
    pub(super) threads: usize,
    pub(super) device: Device,
}

fn workbench(threads: usize, device: Device) -> Result<Workbench, MethodError> {
    let missing = || MethodError::Graph("ONNX Runtime is not loaded".into());
    let bench = Workbench::new(Runtime::loaded().ok_or_else(missing)?, threads);
    bench.on(device).map_err(|error| MethodError::Graph(error.to_string()))
}

/// The backbone with its head as a graph that can be trained.
fn prepared(
    folder: &Folder,
    head: &Head,
    choice: &Choice,
    bench: &Workbench,
) -> Result<Tunable, MethodError> {
    tune::prepare(&classifier(folder, head)?, NAMES, choice, bench, folder.manifest().image.as_ref())
}

/// What a training needs of a backbone's graph, asked before anything is computed on it.
pub(super) struct Question {
    pub(super) folder: Folder,
    pub(super) plan: Plan,
    pub(super) classes: Arc<[String]>,
    pub(super) multi_label: bool,
    /// Numbers of a row of features.
    pub(super) dimension: usize,
    pub(super) threads: usize,
    pub(super) device: Device,
}

/// Puts a head that knows nothing behind the graph and prepares both for training, of which nothing is kept. Blocking.
///
/// # Errors
/// [`MethodError`], as the preparation says.
pub(super) fn check(question: &Question) -> Result<(), MethodError> {
    let Question { folder, plan, classes, multi_label, dimension, threads, device } = question;
    let head = Head::new(HeadParts {
        method: String::new(),
        hyperparameters: Map::new(),
        backbone: identity(&folder.manifest().backbone),
        classes: Arc::clone(classes),
        multi_label: *multi_label,
        normalise: false,
        rows: ArcArray2::zeros((classes.len(), *dimension)),
        bias: vec![0.0; classes.len()].into(),
        tail: Tail::Identity,
        temperature: 1.0,
        thresholds: None,
    });
    // What is wrong with the classes is the fit's to say.
    let Ok(head) = head else { return Ok(()) };
    prepared(folder, &head, &plan.choice(*multi_label), &workbench(*threads, *device)?)?;
    Ok(())
}

impl Subjects {
    fn bench(&self) -> Result<Workbench, MethodError> {
        workbench(self.threads, self.device)
    }

    fn choice(&self, plan: &Plan) -> Choice {
        plan.choice(self.head.parts().multi_label)
    }

    fn tunable(&self, choice: &Choice, bench: &Workbench) -> Result<Tunable, MethodError> {
        prepared(&self.folder, &self.head, choice, bench)
    }

    fn class_weights(&self) -> Result<Option<Vec<[f32; 2]>>, MethodError> {
        self.plan.class_weights(&self.targets.select(&self.training_rows.learn), self.head.classes())
    }

    fn work<'a>(
        &'a self,
        tunable: Tunable,
        feed: &'a dyn Feed,
        class_weights: Option<&'a [[f32; 2]]>,
    ) -> Work<'a> {
        Work {
            tunable,
            feed,
            targets: &self.targets,
            classes: self.head.classes().len(),
            class_weights,
            learn: &self.training_rows.learn,
            tune: &self.training_rows.stop,
            seed: self.seed,
            threads: self.threads,
        }
    }
}

/// Trains; from random weights too where there is a control for that. Returns the head with what was changed, as they are
/// stored, and how it went.
///
/// # Errors
/// [`MethodError`], as the training says.
pub(super) fn train(
    subjects: &Subjects,
    control: &mut dyn Control,
    other: Option<&mut dyn Control>,
) -> Result<(Vec<u8>, Tuning), MethodError> {
    let Subjects { head, method, params, plan, training_rows, examples, .. } = subjects;
    let bench = subjects.bench()?;
    let choice = subjects.choice(plan);
    let mut tunable = subjects.tunable(&choice, &bench)?;
    let prefix = tunable.prefix.take();
    let cached = match &prefix {
        Some(prefix) => {
            let rows = training_rows.learn.iter().chain(&training_rows.stop).copied().collect();
            Cached::fill(examples, prefix, rows, &bench, control)?
        }
        None => None,
    };
    if prefix.is_some() && cached.is_none() {
        tracing::info!(
            "what stands before the trained blocks is computed anew in each pass: its values would fill the disk"
        );
        tunable = subjects.tunable(&Choice { prefix: false, ..choice }, &bench)?;
    }
    let feed: &dyn Feed = cached.as_ref().map_or(examples, |cached| cached);
    let class_weights = subjects.class_weights()?;
    let work = subjects.work(tunable, feed, class_weights.as_deref());
    let tuned = tune::train(&work, &plan.recipe, &bench, control)?;
    let delta = Delta::between(&work.tunable, &tuned.weights)?.to_bytes()?;
    let Backbone { id, sha256 } = subjects.answering.clone();
    let backbone = Backbone { id: variants::name(&id, &delta), sha256 };
    let head = tune::tuned_head(head, (&work.tunable, &tuned), backbone, (*method, params))?;
    let weights = work.tunable.weights.iter().map(|weight| weight.values.len() as u64).sum();
    let mut tuning = described(&tuned, (weights, delta.len() as u64), training_rows);
    if let Some(control) = other {
        tuning.from_random = Some(compared(&tuning, from_random(subjects, control)?));
    }
    let trained = identity(&subjects.folder.manifest().backbone);
    let graft = Graft { delta, original: Some(trained).filter(|trained| *trained != subjects.answering) };
    Ok((artifact::save_tuned(&head, &graft)?, tuning))
}

/// What heads call a backbone.
pub(super) fn identity(backbone: &BackboneSpec) -> Backbone {
    Backbone { id: backbone.id.clone(), sha256: backbone.sha256.to_lowercase() }
}

/// The same graph trained in the same way from random weights, for what transfer did: accuracies on the rows that stop the
/// run, before the first pass and behind each.
///
/// # Errors
/// [`MethodError`], as the training says.
fn from_random(subjects: &Subjects, control: &mut dyn Control) -> Result<Vec<f64>, MethodError> {
    let (plan, bench) = (subjects.plan.from_random(), subjects.bench()?);
    let mut tunable = subjects.tunable(&subjects.choice(&plan), &bench)?;
    tunable.forget(subjects.seed);
    let class_weights = subjects.class_weights()?;
    let work = subjects.work(tunable, &subjects.examples, class_weights.as_deref());
    let tuned = tune::train(&work, &plan.recipe, &bench, control)?;
    let first = tuned.mixes.first().map(|mixed| mixed.held_out.accuracy);
    let passes = tuned.epochs.iter().filter_map(|epoch| Some(epoch.held_out?.accuracy));
    Ok(first.into_iter().chain(passes).collect())
}

/// The backbone with its head as one file.
fn classifier(folder: &Folder, head: &Head) -> Result<Vec<u8>, MethodError> {
    let graph = |error: &dyn std::error::Error| MethodError::Graph(error.to_string());
    let manifest = folder.manifest().without_text_tower();
    if !manifest.backbone.external.is_empty() {
        let id = &manifest.backbone.id;
        return Err(MethodError::Graph(format!(
            "`{id}` has weights in other files, which cannot be trained"
        )));
    }
    let unread = |error: FolderError| MethodError::File(error.to_string());
    let path = folder.verified_graph().map_err(unread)?;
    let opened = File::open(&path).map_err(|source| FolderError::Read { path, source });
    let mut backbone = opened.map_err(unread)?;
    let tokenizer = manifest.text.as_ref().map(|text| folder.read(&text.tokenizer)).transpose();
    let tokenizer = tokenizer.map_err(unread)?;
    let subject = Subject {
        name: "tuning",
        version: 1,
        head,
        manifest: &manifest,
        tokenizer: tokenizer.as_deref(),
        producer_version: env!("CARGO_PKG_VERSION"),
    };
    let composed = compose(&backbone, &subject).map_err(|error| graph(&error))?;
    let mut file = Vec::new();
    composed.assembly.write(&mut backbone.by_ref(), &mut file).map_err(|error| graph(&error))?;
    Ok(file)
}

fn described(tuned: &Tuned, (weights, stored_bytes): (u64, u64), training_rows: &TrainingRows) -> Tuning {
    let pass = |epoch: &tune::Epoch| Pass {
        loss: epoch.loss,
        held_out_accuracy: epoch.held_out.map(|score| score.accuracy),
        held_out_loss: epoch.held_out.map(|score| score.log_loss),
    };
    let mixture = |mixed: &tune::Mixed| Mixture {
        share: f64::from(mixed.share),
        held_out_accuracy: mixed.held_out.accuracy,
        held_out_loss: mixed.held_out.log_loss,
    };
    Tuning {
        weights,
        stored_bytes,
        learned_from: training_rows.learn.len(),
        stopped_by: if tuned.mixes.is_empty() { 0 } else { training_rows.stop.len() },
        epochs: tuned.epochs.iter().map(pass).collect(),
        kept_epoch: tuned.best + 1,
        mixtures: tuned.mixes.iter().map(mixture).collect(),
        share: f64::from(tuned.share),
        frozen: None,
        gain: None,
        from_random: None,
    }
}
