//! A fine-tuning job, step by step: features of its examples, rows parted, head fitted, judged, published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart_datasets::{Example, HeldOut, Split, SplitPlan, Tuning, Use};
use headstart_methods::artifact::Artifact;
use headstart_methods::head::Backbone;
use headstart_methods::tune::{Plan, Recipe};
use headstart_methods::{FitData, Fitted, METHODS, Method, MethodError, Params, method, split};
use headstart_store::{Scope, Store, StoreError};
use headstart_types::Payload;
use headstart_types::classifier::{NewVersion, Origin};
use headstart_types::ids::Sha256;
use headstart_types::job::{Job, Lease, Level, NewEvent};
use headstart_types::report::{Duplicates, LeftOut, Report};
use tokio::runtime::Handle;

use crate::app::App;
use crate::clock::now_ms;
use crate::worker::control::{FIT_STATE, FitControl, Halt, Stop};
use crate::worker::evaluate::{self, Evidence, Found};
use crate::worker::grounding::{FeatureBackbone, grounded};
use crate::worker::held_out::Answers;
use crate::worker::pace::{Pace, Part, Work};
use crate::worker::reading::{Upload, payload};
use crate::worker::rival::Rows;
use crate::worker::stages::Stages;
use crate::worker::table::{Row, Table, TableBuilder};
use crate::worker::training_rows::TrainingRows;
use crate::worker::tune::{Ground, Made};
use crate::worker::zero_shot::{self, Zeroth};
use crate::worker::{bulk, overlap, raw};

/// The step under which the table is kept.
pub(super) const FEATURES: &str = "features";

/// Largest output of a step, in bytes.
const LARGEST_STEP: u64 = 16 << 30;

/// Tries to end a job whose classifier changes meanwhile.
const TRIES: usize = 8;

/// What every step has at hand.
#[derive(Clone)]
pub(super) struct Context<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) store: &'a Store,
    pub(super) lease: &'a Lease,
    pub(super) job: &'a Job,
    pub(super) halt: &'a Arc<Halt>,
    /// What gives the features. Held by nobody between two steps, so that it can make room for what is tuned.
    pub(super) features: FeatureBackbone,
    pub(super) done: BTreeMap<String, Sha256>,
    pub(super) pace: Arc<Pace>,
    /// How the head is fitted.
    pub(super) method: &'static dyn Method,
    pub(super) params: Params,
    /// What is done with the backbone behind that, where the method trains it.
    pub(super) plan: Option<Plan>,
}

/// Which rows are learned from, tuned on and scored.
pub(super) struct Parts {
    pub(super) plan: SplitPlan,
    pub(super) learn: Vec<usize>,
    pub(super) tune: Vec<usize>,
    pub(super) score: Vec<usize>,
}

/// Does a job from wherever it was left.
///
/// # Errors
/// Why it does not go on.
pub(super) async fn run(
    app: &Arc<App>,
    store: &Store,
    lease: &Lease,
    job: &Job,
    halt: &Arc<Halt>,
) -> Result<(), Stop> {
    let done = store.steps(&job.id).await?;
    let method = method(&job.method)
        .ok_or_else(|| Stop::refused("invalid_value", unknown_method(&job.method), "method"))?;
    let params = method.check(&job.params.hyperparameters())?;
    let plan = method.plan(&params, job.seed.cast_unsigned())?;
    let features = grounded(app, &job.model, method, plan.as_ref()).await?;
    let files = files(store, job).await?;
    let may_tune = method.may_tune(&params)?.is_some_and(|within| !within.is_zero());
    let passes =
        plan.as_ref().map_or(if may_tune { Recipe::default().epochs } else { 0 }, |plan| plan.recipe.epochs);
    let pace = Arc::new(Pace::new(&Work {
        rows: count(&files),
        classes: files.first().map_or(0, |file| file.inspection.summary.classes.len()),
        modality: files.first().and_then(|file| file.inspection.modality).unwrap_or(features.modality()),
        budget: Duration::from_secs(u64::from(job.params.report().budget_seconds)),
        told: job.progress,
        passes,
    }));
    let pace_of_all = Arc::clone(&pace);
    let cx = Context { app, store, lease, job, halt, features, done, pace, method, params, plan };
    tokio::select! {
        biased;
        done = walk(&cx, files) => done,
        never = pace_of_all.tell(store, lease, halt) => match never {},
    }
}

/// All steps, one after the other.
async fn walk(cx: &Context<'_>, files: Arc<[Upload]>) -> Result<(), Stop> {
    let Context { app, job, pace, .. } = cx;
    let mut stages = Stages::default();
    pace.begin(Part::Features);
    cx.check_graph(&files).await?;
    let table = stages.measure("features", 0, cx.table(&files)).await?;
    let table = Arc::new(table);
    stages.count("features", table.head.labels.len());
    let parts = Arc::new(part(&table, job)?);
    cx.say(format!(
        "{} rows to learn from, {} to tune on, {} to score",
        parts.learn.len(),
        parts.tune.len(),
        parts.score.len()
    ))
    .await?;
    pace.begin(Part::Compare);
    let rows = table.head.labels.len() as u64;
    let duplicates = stages.measure("compare", rows, cx.compare(&files, &table, &parts)).await?;
    pace.begin(Part::Fit);
    let learned = parts.learn.len() as u64;
    let fitted = Arc::new(stages.measure("fit", learned, cx.fit(FIT_STATE, &table, &parts)).await?);
    cx.say(fitted.summary.clone()).await?;
    let ground = Ground { files: &files, table: &table, parts: &parts };
    let version = cx.version(&ground, &fitted, &mut stages).await?;
    let version = Arc::new(version);
    let until = Instant::now() + Duration::from_secs(u64::from(job.params.report().budget_seconds));
    pace.begin(Part::ZeroShot);
    let labelling = cx.zero_shot(&files, &table, &parts, until);
    let (zeroth, left_out) = stages.measure("zero_shot", 0, labelling).await?;
    stages.count("zero_shot", zeroth.as_ref().map_or(0, |zeroth| zeroth.rows.len()));
    let scored = parts.score.len() as u64;
    let held_out = cx.held_out(&files, &table, &parts, &version).await?;
    let found = Found { files, duplicates, zeroth, left_out };
    let evidence = cx.evidence(found, table, parts, Arc::clone(&version), until);
    let report = stages.measure("evaluate", scored, judge(evidence, app.dataset_limits())).await?;
    cx.say(report.verdict.clone()).await?;
    stages.observe(&app.metrics);
    cx.publish(&version, &report, &stages, &held_out).await
}

impl Parts {
    /// The name of the split that is scored.
    pub(super) fn scored_as(&self) -> &'static str {
        match self.plan.held_out {
            HeldOut::Test => "test",
            HeldOut::Val => "val",
            HeldOut::Drawn => "held_out",
        }
    }

    /// The name of the split whose rows are used like this.
    pub(super) fn name_of(&self, split: Split) -> &'static str {
        if split == Split::Test { self.scored_as() } else { split.as_str() }
    }
}

/// Rows by their use: as the file's splits say, and where they say nothing, a seeded stratified fifth is scored.
fn part(table: &Table, job: &Job) -> Result<Parts, Stop> {
    let mut counts = headstart_datasets::SplitCounts::default();
    for split in &table.head.splits {
        match split {
            Some(Split::Train) => counts.train += 1,
            Some(Split::Val) => counts.val += 1,
            Some(Split::Test) => counts.test += 1,
            None => counts.none += 1,
        }
    }
    let plan = SplitPlan::new(&counts, table.head.group_names.len() as u64);
    let of = |wanted: Use| -> Vec<usize> {
        let rows = table.head.splits.iter().enumerate();
        rows.filter(|(_, split)| plan.use_of(**split) == wanted).map(|(row, _)| row).collect()
    };
    let (mut learn, mut tune, mut score) = (of(Use::Learn), of(Use::Tune), of(Use::Score));
    if score.is_empty() {
        let targets = table.targets().select(&learn);
        let groups = table.head.groups.as_ref();
        let groups: Option<Vec<u32>> =
            groups.map(|groups| learn.iter().filter_map(|row| groups.get(*row).copied()).collect());
        let seed = job.seed.cast_unsigned();
        let drawn =
            split::hold_out(&targets, table.head.classes.len(), groups.as_deref(), split::HELD_OUT, seed)
                .map_err(MethodError::from)?;
        let rows = |of: &[usize]| of.iter().filter_map(|at| learn.get(*at).copied()).collect::<Vec<_>>();
        (score, learn) = (rows(&drawn.held_out), rows(&drawn.train));
    }
    if plan.tuning == Tuning::Folds {
        tune.clear();
    }
    Ok(Parts { plan, learn, tune, score })
}

/// The training file, and the validation file where there is one.
async fn files(store: &Store, job: &Job) -> Result<Arc<[Upload]>, Stop> {
    let mut files = Vec::new();
    for id in std::iter::once(&job.training_file).chain(&job.validation_file) {
        let file = store.file(Scope::All, id).await?;
        let inspection = serde_json::from_value(file.summary)
            .map_err(|error| Stop::Broken(format!("what is known of {id} cannot be read: {error}")))?;
        let path = store.blobs().path(&file.sha256).await?;
        let upload = Upload { path, name: file.filename, sha256: file.sha256, inspection };
        upload.check(if files.is_empty() { "training_file" } else { "validation_file" })?;
        files.push(upload);
    }
    Ok(files.into())
}

impl Context<'_> {
    /// The name of a step on this backbone at this precision.
    pub(super) fn step(&self, name: &str) -> String {
        format!("{name}-{}", self.features.key)
    }

    pub(super) async fn say(&self, message: String) -> Result<(), Stop> {
        self.tell(NewEvent::info(message)).await
    }

    async fn tell(&self, event: NewEvent) -> Result<(), Stop> {
        self.halt.check()?;
        Ok(self.store.add_event(self.lease, &event, now_ms()).await?)
    }

    /// The first step's output: read where it is there, computed where it is not.
    async fn table(&self, files: &[Upload]) -> Result<Table, Stop> {
        if let Some(blob) = self.done.get(&self.step(FEATURES)) {
            let bytes = self.store.blobs().read(blob, LARGEST_STEP).await?;
            if let Some(table) = Table::from_bytes(&bytes) {
                return Ok(table);
            }
            tracing::warn!(job.id = %self.job.id, "a step's output is not readable and is made anew");
        }
        self.say("features of the examples are computed".into()).await?;
        let _held = self.features.held(self.app).await?;
        let training = files.first().ok_or_else(|| Stop::Broken("a job without a file".into()))?;
        let inspection = &training.inspection;
        let classes: Vec<String> =
            inspection.summary.classes.iter().map(|class| class.label.clone()).collect();
        let dimension = self.features.manifest().dimension();
        let grouped = inspection.summary.groups > 0;
        let mut builder = TableBuilder::new(classes, inspection.multi_label, grouped, dimension);
        let mut counted = Counted { done: 0, total: count(files) };
        for (number, file) in files.iter().enumerate() {
            // All rows of a validation file are tuned on.
            let split = (number > 0).then_some(Split::Val);
            self.embed(file, split, &mut builder, &mut counted).await?;
        }
        let table = builder.finish().ok_or_else(|| Stop::Broken("features of different widths".into()))?;
        let bytes = table.to_bytes().map_err(|error| Stop::Broken(error.to_string()))?;
        self.keep(FEATURES, &bytes).await?;
        Ok(table)
    }

    /// Looks for rows that are there twice, as they are used; warns where a score would flatter.
    async fn compare(
        &self,
        files: &Arc<[Upload]>,
        table: &Arc<Table>,
        parts: &Arc<Parts>,
    ) -> Result<Duplicates, Stop> {
        let (files, table, parts) = (Arc::clone(files), Arc::clone(table), Arc::clone(parts));
        let halt = Arc::clone(self.halt);
        let limits = headstart_datasets::Limits { threads: threads(), ..self.app.dataset_limits() };
        let finding =
            tokio::task::spawn_blocking(move || overlap::find(&files, &limits, &table, &parts, &halt));
        let found = finding.await.map_err(|_| Stop::Broken("the comparison panicked".into()))??;
        if let Some(message) = overlap::warning(&found) {
            self.tell(NewEvent { level: Level::Warn, message, data: None }).await?;
        }
        Ok(found)
    }

    /// Reads a file's examples and computes their features as they come.
    async fn embed(
        &self,
        file: &Upload,
        split: Option<Split>,
        builder: &mut TableBuilder,
        counted: &mut Counted,
    ) -> Result<(), Stop> {
        let tasks = &self.app.tasks;
        let mut reading = file.read(&self.app.dataset_limits(), bulk::batch(tasks), None);
        while let Some(batch) = reading.next().await? {
            let count = batch.len();
            let (rows, input) = unpack(batch, split);
            let features = bulk::features(tasks, self.halt, self.features.id(), &input).await?;
            for (row, features) in rows.into_iter().zip(features) {
                builder.add(row, &features);
            }
            counted.done += count;
            self.pace.count(counted.done, counted.total);
        }
        Ok(())
    }

    /// The version on what was fitted on frozen features: the backbone is trained where the method trains it, or where the
    /// method leaves it open and it pays.
    async fn version(
        &self,
        ground: &Ground<'_>,
        fitted: &Arc<Fitted>,
        stages: &mut Stages,
    ) -> Result<Made, Stop> {
        let Ground { table, parts, .. } = *ground;
        let learned = parts.learn.len() as u64;
        match (&self.plan, self.method.may_tune(&self.params)?) {
            (Some(plan), _) => {
                self.pace.begin(Part::Tune);
                let training_rows = TrainingRows::planned(plan, table, parts, self.job.seed.cast_unsigned())?;
                stages.measure("tune", learned, self.tune(plan, ground, training_rows, fitted)).await
            }
            (None, None) => Ok(Made::head(fitted, table, parts)),
            (None, Some(Duration::ZERO)) => self.not_trained(ground, fitted, "`tune_seconds` is 0").await,
            (None, Some(within)) => {
                stages.measure("tune", learned, self.where_it_pays(within, ground, fitted)).await
            }
        }
    }

    /// Fits the head on a thread of its own; its state is kept under a step.
    pub(super) async fn fit(&self, step: &str, table: &Table, parts: &Parts) -> Result<Fitted, Stop> {
        self.halt.check()?;
        let (method, params) = (self.method, self.params.clone());
        let manifest = &self.features.manifest().backbone;
        let backbone = Backbone { id: manifest.id.clone(), sha256: manifest.sha256.clone() };
        let state = self.before(step).await?;
        let train = table.examples(&parts.learn)?;
        let validation = if parts.tune.is_empty() { None } else { Some(table.examples(&parts.tune)?) };
        let mut control = self.control(step, state);
        let (seed, threads) = (self.job.seed.cast_unsigned(), threads());
        let fitting = tokio::task::spawn_blocking(move || {
            let data = FitData { train: &train, validation: validation.as_ref(), backbone, threads };
            method.fit(&data, &params, seed, &mut control)
        });
        let fitted = fitting.await.map_err(|_| Stop::Broken("the fit panicked".into()))?;
        self.halt.check()?;
        Ok(fitted?)
    }

    /// Steers what goes on from `state` and keeps its own under the step of that name.
    pub(super) fn control(&self, step: &str, state: Option<Vec<u8>>) -> FitControl {
        FitControl {
            runtime: Handle::current(),
            store: self.store.clone(),
            lease: self.lease.clone(),
            halt: Arc::clone(self.halt),
            step: self.step(step),
            state,
            last: self.done.get(&self.step(step)).map(|last| (last.clone(), now_ms())),
            pace: Arc::clone(&self.pace),
        }
    }

    /// Makes a step's output durable; where it lies.
    pub(super) async fn keep(&self, step: &str, bytes: &[u8]) -> Result<Sha256, Stop> {
        let blob = self.store.blobs().put(bytes).await?.sha256;
        self.store.put_step(self.lease, &self.step(step), &blob, now_ms()).await?;
        Ok(blob)
    }

    /// The output of a step that was done before.
    pub(super) async fn before(&self, step: &str) -> Result<Option<Vec<u8>>, Stop> {
        match self.done.get(&self.step(step)) {
            Some(blob) => Ok(Some(self.store.blobs().read(blob, LARGEST_STEP).await?)),
            None => Ok(None),
        }
    }

    /// Labels held-out rows by the names of the classes alone.
    async fn zero_shot(
        &self,
        files: &Arc<[Upload]>,
        table: &Table,
        parts: &Parts,
        until: Instant,
    ) -> Result<(Option<Zeroth>, Vec<LeftOut>), Stop> {
        let question = zero_shot::Question {
            tasks: &self.app.tasks,
            model: self.features.id(),
            files,
            limits: &self.app.dataset_limits(),
            table,
            parts,
            seed: self.job.seed.cast_unsigned(),
            until,
            halt: self.halt,
            pace: &self.pace,
        };
        zero_shot::measure(&question).await
    }

    /// What the new version says of the rows that it is scored on.
    async fn held_out(
        &self,
        files: &Arc<[Upload]>,
        table: &Arc<Table>,
        parts: &Arc<Parts>,
        version: &Made,
    ) -> Result<Answers, Stop> {
        let rows = Rows {
            files: Arc::clone(files),
            limits: self.app.dataset_limits(),
            table: Arc::clone(table),
            parts: Arc::clone(parts),
            scored: Arc::clone(&version.scored),
            seed: self.job.seed.cast_unsigned(),
        };
        Answers::of(Artifact::Head(Arc::new(version.fitted.head.clone())), rows, self.halt).await
    }

    fn evidence(
        &self,
        found: Found,
        table: Arc<Table>,
        parts: Arc<Parts>,
        version: Arc<Made>,
        until: Instant,
    ) -> Evidence {
        Evidence {
            job: self.job.clone(),
            backbone: self.features.manifest().backbone.clone(),
            found,
            table,
            parts,
            version,
            until,
            halt: Arc::clone(self.halt),
            pace: Arc::clone(&self.pace),
        }
    }

    /// Makes head, report and evidence durable, then writes version, state, event and promotion in one transaction; again
    /// where the classifier changed while the gate looked at it.
    async fn publish(
        &self,
        version: &Made,
        report: &Report,
        stages: &Stages,
        held_out: &Answers,
    ) -> Result<(), Stop> {
        let blobs = self.store.blobs();
        let backbone = &version.fitted.head.parts().backbone;
        for _ in 0..TRIES {
            let ended = held_out.end((self.store, self.app), self.job, self.halt).await?;
            let verdict = ended.comparison.as_ref().map(|comparison| comparison.verdict);
            let report = Report { gate: ended.comparison, ..report.clone() };
            let listed = evaluate::listed(&report);
            let report = blobs.put(&evaluate::to_json(report, stages)?).await?.sha256;
            // Behind all that may wait for long: what no row names yet is kept for an hour.
            let artifact = blobs.put(&version.to_bytes()?).await?.sha256;
            let version = NewVersion {
                origin: Origin::Job,
                artifact,
                report: Some(report.clone()),
                evidence: Some(blobs.put(&ended.evidence).await?.sha256),
                metrics: listed,
                backbone: backbone.id.clone(),
                backbone_sha256: backbone.sha256.clone(),
            };
            self.halt.check()?;
            let finishing =
                self.store.finish_with(self.lease, &version, Some(&report), &ended.ending, now_ms());
            match finishing.await {
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(published) => {
                    let version = published.version.model_name();
                    if let Some(verdict) = verdict {
                        self.app.metrics.count_gate(verdict.as_str());
                    }
                    tracing::info!(job.id = %self.job.id, %version, promoted = published.promoted, "job succeeded");
                    return Ok(());
                }
            }
        }
        Err(Stop::Broken("the classifier changes too fast to be compared".into()))
    }
}

/// Judges the head on a thread of its own.
async fn judge(evidence: Evidence, limits: headstart_datasets::Limits) -> Result<Report, Stop> {
    evidence.halt.check()?;
    let judging = tokio::task::spawn_blocking(move || {
        let raw = raw::read(&evidence, &limits)?;
        evaluate::report(&evidence, &raw)
    });
    judging.await.map_err(|_| Stop::Broken("the evaluation panicked".into()))?
}

/// Half the cores at most: requests come first.
pub(super) fn threads() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

/// How many examples files have.
fn count(files: &[Upload]) -> usize {
    files.iter().map(|file| file.inspection.summary.examples as usize).sum()
}

/// How many examples are done, of how many.
struct Counted {
    done: usize,
    total: usize,
}

fn unpack(batch: Vec<Example>, split: Option<Split>) -> (Vec<Row>, Payload) {
    let mut rows = Vec::with_capacity(batch.len());
    let mut contents = Vec::with_capacity(batch.len());
    for example in batch {
        rows.push(Row {
            labels: example.labels,
            group: example.group,
            split: split.or(example.split),
            place: example.place,
            of_validation: split.is_some(),
        });
        contents.push(example.content);
    }
    (rows, payload(contents.into_iter()))
}

fn unknown_method(name: &str) -> String {
    let known: Vec<&str> = METHODS.iter().map(|method| method.name()).collect();
    format!("there is no method `{name}`; there are {}", known.join(", "))
}
