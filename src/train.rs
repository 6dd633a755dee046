//! `headstart train`: a file of examples in, a classifier and its report out, at the terminal.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use headstart_datasets::Inspection;
use headstart_methods::{METHODS, Method, Params};
use headstart_store::{Scope, Store};
use headstart_tasks::Served;
use headstart_types::classifier::Reason;
use headstart_types::file::FileRow;
use headstart_types::ids::{FileId, JobId};
use headstart_types::job::{Job, JobParams, JobState, NewJob, ReportParams};
use headstart_types::payload::Modality;
use headstart_types::report::{Estimate, Metrics, Report};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt as _;

use crate::app::App;
use crate::clock::{chance, now_ms};
use crate::config::Config;
use crate::intake::{self, Upload};
use crate::worker::Workers;
use crate::{keys, names, sweep};

/// Findings of a file that are printed.
const PRINTED: usize = 20;

/// How often progress is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Arguments of `headstart train`.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// Labelled examples: JSON lines, CSV, TSV, Parquet, or a zip or tar of one folder a class
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Labelled examples to tune and stop by; it may be small, but has no class of its own
    #[arg(long, value_name = "FILE")]
    validation: Option<PathBuf>,
    /// The backbone [default: the first in order of name that reads the examples]
    #[arg(long, value_name = "NAME")]
    backbone: Option<String>,
    /// How the classifier is fitted: auto, linear_probe, mlp, prototype, or with the backbone: full, partial, lora, setfit
    #[arg(long, value_name = "METHOD", default_value = "auto")]
    method: String,
    /// The method's hyperparameters as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    hyperparameters: String,
    /// The classifier's name [default: the file's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The API key's name it is to belong to, where keys are used
    #[arg(long, value_name = "NAME", default_value = "")]
    owner: String,
    /// Print the whole report as JSON, also on a terminal, which gets a summary otherwise
    #[arg(long)]
    json: bool,
    /// All chance follows from it
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: i64,
    /// Seconds for the report's zero-shot labels and learning curve together
    #[arg(long, value_name = "SECONDS", default_value_t = ReportParams::default().budget_seconds,
          value_parser = clap::value_parser!(u32).range(0..=i64::from(ReportParams::MOST_SECONDS)))]
    budget_seconds: u32,
}

/// Trains, prints the report, and leaves the classifier in the data folder.
///
/// # Errors
/// Naming what is wrong with the file, the backbone or the method.
pub fn run(mut config: Config, arguments: TrainArguments) -> anyhow::Result<()> {
    config.workers = 1;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(train(config, arguments))
}

async fn train(config: Config, arguments: TrainArguments) -> anyhow::Result<()> {
    let given: Map<String, Value> = serde_json::from_str(&arguments.hyperparameters).with_context(|| {
        format!(
            "`--hyperparameters` must be a JSON object such as '{{\"c\": 1.0}}', not `{}`",
            arguments.hyperparameters
        )
    })?;
    let method = headstart_methods::method(&arguments.method).with_context(|| {
        let names: Vec<&str> = METHODS.iter().map(|method| method.name()).collect();
        format!("there is no method `{}`; methods are {}", arguments.method, names.join(", "))
    })?;
    let params = method.check(&given)?;
    let app = Arc::new(App::at_terminal(config)?);
    app.open_store().await?;
    check_owner(&app, &arguments.owner)?;
    let store = app.store().context("the store is closed")?.clone();
    let mut taken = Vec::new();
    let asked = Asked { arguments: &arguments, method, given: &given, params };
    let job = match begin(&app, &store, asked, &mut taken).await {
        Ok(job) => job,
        Err(error) => {
            // Nobody asked for these files to be kept.
            for file in &taken {
                forget(&store, file).await.with_context(|| format!("{error:#}"))?;
            }
            return Err(error);
        }
    };
    let workers = Workers::start(&app)?;
    let job = watch(&store, &job.id).await?;
    workers.stop().await;
    tokio::task::spawn_blocking(move || app.unload_all()).await?;
    conclude(&store, &job, arguments.json || !std::io::stdout().is_terminal()).await
}

/// What is asked for, as far as it can be checked before any file is read.
struct Asked<'a> {
    arguments: &'a TrainArguments,
    method: &'static dyn Method,
    given: &'a Map<String, Value>,
    params: Params,
}

/// Takes the files in, loads the backbones, and makes the job. What was taken in is in `taken`, also after an error.
async fn begin(
    app: &Arc<App>,
    store: &Store,
    asked: Asked<'_>,
    taken: &mut Vec<FileRow>,
) -> anyhow::Result<Job> {
    let Asked { arguments, method, given, params } = asked;
    let input = &arguments.input;
    let (file, inspection) = take_in(app, store, &arguments.owner, input).await?;
    taken.push(file.clone());
    print_findings(&inspection)?;
    if let Some(problem) = inspection.status_details() {
        bail!("{} cannot be trained on: {problem}", input.display());
    }
    let classes: Vec<String> = inspection.summary.classes.iter().map(|class| class.label.clone()).collect();
    method.check_classes(&params, &classes)?;
    let validation = match &arguments.validation {
        Some(beside) => {
            let (row, alone) = take_in(app, store, &file.key, beside).await?;
            taken.push(row.clone());
            check_beside(app, store, (&file, &inspection), (&row, &alone), beside).await?;
            Some(row.id)
        }
        None => None,
    };
    let modality = inspection.modality.context("the file has no examples")?;
    let params = method.check_for(modality, given)?;
    app.load().await?;
    let new = NewJob {
        id: JobId::new(now_ms(), chance()?),
        key: arguments.owner.clone(),
        model: backbone(app, arguments.backbone.as_deref(), modality).await?,
        method: method.name().to_owned(),
        classifier: classifier_name(app, arguments)?,
        suffix: arguments.name.clone(),
        training_file: file.id,
        validation_file: validation,
        seed: arguments.seed,
        metadata: Default::default(),
        params: JobParams::new(
            params.as_map().clone(),
            ReportParams { budget_seconds: arguments.budget_seconds },
        ),
        webhook: None,
        traceparent: None,
        validate_first: false,
    };
    Ok(store.create_job(&new, u32::MAX, now_ms()).await?)
}

/// Whether there is a key of the owner's name, or, where none are asked for, can be: what belongs to nobody, nobody could use.
fn check_owner(app: &App, owner: &str) -> anyhow::Result<()> {
    if !owner.is_empty() && !app.keys.are_asked_for() {
        return keys::check_name(owner).context("`--owner`");
    }
    let keys = app.keys.names();
    ensure!(
        !app.keys.are_asked_for() || keys.contains(&owner),
        "`--owner` must be the name of the key that is to use the classifier: {}",
        keys.join(", ")
    );
    Ok(())
}

/// Stores a file and reads it whole.
async fn take_in(
    app: &App,
    store: &Store,
    owner: &str,
    input: &Path,
) -> anyhow::Result<(FileRow, Inspection)> {
    ensure!(
        !input.is_dir(),
        "{} is a folder: pack it as a zip or tar that has one folder a class",
        input.display()
    );
    let context = || input.display().to_string();
    let mut from = tokio::fs::File::open(input).await.with_context(context)?;
    let mut writer = store.blobs().begin().await?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = from.read(&mut buffer).await.with_context(context)?;
        if read == 0 {
            break;
        }
        writer.write(buffer.get(..read).unwrap_or_default()).await?;
    }
    let now = now_ms();
    let upload = Upload {
        id: FileId::new(now, chance()?),
        key: owner.to_owned(),
        filename: input.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        blob: writer.finish().await?,
        created_at: now,
        expires_at: expiry(app, now),
    };
    let (row, inspection) = intake::file_row(app, store, upload).await?;
    // What belongs to a key counts as if the key had sent it.
    let most = if owner.is_empty() { u64::MAX } else { app.config.key_file_bytes };
    if let Err(error) = store.create_file(&row, most).await {
        sweep::erase(store, &row).await;
        return Err(error.into());
    }
    Ok((row, inspection))
}

/// When a file that is taken in now is deleted, as one that is uploaded.
fn expiry(app: &App, now: i64) -> Option<i64> {
    let days = i64::from(app.config.file_retention_days);
    (days > 0).then(|| now.saturating_add(days * 24 * 60 * 60 * 1000))
}

/// Whether a validation file is right, which it is beside its training file if not alone.
async fn check_beside(
    app: &App,
    store: &Store,
    (training, learned): (&FileRow, &Inspection),
    (file, alone): (&FileRow, &Inspection),
    input: &Path,
) -> anyhow::Result<()> {
    let problem = if !alone.is_readable() {
        alone.status_details()
    } else if (alone.modality, alone.multi_label) != (learned.modality, learned.multi_label) {
        Some("its examples or labels are of another kind".to_owned())
    } else {
        let joint = intake::together(app, store, training, file).await?;
        let mut told = joint.clone();
        // What the training file has by itself was printed before.
        told.warnings.retain(|finding| finding.file.as_deref() == Some(file.filename.as_str()));
        print_findings(&told)?;
        joint.status_details()
    };
    match problem {
        Some(problem) => bail!("{} cannot be tuned on: {problem}", input.display()),
        None => Ok(()),
    }
}

/// Deletes a file that is of no use, with its bytes.
async fn forget(store: &Store, file: &FileRow) -> anyhow::Result<()> {
    let reason = Reason { who: file.key.clone(), reason: "it cannot be trained on".to_owned(), gate: None };
    store.delete_file(Scope::All, &file.id, &reason, now_ms()).await?;
    sweep::erase(store, file).await;
    Ok(())
}

fn print_findings(inspection: &Inspection) -> anyhow::Result<()> {
    let mut err = std::io::stderr().lock();
    let summary = &inspection.summary;
    writeln!(err, "{} examples of {} classes", summary.examples, summary.classes.len())?;
    let found = inspection.problems.iter().map(|finding| ("problem", finding));
    let found = found.chain(inspection.warnings.iter().map(|finding| ("warning", finding)));
    for (kind, finding) in found.take(PRINTED) {
        let file = finding.file.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        let place = match (finding.line, &finding.path) {
            (Some(line), _) => format!("line {line}: "),
            (None, Some(path)) => format!("{path}: "),
            (None, None) => String::new(),
        };
        writeln!(err, "{kind}: {file}{place}{}", finding.message)?;
    }
    Ok(())
}

async fn backbone(app: &App, asked: Option<&str>, modality: Modality) -> anyhow::Result<String> {
    let catalog = &app.tasks.catalog;
    let reads = |served: &Served| served.modalities().contains(&modality) && served.gives_features();
    if let Some(asked) = asked {
        ensure!(reads(&*catalog.get(asked).await?), "`{asked}` does not read {}", modality.as_str());
        return Ok(asked.to_owned());
    }
    for (id, _) in catalog.list() {
        if catalog.get(&id).await.is_ok_and(|served| reads(&served)) {
            return Ok(id);
        }
    }
    bail!("no backbone reads {}", modality.as_str())
}

/// The name asked for, or the file's, by the rules that requests have.
fn classifier_name(app: &App, arguments: &TrainArguments) -> anyhow::Result<String> {
    let backbones = &app.tasks.catalog;
    if let Some(name) = &arguments.name {
        return names::of(name, backbones).map_err(|problem| anyhow::anyhow!("`--name` {problem}"));
    }
    let stem = arguments.input.file_stem().unwrap_or_default().to_string_lossy();
    let stem: String = names::sanitised(&stem).chars().take(names::LONGEST).collect();
    let named = names::of(if stem.is_empty() { "classifier" } else { &stem }, backbones);
    named.map_err(|problem| anyhow::anyhow!("the file's name {problem}: name the classifier with `--name`"))
}

/// Draws the job's progress until it ends.
async fn watch(store: &Store, id: &JobId) -> anyhow::Result<Job> {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}") {
        bar.set_style(style);
    }
    let mut said = None;
    loop {
        let job = store.job(Scope::All, id).await?;
        if let Some(progress) = job.progress {
            bar.set_length(progress.total);
            bar.set_position(progress.step);
        }
        let newest = store.events(id, &headstart_store::PageRequest::newest(1)).await?.data.pop();
        if let Some(event) = newest.filter(|event| said.as_ref() != Some(&event.id)) {
            bar.set_message(event.message.clone());
            said = Some(event.id);
        }
        if job.state.is_final() {
            bar.finish_and_clear();
            return Ok(job);
        }
        // Progress wakes nobody: it is looked at.
        tokio::time::sleep(DRAW_EVERY).await;
    }
}

/// The report, whole or in short, on standard output, the classifier's name on standard error.
async fn conclude(store: &Store, job: &Job, whole: bool) -> anyhow::Result<()> {
    if job.state != JobState::Succeeded {
        let message = job.error.as_ref().map_or("it was cancelled", |error| error.message.as_str());
        bail!("the job ended as `{}`: {message}", job.state.as_str());
    }
    let report = job.report.as_ref().context("the job left no report")?;
    let report = store.blobs().read(report, 1 << 30).await?;
    let mut out = std::io::stdout();
    if whole {
        let report: Value = serde_json::from_slice(&report)?;
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        out.write_all(summary(&serde_json::from_slice(&report)?).as_bytes())?;
    }
    let name = json!(job.fine_tuned_model);
    writeln!(
        std::io::stderr(),
        "{} is in {}",
        name.as_str().unwrap_or_default(),
        store.folder().unwrap_or(".".as_ref()).display()
    )?;
    Ok(())
}

/// A report in a few lines.
fn summary(report: &Report) -> String {
    let figure = |name: &str, it: &Estimate| {
        format!("{name:<20}{:.3}, 95 % interval {:.3} to {:.3}", it.value, it.low, it.high)
    };
    let mut lines = vec![report.verdict.clone(), String::new()];
    let items = match &report.metrics {
        Metrics::SingleLabel(metrics) => {
            lines.extend([figure("accuracy", &metrics.accuracy), figure("macro F1", &metrics.macro_f1)]);
            metrics.items
        }
        Metrics::MultiLabel(metrics) => {
            lines
                .extend([figure("micro F1", &metrics.micro_f1), figure("exact match", &metrics.exact_match)]);
            metrics.items
        }
    };
    lines.push(format!("{:<20}{items}", "held-out items"));
    lines.extend(report.zero_shot.as_ref().map(|it| figure("zero-shot", it)));
    let suspicious = report.suspicious.as_ref().filter(|suspicious| suspicious.found > 0);
    lines.extend(suspicious.map(|it| format!("{:<20}{} of {}", "suspicious labels", it.found, it.examined)));
    lines.extend(report.warnings.iter().map(|note| format!("warning: {}", note.message)));
    lines.extend(report.left_out.iter().map(|left| format!("left out: {}: {}", left.part, left.reason)));
    lines.push("The whole report: the same with --json, or with the output in a file.".to_owned());
    lines.join("\n") + "\n"
}
