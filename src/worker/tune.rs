//! The step of the methods that train the backbone itself: what `training` makes of it is kept, and asked about the rows that
//! stop the run and those that are scored.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use headstart_datasets::{Limits, Place};
use headstart_methods::artifact::{self, Graft};
use headstart_methods::data;
use headstart_methods::head::{Backbone, Head};
use headstart_methods::tune::{self, Plan};
use headstart_methods::{Control, FitData, Fitted, Method, MethodError, Unattended};
use headstart_types::classifier::untuned;
use headstart_types::ids::Sha256;
use headstart_types::report::Tuning;
use ndarray::{Array2, Axis};

use crate::app::App;
use crate::variants;
use crate::worker::bulk;
use crate::worker::control::{Halt, Stop};
use crate::worker::examples::Examples;
use crate::worker::fine_tune::{Context, FEATURES, Parts, threads};
use crate::worker::reading::{Upload, payload};
use crate::worker::table::Table;
use crate::worker::training::{self, Question, Subjects, identity};
use crate::worker::training_rows::TrainingRows;

/// The steps under which the states of a training and of the one from random weights, what it ended with and how it went
/// are kept.
const TUNE_STATE: &str = "tune";
const RANDOM_STATE: &str = "tune-random";
const TUNED: &str = "tuned";
const TUNING: &str = "tuning";

/// What a job works on.
pub(super) struct Ground<'a> {
    pub(super) files: &'a [Upload],
    pub(super) table: &'a Arc<Table>,
    pub(super) parts: &'a Parts,
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
                let values = &*values;
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
    /// Whether the backbone's graph can be trained as planned, unless the job is beyond its first step: what is in the way is
    /// known before features are computed that nobody would need.
    ///
    /// # Errors
    /// The job's stop.
    pub(super) async fn check_graph(&self, files: &[Upload]) -> Result<(), Stop> {
        let begun = self.done.contains_key(&self.step(FEATURES));
        let (Some(plan), Some(file), false) = (&self.plan, files.first(), begun) else { return Ok(()) };
        let folder = self.features.trained(self.app).await?.map_err(Stop::Broken)?.folder().clone();
        let inspection = &file.inspection;
        let question = Question {
            folder,
            plan: plan.clone(),
            classes: inspection.summary.classes.iter().map(|class| class.label.clone()).collect(),
            multi_label: inspection.multi_label,
            dimension: self.features.manifest().dimension(),
            threads: threads(),
            device: self.app.device(),
        };
        let checking = tokio::task::spawn_blocking(move || training::check(&question));
        let checked = checking.await.map_err(|_| Stop::Broken("the look at the graph panicked".into()))?;
        self.halt.check()?;
        Ok(checked?)
    }

    /// Trains the backbone, unless that was done before, and asks what came of it about the rows that stop the run and those
    /// that are scored.
    ///
    /// # Errors
    /// The job's stop.
    pub(super) async fn tune(
        &self,
        plan: &Plan,
        ground: &Ground<'_>,
        training_rows: TrainingRows,
        fitted: &Fitted,
    ) -> Result<Made, Stop> {
        let Ground { files, table, parts } = *ground;
        let (learn, stop, numbers) =
            (training_rows.learn.clone(), training_rows.stop.clone(), training_rows.numbered(parts));
        let (blob, bytes, tuning) = match (self.done.get(&self.step(TUNED)), self.before(TUNED).await?) {
            (Some(blob), Some(bytes)) => {
                let tuning = self.before(TUNING).await?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                (blob.clone(), bytes, tuning)
            }
            _ => {
                let head = self.start(table, parts, &training_rows, fitted).await?;
                self.train(plan, ground, training_rows, head).await?
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
            let refitted = self.refit(learned, held_out, backbone).await?;
            if stop.is_empty() { tune::unjudged(refitted, &fitted.head)? } else { refitted }
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
        training_rows: &TrainingRows,
        fitted: &Fitted,
    ) -> Result<Head, Stop> {
        if training_rows.stop.is_empty() || !parts.tune.is_empty() {
            return Ok(fitted.head.clone());
        }
        let backbone = fitted.head.parts().backbone.clone();
        Ok(self.fit_at_once(table.examples(&training_rows.learn)?, None, backbone).await?.head)
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
        training_rows: TrainingRows,
        head: Head,
    ) -> Result<Subjects, Stop> {
        let Ground { files, table, .. } = *ground;
        let limits = self.app.dataset_limits();
        let (wanted, recipe) = (training_rows.all(), &plan.recipe);
        let place = (self.app.config.data.as_path(), &**self.halt);
        let (folder, encoder) = {
            let trained = self.features.trained(self.app).await?.map_err(Stop::Broken)?;
            (trained.folder().clone(), trained.examples()?)
        };
        let examples = Examples::read(encoder, (files, &limits), (table, &wanted), recipe, place).await?;
        Ok(Subjects {
            folder,
            answering: identity(&self.features.manifest().backbone),
            head,
            method: self.method,
            params: self.params.clone(),
            plan: plan.clone(),
            targets: table.targets(),
            training_rows,
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
        training_rows: TrainingRows,
        head: Head,
    ) -> Result<(Sha256, Vec<u8>, Option<Tuning>), Stop> {
        let subjects = self.subjects(plan, ground, training_rows, head).await?;
        let mut control = self.control(TUNE_STATE, self.before(TUNE_STATE).await?);
        let mut other = match plan.recipe.from_random {
            true => Some(self.control(RANDOM_STATE, self.before(RANDOM_STATE).await?)),
            false => None,
        };
        let training = tokio::task::spawn_blocking(move || {
            let other = other.as_mut().map(|control| control as &mut dyn Control);
            training::train(&subjects, &mut control, other)
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
