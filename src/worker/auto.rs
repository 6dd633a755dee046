//! Whether a job whose method leaves it open trains the backbone: decided before it does, by the rows that could show a gain
//! and the time that a few steps take, and behind it by what those rows show. The training is that of the method chosen.

use std::sync::Arc;
use std::time::Duration;

use headstart_methods::auto::{self, Deciding};
use headstart_methods::data::Targets;
use headstart_methods::tune::Recipe;
use headstart_methods::{Fitted, Method, MethodError, method};
use headstart_tasks::TaskError;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::precision;
use crate::worker::control::{Stop, UNSUITABLE, never_fits};
use crate::worker::fine_tune::Context;
use crate::worker::pace::Part;
use crate::worker::rehearsal;
use crate::worker::training_rows::{HELD_OUT, TrainingRows};
use crate::worker::tune::{Ground, Made};

/// The steps under which it is kept what was decided before the training, and the fit of the head that it begins with.
const DECISION: &str = "auto";
const PROBE_STATE: &str = "auto-probe";

/// What was decided, as it is kept: a worker that takes the job over does not measure anew.
#[derive(Debug, Serialize, Deserialize)]
struct Decision {
    /// The method that trains the backbone, where one does.
    method: Option<String>,
    /// The reason, in words.
    why: String,
}

impl Decision {
    fn no(why: impl Into<String>) -> Self {
        Self { method: None, why: why.into() }
    }
}

impl Context<'_> {
    /// Trains the backbone where that is believed to take no longer than `within`, and keeps what comes of it where held-out
    /// rows speak for it.
    ///
    /// # Errors
    /// The job's stop.
    pub(super) async fn where_it_pays(
        &self,
        within: Duration,
        ground: &Ground<'_>,
        fitted: &Arc<Fitted>,
    ) -> Result<Made, Stop> {
        let broken = |error: serde_json::Error| Stop::Broken(format!("what `auto` decided: {error}"));
        let (decision, probe) = match self.before(DECISION).await? {
            Some(bytes) => (serde_json::from_slice(&bytes).map_err(broken)?, None),
            None => {
                let (decision, probe) = self.decide(within, ground, fitted).await?;
                self.keep(DECISION, &serde_json::to_vec(&decision).map_err(broken)?).await?;
                (decision, probe)
            }
        };
        let Decision { method: Some(name), why } = decision else {
            return self.not_trained(ground, fitted, &decision.why).await;
        };
        let chosen = method(&name).ok_or_else(|| Stop::Broken(format!("there is no method `{name}`")))?;
        self.say(format!("the backbone is trained by {name}: {why}")).await?;
        let chosen = self.delegate(chosen)?;
        let plan = chosen.plan.as_ref().ok_or_else(|| Stop::Broken(format!("{name} trains nothing")))?;
        let probe = match probe {
            Some(probe) => probe,
            None => chosen.probe(ground, fitted).await?,
        };
        let training_rows = self.training_rows(ground, fitted)?;
        self.pace.begin(Part::Tune);
        let made = match chosen.tune(plan, ground, training_rows, &probe).await {
            Ok(made) => made,
            // It could be trained; what came of it is more than `model-memory` will ever leave.
            Err(Stop::Refused(error)) if error.code == UNSUITABLE => {
                let why = format!("what {name} made of it cannot be used: {}", error.message);
                return self.not_trained(ground, fitted, &why).await;
            }
            Err(stop) => return Err(stop),
        };
        let judged = auto::judge(fitted, &made.fitted, &targets(ground));
        if !judged.kept {
            return self
                .not_trained(ground, fitted, &format!("by {name} it gained too little: {}", judged.sentence))
                .await;
        }
        self.say(format!("what {name} made of the backbone is kept: {}", judged.sentence)).await?;
        Ok(made.because(&format!("chosen by auto: {why}; {}", judged.sentence)))
    }

    /// The version on frozen features, which says why it is.
    ///
    /// # Errors
    /// The job's stop.
    pub(super) async fn not_trained(
        &self,
        ground: &Ground<'_>,
        fitted: &Arc<Fitted>,
        why: &str,
    ) -> Result<Made, Stop> {
        let why = format!("the backbone was not trained: {why}");
        self.say(why.clone()).await?;
        Ok(Made::head(fitted, ground.table, ground.parts).because(&why))
    }

    /// Whether the backbone is to be trained, by what, and why; with the probe that it then begins with.
    async fn decide(
        &self,
        within: Duration,
        ground: &Ground<'_>,
        fitted: &Arc<Fitted>,
    ) -> Result<(Decision, Option<Arc<Fitted>>), Stop> {
        let no = |why: String| Ok((Decision::no(why), None));
        if let Err(why) = self.trainable(ground).await? {
            return no(why);
        }
        let head = &ground.table.head;
        let rows = (ground.parts.learn.len(), head.classes.len());
        let (chosen, why) = auto::choose(self.features.modality(), rows, head.multi_label);
        let training_rows = match self.training_rows(ground, fitted) {
            Ok(training_rows) => training_rows,
            Err(MethodError::Split(error)) => return no(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if let Err(why) = auto::leaves_room(fitted, &training_rows.numbered(ground.parts), &targets(ground)) {
            return no(why);
        }
        let chosen = self.delegate(chosen)?;
        let probe = chosen.probe(ground, fitted).await?;
        let name = chosen.method.name();
        let took = match chosen.rehearse(ground, &training_rows, &probe).await? {
            Ok(took) => took,
            Err(MethodError::Graph(problem)) => return no(format!("{name} cannot: {problem}")),
            Err(error) => return Err(error.into()),
        };
        let (seconds, within) = (took.as_secs_f64().ceil(), within.as_secs());
        if seconds > within as f64 {
            return no(format!("{name} would take some {seconds} seconds, `tune_seconds` is {within}"));
        }
        let why = format!("{why}; some {seconds} seconds, `tune_seconds` is {within}");
        Ok((Decision { method: Some(name.to_owned()), why }, Some(probe)))
    }

    /// Whether the job's backbone can be trained on what its files hold; why not, in words.
    async fn trainable(&self, ground: &Ground<'_>) -> Result<Result<(), String>, Stop> {
        let (id, spec) = (self.features.id(), &self.features.manifest().backbone);
        if let Some(original) = spec.original.as_ref().filter(|_| !spec.requantise) {
            return Ok(Err(format!(
                "`{id}` is `{original}` at low precision, and only the original can be trained"
            )));
        }
        let cannot = |problem: String| Ok(Err(format!("`{id}` cannot be trained: {problem}")));
        let trained = match self.features.trained(self.app).await {
            Ok(Ok(trained)) => trained.folder().clone(),
            Ok(Err(problem)) => return cannot(problem),
            // Whoever unloaded the original alone may never load it again.
            Err(error @ TaskError::Unloaded(_)) if spec.original.is_some() => {
                return cannot(error.to_string());
            }
            Err(error) => match never_fits(&error) {
                Some(problem) => return cannot(problem),
                None => return Err(error.into()),
            },
        };
        let embeddings = Recipe::default().embeddings;
        let checked = precision::check(self.app, &self.features.folder, &trained, embeddings).await;
        if let Err(problem) = checked {
            return cannot(problem);
        }
        let reads = trained.manifest().backbone.modality;
        match ground.files.first().and_then(|file| file.inspection.modality) {
            Some(holds) if holds != reads => Ok(Err(format!(
                "the examples are {}, and what would be trained reads {}",
                holds.as_str(),
                reads.as_str()
            ))),
            Some(_) | None => Ok(Ok(())),
        }
    }

    /// The same job as another method's, with the defaults of its hyperparameters.
    fn delegate(&self, chosen: &'static dyn Method) -> Result<Self, Stop> {
        let params = chosen.check_for(self.features.modality(), &Map::new())?;
        let plan = chosen.plan(&params, self.job.seed.cast_unsigned())?;
        Ok(Self { method: chosen, params, plan, ..self.clone() })
    }

    /// The linear probe that a training begins with; it may have been fitted already.
    async fn probe(&self, ground: &Ground<'_>, fitted: &Arc<Fitted>) -> Result<Arc<Fitted>, Stop> {
        if fitted.head.parts().method == "linear_probe" {
            return Ok(Arc::clone(fitted));
        }
        Ok(Arc::new(self.fit(PROBE_STATE, ground.table, ground.parts).await?))
    }

    /// The rows learnt from, and those that decide: none that the fit learned from.
    fn training_rows(&self, ground: &Ground<'_>, fitted: &Fitted) -> Result<TrainingRows, MethodError> {
        let Ground { table, parts, .. } = ground;
        let seed = self.job.seed.cast_unsigned();
        if !parts.tune.is_empty() {
            return TrainingRows::of(table, parts, HELD_OUT, seed);
        }
        match auto::deciding(fitted, parts.learn.len(), table.head.classes.len()) {
            Deciding::Share(share) => TrainingRows::of(table, parts, share, seed),
            Deciding::Rows(places) => {
                let (mut learn, mut stop) = (Vec::new(), Vec::new());
                for (place, row) in parts.learn.iter().enumerate() {
                    let side = if places.binary_search(&place).is_ok() { &mut stop } else { &mut learn };
                    side.push(*row);
                }
                Ok(TrainingRows { learn, stop })
            }
        }
    }

    /// How long the training takes, by a few of its steps.
    async fn rehearse(
        &self,
        ground: &Ground<'_>,
        training_rows: &TrainingRows,
        probe: &Fitted,
    ) -> Result<Result<Duration, MethodError>, Stop> {
        let Some(plan) = &self.plan else { return Ok(Ok(Duration::ZERO)) };
        let (targets, rows) = (ground.table.targets(), training_rows.learn.len() + training_rows.stop.len());
        let whole = (plan.steps(&training_rows.learn, &targets, training_rows.stop.len()), rows);
        let seed = self.job.seed.cast_unsigned();
        let learn = plan.some(&training_rows.learn, &targets, rehearsal::STEPS, seed);
        let some = TrainingRows { learn, stop: Vec::new() };
        let subjects = self.subjects(plan, ground, some, probe.head.clone()).await?;
        let halt = Arc::clone(self.halt);
        let rehearsing = tokio::task::spawn_blocking(move || rehearsal::took(&subjects, whole, halt));
        let took = rehearsing.await.map_err(|_| Stop::Broken("the rehearsal panicked".into()))?;
        self.halt.check()?;
        Ok(took)
    }
}

/// What is right of the rows learnt from and of the rows for tuning behind them, as a fit numbers them.
fn targets(ground: &Ground<'_>) -> Targets {
    let rows: Vec<usize> = ground.parts.learn.iter().chain(&ground.parts.tune).copied().collect();
    ground.table.targets().select(&rows)
}
