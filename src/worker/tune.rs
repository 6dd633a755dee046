//! The step of the methods that train the backbone itself: the fitted head and the backbone's graph as one classifier,
//! trained, and what was changed kept apart from what came with the backbone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use headstart_datasets::{Limits, Place};
use headstart_engine::{Device, Folder, FolderError, Runtime, Workbench};
use headstart_export::{Subject, compose};
use headstart_methods::artifact::{self, Graft};
use headstart_methods::data::{self, Targets};
use headstart_methods::evaluate::tuned::compared;
use headstart_methods::head::{Backbone, Head};
use headstart_methods::tune::{self, Delta, Feed, Plan, Tunable, Tuned, Work};
use headstart_methods::{Control, FitData, Fitted, Method, MethodError, Params, Unattended, split};
use headstart_types::classifier::untuned;
use headstart_types::ids::Sha256;
use headstart_types::manifest::BackboneSpec;
use headstart_types::report::{Mixture, Pass, Tuning};
use ndarray::{Array2, Axis};

use crate::app::App;
use crate::variants;
use crate::worker::bulk;
use crate::worker::control::{Halt, Stop};
use crate::worker::examples::Examples;
use crate::worker::fine_tune::{Context, Parts, threads};
use crate::worker::prefix::Cached;
use crate::worker::reading::{Upload, payload};
use crate::worker::table::Table;

/// The steps under which the states of a training and of the one from random weights, what it ended with and how it went
/// are kept.
const TUNE_STATE: &str = "tune";
const RANDOM_STATE: &str = "tune-random";
const TUNED: &str = "tuned";
const TUNING: &str = "tuning";

/// What a classifier's file calls its features and its logits.
const NAMES: (&str, &str) = ("embedding", "logits");

/// Of the rows to learn from, the share that stops the run where the file names none.
pub(super) const HELD_OUT: f64 = 0.1;

/// Fewer rows stop no run: which of many passes they like is chance, and the rows are better learnt from.
const FEWEST: usize = 50;

/// What a job works on.
pub(super) struct Ground<'a> {
    pub(super) files: &'a [Upload],
    pub(super) table: &'a Arc<Table>,
    pub(super) parts: &'a Parts,
}

/// The rows of a run: learnt from, and never learnt from but asked after every epoch or, where features alone are trained,
/// behind the last.
pub(super) struct Turns {
    pub(super) learn: Vec<usize>,
    pub(super) stop: Vec<usize>,
}

impl Turns {
    /// The rows of a plan. Where features alone are trained nothing is chosen by held-out rows, and none are drawn; else a
    /// tenth is where that is worth asking. Two runs can only be compared by rows that neither learns from: where that is
    /// wanted there are some.
    ///
    /// # Errors
    /// [`MethodError`] when rows are too few to hold any out.
    pub(super) fn planned(plan: &Plan, table: &Table, parts: &Parts, seed: u64) -> Result<Self, MethodError> {
        let few = parts.learn.len() as f64 * HELD_OUT < FEWEST as f64;
        if plan.contrast || (parts.tune.is_empty() && few && !plan.recipe.from_random) {
            return Ok(Self { learn: parts.learn.clone(), stop: parts.tune.clone() });
        }
        Self::of(table, parts, HELD_OUT, seed)
    }

    /// The file's own rows for tuning where it has such, else a seeded stratified share of those to learn from.
    ///
    /// # Errors
    /// [`MethodError`] when rows are too few to hold any out.
    pub(super) fn of(table: &Table, parts: &Parts, share: f64, seed: u64) -> Result<Self, MethodError> {
        if !parts.tune.is_empty() {
            return Ok(Self { learn: parts.learn.clone(), stop: parts.tune.clone() });
        }
        let targets = table.targets().select(&parts.learn);
        let groups = table.head.groups.as_ref();
        let groups: Option<Vec<u32>> =
            groups.map(|groups| parts.learn.iter().filter_map(|row| groups.get(*row).copied()).collect());
        let drawn = split::hold_out(&targets, table.head.classes.len(), groups.as_deref(), share, seed)?;
        let rows = |of: &[usize]| of.iter().filter_map(|at| parts.learn.get(*at).copied()).collect();
        Ok(Self { learn: rows(&drawn.train), stop: rows(&drawn.held_out) })
    }

    /// The numbers that a fit gives the rows that stop the run: places among the rows learnt from, or behind the last.
    pub(super) fn numbered(&self, parts: &Parts) -> Vec<usize> {
        if !parts.tune.is_empty() {
            return (0..self.stop.len()).map(|at| parts.learn.len() + at).collect();
        }
        self.stop.iter().filter_map(|row| parts.learn.binary_search(row).ok()).collect()
    }

    pub(super) fn all(&self) -> HashSet<usize> {
        self.learn.iter().chain(&self.stop).copied().collect()
    }
}

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
    pub(super) turns: Turns,
    pub(super) examples: Examples,
    pub(super) seed: u64,
    pub(super) threads: usize,
    pub(super) device: Device,
}

impl Subjects {
    fn bench(&self) -> Result<Workbench, MethodError> {
        let missing = || MethodError::Graph("ONNX Runtime is not loaded".into());
        let bench = Workbench::new(Runtime::loaded().ok_or_else(missing)?, self.threads);
        bench.on(self.device).map_err(|error| MethodError::Graph(error.to_string()))
    }

    fn tunable(&self, plan: &Plan, bench: &Workbench) -> Result<Tunable, MethodError> {
        let choice = plan.choice(self.head.parts().multi_label);
        tune::prepare(&classifier(&self.folder, &self.head)?, NAMES, &choice, bench)
    }

    fn class_weights(&self) -> Result<Option<Vec<[f32; 2]>>, MethodError> {
        self.plan.class_weights(&self.targets.select(&self.turns.learn), self.head.classes())
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
            learn: &self.turns.learn,
            tune: &self.turns.stop,
            seed: self.seed,
            threads: self.threads,
        }
    }
}

/// Trains. Blocking, and long. Returns the head with what was changed, as they are stored, and how it went.
///
/// # Errors
/// [`MethodError`], as the training says.
pub(super) fn train(
    subjects: &Subjects,
    control: &mut dyn Control,
) -> Result<(Vec<u8>, Tuning), MethodError> {
    let Subjects { head, method, params, plan, turns, examples, .. } = subjects;
    let bench = subjects.bench()?;
    let mut tunable = subjects.tunable(plan, &bench)?;
    let prefix = tunable.prefix.take();
    let cached = match &prefix {
        Some(prefix) => {
            let rows = turns.learn.iter().chain(&turns.stop).copied().collect();
            Some(Cached::fill(examples, prefix, rows, &bench, control)?)
        }
        None => None,
    };
    let feed: &dyn Feed = cached.as_ref().map_or(examples, |cached| cached);
    let class_weights = subjects.class_weights()?;
    let work = subjects.work(tunable, feed, class_weights.as_deref());
    let tuned = tune::train(&work, &plan.recipe, &bench, control)?;
    let delta = Delta::between(&work.tunable, &tuned.weights)?.to_bytes()?;
    let Backbone { id, sha256 } = subjects.answering.clone();
    let backbone = Backbone { id: variants::name(&id, &delta), sha256 };
    let head = tune::tuned_head(head, (&work.tunable, &tuned), backbone, (*method, params))?;
    let weights = work.tunable.weights.iter().map(|weight| weight.values.len() as u64).sum();
    let tuning = described(&tuned, (weights, delta.len() as u64), turns);
    let trained = identity(&subjects.folder.manifest().backbone);
    let graft = Graft { delta, original: Some(trained).filter(|trained| *trained != subjects.answering) };
    Ok((artifact::save_tuned(&head, &graft)?, tuning))
}

/// What heads call a backbone.
fn identity(backbone: &BackboneSpec) -> Backbone {
    Backbone { id: backbone.id.clone(), sha256: backbone.sha256.to_lowercase() }
}

/// The same graph trained in the same way from random weights, for what transfer did: accuracies on the rows that stop the
/// run, before the first pass and behind each.
///
/// # Errors
/// [`MethodError`], as the training says.
fn from_random(subjects: &Subjects, control: &mut dyn Control) -> Result<Vec<f64>, MethodError> {
    let (plan, bench) = (subjects.plan.from_random(), subjects.bench()?);
    let mut tunable = subjects.tunable(&plan, &bench)?;
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
    let path = folder.verified_graph().map_err(|error| graph(&error))?;
    let unread = |source| FolderError::Read { path: path.clone(), source };
    let mut backbone = File::open(&path).map_err(|source| graph(&unread(source)))?;
    let tokenizer = manifest.text.as_ref().map(|text| folder.read(&text.tokenizer)).transpose();
    let tokenizer = tokenizer.map_err(|error| graph(&error))?;
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

fn described(tuned: &Tuned, (weights, stored_bytes): (u64, u64), turns: &Turns) -> Tuning {
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
        learned_from: turns.learn.len(),
        stopped_by: if tuned.mixes.is_empty() { 0 } else { turns.stop.len() },
        epochs: tuned.epochs.iter().map(pass).collect(),
        kept_epoch: tuned.best + 1,
        mixtures: tuned.mixes.iter().map(mixture).collect(),
        share: f64::from(tuned.share),
        frozen: None,
        gain: None,
        from_random: None,
    }
}

/// The features that a backbone gives some rows of a table, in the order of the rows.
///
/// # Errors
/// The job's stop, or when a file changed since it was inspected.
pub(super) async fn features(
    app: &App,
    model: &str,
    (files, limits): (&[Upload], &Limits),
    (table, rows): (&Table, &[usize]),
    halt: &Halt,
) -> Result<Array2<f32>, Stop> {
    let place_of: HashMap<usize, usize> = rows.iter().enumerate().map(|(at, row)| (*row, at)).collect();
    let mut features = Array2::zeros((rows.len(), table.head.dim));
    let mut seen = 0;
    for (number, file) in files.iter().enumerate() {
        let wanted: HashMap<&Place, usize> = table
            .of_file(number)
            .filter_map(|row| Some((table.head.places.get(row)?, *place_of.get(&row)?)))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let named = wanted.keys().map(|place| (*place).clone()).collect();
        let mut reading = file.read(limits, bulk::batch(&app.tasks), Some(named));
        while let Some(batch) = reading.next().await? {
            let places: Vec<Option<usize>> =
                batch.iter().map(|example| wanted.get(&example.place).copied()).collect();
            let input = payload(batch.into_iter().map(|example| example.content));
            let given = bulk::features(&app.tasks, halt, model, &input).await?;
            for (place, values) in places.into_iter().zip(given) {
                let Some(place) = place else { continue };
                let values = values.as_slice();
                let same = values.len() == table.head.dim;
                if let (true, Some(mut row)) = (same, features.outer_iter_mut().nth(place)) {
                    row.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
                    seen += 1;
                }
            }
        }
    }
    if seen < rows.len() {
        return Err(Stop::Broken("a row has no features any more".into()));
    }
    Ok(features)
}

/// A version as the steps behind the fit see it.
pub(super) struct Made {
    pub(super) fitted: Arc<Fitted>,
    /// Features of the rows that are scored, as the version reads them.
    pub(super) scored: Arc<Array2<f32>>,
    /// How the backbone was trained.
    pub(super) tuning: Option<Tuning>,
    /// The head that its training began with.
    pub(super) frozen: Option<Head>,
    /// What was changed of the backbone.
    graft: Option<Graft>,
    /// Keeps the backbone known until the version is.
    _held: Option<variants::Hold>,
}

impl Made {
    /// A head on the backbone as it came.
    pub(super) fn head(fitted: &Arc<Fitted>, table: &Table, parts: &Parts) -> Self {
        let scored = Arc::new(table.features.select(Axis(0), &parts.score));
        Self { fitted: Arc::clone(fitted), scored, tuning: None, frozen: None, graft: None, _held: None }
    }

    /// The same, whose summary ends with a reason.
    pub(super) fn because(self, why: &str) -> Self {
        let fitted = (*self.fitted).clone();
        let summary = format!("{}. {why}", fitted.summary);
        Self { fitted: Arc::new(Fitted { summary, ..fitted }), ..self }
    }

    /// What is stored of it.
    ///
    /// # Errors
    /// [`MethodError::Stored`].
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, MethodError> {
        match &self.graft {
            Some(graft) => artifact::save_tuned(&self.fitted.head, graft),
            None => artifact::save(&self.fitted.head),
        }
    }
}

impl Context<'_> {
    /// Trains the backbone, unless that was done before, and asks what came of it about the rows that stop the run and those
    /// that are scored.
    ///
    /// # Errors
    /// The job's stop.
    pub(super) async fn tune(
        &self,
        plan: &Plan,
        ground: &Ground<'_>,
        turns: Turns,
        fitted: &Fitted,
    ) -> Result<Made, Stop> {
        let Ground { files, table, parts } = *ground;
        let (learn, stop, numbers) = (turns.learn.clone(), turns.stop.clone(), turns.numbered(parts));
        let (blob, bytes, tuning) = match (self.done.get(&self.step(TUNED)), self.before(TUNED).await?) {
            (Some(blob), Some(bytes)) => {
                let tuning = self.before(TUNING).await?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                (blob.clone(), bytes, tuning)
            }
            _ => {
                let head = self.start(table, parts, &turns, fitted).await?;
                self.train(plan, ground, turns, head).await?
            }
        };
        let broken = || Stop::Broken("what was tuned cannot be read".into());
        let (head, graft) = artifact::load_tuned(&bytes)?.ok_or_else(broken)?;
        let backbone = head.parts().backbone.clone();
        let held = variants::hold(self.app, &backbone.id, &blob);
        // Made here, where a full disk lets the job wait: features of a backbone that cannot be had are a broken service.
        variants::folder(self.app, &backbone.id).await.map_err(|error| match error.is_full() {
            true => Stop::NoRoom,
            false => Stop::Broken(error.to_string()),
        })?;
        let limits = self.app.dataset_limits();
        let of = |rows: Vec<usize>| {
            let (app, id, halt, limits) = (self.app, backbone.id.clone(), self.halt, &limits);
            async move { features(app, &id, (files, limits), (table, &rows), halt).await }
        };
        let scored = of(parts.score.clone()).await?;
        let stopping = of(stop.clone()).await?;
        let made = if plan.contrast {
            let learned = table.examples(&learn)?.with_features(of(learn).await?)?;
            let held_out = match stop.is_empty() {
                true => None,
                false => Some((table.examples(&stop)?.with_features(stopping)?, numbers)),
            };
            self.refit(learned, held_out, backbone).await?
        } else if stop.is_empty() {
            let head = tune::uncalibrated(head)?;
            Fitted { head, held_out: None, summary: String::new(), metrics: BTreeMap::new() }
        } else {
            let targets = table.targets();
            let weights = plan.class_weights(&targets.select(&learn), &table.head.classes)?;
            let known = (&targets.select(&stop), weights.as_deref());
            let (head, held_out, accuracy) = tune::calibrated(head, stopping.view(), known, numbers)?;
            let metrics = BTreeMap::from([("accuracy".to_owned(), accuracy)]);
            Fitted { head, held_out: Some(held_out), summary: String::new(), metrics }
        };
        let accuracy = made.metrics.get("accuracy").copied();
        let summary = summary(self.method, tuning.as_ref(), accuracy) + &precision(&graft, &made.head);
        self.say(summary.clone()).await?;
        let mut metrics = made.metrics.clone();
        metrics.extend(tuning.as_ref().map(|tuning: &Tuning| ("share".to_owned(), tuning.share)));
        Ok(Made {
            fitted: Arc::new(Fitted { summary, metrics, ..made }),
            scored: Arc::new(scored),
            tuning,
            frozen: Some(fitted.head.clone()),
            graft: Some(graft),
            _held: Some(held),
        })
    }

    /// Fits the method's head on features that the backbone gives now. Rows that are held out come with their numbers.
    async fn refit(
        &self,
        train: data::Examples,
        held_out: Option<(data::Examples, Vec<usize>)>,
        backbone: Backbone,
    ) -> Result<Fitted, Stop> {
        let (validation, numbers) = held_out.unzip();
        let mut fitted = self.fit_at_once(train, validation, backbone).await?;
        if let (Some(held_out), Some(numbers)) = (&mut fitted.held_out, numbers) {
            held_out.rows = numbers;
        }
        Ok(Fitted { head: tune::named(fitted.head, self.method, &self.params)?, ..fitted })
    }

    /// The head that training begins with: of the rows learnt from alone, as those that stop the run are to judge it.
    async fn start(
        &self,
        table: &Table,
        parts: &Parts,
        turns: &Turns,
        fitted: &Fitted,
    ) -> Result<Head, Stop> {
        if turns.stop.is_empty() || !parts.tune.is_empty() {
            return Ok(fitted.head.clone());
        }
        let backbone = fitted.head.parts().backbone.clone();
        Ok(self.fit_at_once(table.examples(&turns.learn)?, None, backbone).await?.head)
    }

    async fn fit_at_once(
        &self,
        train: data::Examples,
        validation: Option<data::Examples>,
        backbone: Backbone,
    ) -> Result<Fitted, Stop> {
        let (method, params, seed) = (self.method, self.params.clone(), self.job.seed.cast_unsigned());
        let fitting = tokio::task::spawn_blocking(move || {
            let data =
                FitData { train: &train, validation: validation.as_ref(), backbone, threads: threads() };
            method.fit(&data, &params, seed, &mut Unattended)
        });
        Ok(fitting.await.map_err(|_| Stop::Broken("the fit panicked".into()))??)
    }

    /// What is trained, with the rows' contents at hand.
    ///
    /// # Errors
    /// The job's stop, or when a file changed since it was inspected.
    pub(super) async fn subjects(
        &self,
        plan: &Plan,
        ground: &Ground<'_>,
        turns: Turns,
        head: Head,
    ) -> Result<Subjects, Stop> {
        let Ground { files, table, .. } = *ground;
        let limits = self.app.dataset_limits();
        let (wanted, recipe) = (turns.all(), &plan.recipe);
        let place = (self.app.config.data.as_path(), &**self.halt);
        let trained = self.app.tasks.trained(&self.served).await.map_err(Stop::Broken)?;
        let examples = Examples::read(&trained, (files, &limits), (table, &wanted), recipe, place).await?;
        Ok(Subjects {
            folder: trained.folder().clone(),
            answering: identity(&self.served.manifest().backbone),
            head,
            method: self.method,
            params: self.params.clone(),
            plan: plan.clone(),
            targets: table.targets(),
            turns,
            examples,
            seed: self.job.seed.cast_unsigned(),
            // Whoever waits at the terminal has all cores.
            threads: if self.app.steps_back() { threads() } else { 2 * threads() },
            device: self.app.device(),
        })
    }

    /// Trains on a thread of its own and keeps what comes of it as the step's output.
    async fn train(
        &self,
        plan: &Plan,
        ground: &Ground<'_>,
        turns: Turns,
        head: Head,
    ) -> Result<(Sha256, Vec<u8>, Option<Tuning>), Stop> {
        let subjects = self.subjects(plan, ground, turns, head).await?;
        let mut control = self.control(TUNE_STATE, self.before(TUNE_STATE).await?);
        let other = match plan.recipe.from_random {
            true => Some(self.control(RANDOM_STATE, self.before(RANDOM_STATE).await?)),
            false => None,
        };
        let training = tokio::task::spawn_blocking(move || {
            let (bytes, mut tuning) = train(&subjects, &mut control)?;
            if let Some(mut control) = other {
                tuning.from_random = Some(compared(&tuning, from_random(&subjects, &mut control)?));
            }
            Ok::<_, MethodError>((bytes, tuning))
        });
        let trained = training.await.map_err(|_| Stop::Broken("the training panicked".into()))?;
        self.halt.check()?;
        let (bytes, tuning) = trained?;
        let told = serde_json::to_vec(&tuning).map_err(|error| Stop::Broken(error.to_string()))?;
        self.keep(TUNING, &told).await?;
        // Behind what is told of it: with this the step is done.
        let blob = self.keep(TUNED, &bytes).await?;
        Ok((blob, bytes, Some(tuning)))
    }
}

/// What became of weights that were trained in full precision for a backbone of low precision.
fn precision(graft: &Graft, head: &Head) -> String {
    let Some(original) = &graft.original else { return String::new() };
    format!(
        "; trained were those of `{}`, rounded again for `{}`",
        original.id,
        untuned(&head.parts().backbone.id)
    )
}

/// What was done, in one sentence.
fn summary(method: &dyn Method, tuning: Option<&Tuning>, accuracy: Option<f64>) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut said = method.name().to_owned();
    if let Some(tuning) = tuning {
        said += &format!(": {} weights trained over {} passes", tuning.weights, tuning.epochs.len());
        if let Some(first) = tuning.mixtures.first() {
            said += &format!(
                ", of which pass {} was kept and {:.0} % of the way to it is served; right answers on {} rows that stopped \
                 the run: {}, linear probe {}",
                tuning.kept_epoch,
                100.0 * tuning.share,
                tuning.stopped_by,
                percent(accuracy.unwrap_or_default()),
                percent(first.held_out_accuracy)
            );
        }
    }
    said
}
