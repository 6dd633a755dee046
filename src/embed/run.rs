//! The command: what is asked for, checked before any work; the walk through the items.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use headstart_engine::{Class, Folder};
use headstart_tasks::features::{Embedding, Features, FeaturesParams};
use headstart_tasks::{Caller, Served, Task as _, TaskError};
use headstart_types::payload::{Modality, Truncate};
use headstart_types::{Manifest, Media, Payload};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{Form, Held, Output};
use super::record::{Files, Input, Record, Settings};
use super::sink::Sink;
use super::source::{Item, Items, Source, TextsDigest};
use crate::app::App;
use crate::config::Config;
use crate::folders;

/// Items computed between two writes: what a killed run can lose.
const CHUNK: usize = 64;

/// Names of files that are printed.
const PRINTED: usize = 10;

/// What to do about an output of other work.
const ANEW: &str = "name another output, or begin it anew with --overwrite";

/// Arguments of `headstart embed`.
#[derive(Debug, Args)]
pub struct EmbedArguments {
    /// Texts, one a line; JSON lines with a field `text`; a folder of images or sounds, or one
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// The backbone [default: the first in order of name that reads the input]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Where vectors go: .jsonl or .npy; FILE.headstart.json beside it says what made them [default: FILE with .jsonl added]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Begin the output anew, whatever it holds, instead of adding what it lacks
    #[arg(long)]
    overwrite: bool,
    /// A prefix by its name in the model's manifest
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
    /// What happens to a text longer than the model takes [default: end]
    #[arg(long, value_name = "WHERE")]
    truncate: Option<Cut>,
}

/// What happens to a text longer than the model takes.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Cut {
    /// It is refused
    None,
    /// The last tokens stay
    Start,
    /// The first tokens stay
    End,
}

impl From<Cut> for Truncate {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::None => Self::None,
            Cut::Start => Self::Start,
            Cut::End => Self::End,
        }
    }
}

/// Embeds everything that the output does not hold yet.
///
/// # Errors
/// Naming the file, line or picture that cannot be used.
pub fn run(config: Config, arguments: EmbedArguments) -> anyhow::Result<()> {
    let source = Source::open(&arguments.input)?;
    let output = arguments.output.clone().unwrap_or_else(|| {
        let mut name = arguments.input.clone().into_os_string();
        name.push(".jsonl");
        name.into()
    });
    let output = Output::at(output, &source)?;
    let begun = if arguments.overwrite { None } else { output.begun()? };
    let app = App::at_terminal(config)?;
    let folder = choose(&app, arguments.model.as_deref(), source.modality())?;
    check_arguments(&arguments, folder.manifest())?;
    let engine = app.start_engine()?;
    let served = load(&app, &engine, &folder)?;
    let work = Work { app: &app, source: &source, settings: settings(&arguments, &served) };
    drop(served);
    work.run(output, begun)?;
    app.tasks.catalog.clear();
    Ok(())
}

/// The backbone asked for, or the first in order of name that reads the input.
fn choose(app: &App, asked: Option<&str>, modality: Modality) -> anyhow::Result<Folder> {
    let mut paths = app.backbone_folders()?.kept;
    paths.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    let names: Vec<_> = paths.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    if let Some(asked) = asked {
        let path = paths.iter().find(|path| path.file_name().is_some_and(|name| name == asked));
        let path = path
            .with_context(|| format!("the model `{asked}` does not exist; there are {}", names.join(", ")))?;
        let folder = folders::open(path)?;
        let reads = folder.manifest().modalities();
        let (own, given) = (folder.manifest().backbone.modality.as_str(), modality.as_str());
        ensure!(reads.contains(&modality), "`{asked}` reads {own}, the input is {given}");
        ensure!(!folder.manifest().reads_pairs(), "`{asked}` reads pairs of texts and has no features");
        return Ok(folder);
    }
    let mut refused = String::new();
    for path in &paths {
        match folders::open(path) {
            Ok(folder)
                if folder.manifest().modalities().contains(&modality) && !folder.manifest().reads_pairs() =>
            {
                return Ok(folder);
            }
            Ok(_) => {}
            Err(error) => refused.push_str(&format!("; {error}")),
        }
    }
    bail!("no backbone reads {}{refused}", modality.as_str())
}

fn load(app: &App, engine: &headstart_engine::Engine, folder: &Folder) -> anyhow::Result<Arc<Served>> {
    app.load_folders(engine, &[folder.path().to_path_buf()])?;
    Ok(app.tasks.catalog.at_hand(&folder.manifest().backbone.id)?)
}

/// What only texts have is refused for others, and a prompt must be one of the model's.
fn check_arguments(arguments: &EmbedArguments, manifest: &Manifest) -> anyhow::Result<()> {
    let id = &manifest.backbone.id;
    let texts = manifest.text.as_ref();
    let reads_texts = manifest.backbone.modality == Modality::Text;
    ensure!(arguments.truncate.is_none() || reads_texts, "`--truncate` is for texts; `{id}` reads none");
    let Some(asked) = &arguments.prompt else { return Ok(()) };
    let known: Vec<&str> =
        texts.into_iter().flat_map(|text| text.prompts.keys()).map(String::as_str).collect();
    let named = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    ensure!(known.contains(&asked.as_str()), "`--prompt` is `{asked}`; `{id}` has {named}");
    Ok(())
}

fn settings(arguments: &EmbedArguments, served: &Served) -> Settings {
    let manifest = served.manifest();
    Settings {
        model: manifest.backbone.id.clone(),
        sha256: manifest.backbone.sha256.to_lowercase(),
        fingerprint: served.key(),
        prompt: arguments.prompt.clone(),
        truncate: arguments.truncate.map(Truncate::from).unwrap_or_default(),
        dimension: manifest.dimension(),
    }
}

/// One run.
struct Work<'a> {
    app: &'a App,
    source: &'a Source,
    settings: Settings,
}

impl Work<'_> {
    fn run(&self, output: Output, begun: Option<Record>) -> anyhow::Result<()> {
        let (held, digest) = match begun {
            Some(record) => self.resume(&output, &record)?,
            None => (Held::default(), TextsDigest::default()),
        };
        let gone = self.source.lost(&held.names);
        let items = self.source.items_behind(held.rows, &held.names)?;
        let record = Record::new(self.settings.clone(), self.input(&output, held.rows, &digest));
        let (before, shown) = (held.rows, output.path.display().to_string());
        let mut sink = Sink::new(output, record, held, digest);
        let bar = progress_bar(self.source.count()? + gone.len(), before);
        self.walk(items, |items, embeddings| {
            sink.add(items, embeddings)?;
            bar.inc(items.len() as u64);
            Ok(())
        })?;
        bar.finish();
        let Settings { dimension, model, .. } = &self.settings;
        let mut told = format!("{} vectors of {dimension} values by {model} in {shown}", sink.rows);
        if before > 0 {
            told.push_str(&format!(", {before} of them from before"));
        }
        if sink.truncated > 0 {
            told.push_str(&format!("; {} texts were longer than the model takes and cut", sink.truncated));
        }
        if !gone.is_empty() {
            let names = gone.get(..PRINTED).unwrap_or(&gone).join(", ");
            let more = if gone.len() > PRINTED { ", …" } else { "" };
            told.push_str(&format!(
                "; {} are of files that the input has no more: {names}{more}",
                gone.len()
            ));
        }
        sink.finish()?;
        writeln!(std::io::stderr(), "{told}")?;
        Ok(())
    }

    /// What the record says of the input after some items.
    fn input(&self, output: &Output, items: usize, digest: &TextsDigest) -> Input {
        match self.source {
            Source::Texts(_) => Input::Texts { items, sha256: digest.hex() },
            Source::Files { modality, folder, files } => {
                let names = || files.iter().map(|file| file.name.clone()).collect();
                let files = Files { folder: folder.clone(), files: (output.form == Form::Npy).then(names) };
                if *modality == Modality::Audio { Input::Sounds(files) } else { Input::Pictures(files) }
            }
        }
    }

    /// What an output holds of this very work.
    fn resume(&self, output: &Output, record: &Record) -> anyhow::Result<(Held, TextsDigest)> {
        let shown = output.path.display();
        let Settings { dimension, .. } = self.settings;
        if let Some(difference) = record.made_with.difference(&self.settings) {
            bail!("{shown} was begun with {difference}: ask for the same, or {ANEW}");
        }
        match (self.source, &record.input) {
            (Source::Texts(texts), Input::Texts { items, sha256 }) => {
                let held = output.held(dimension, *items)?;
                let digest = texts.digest(*items)?;
                let same = digest.hex() == *sha256;
                ensure!(
                    same,
                    "{shown} holds vectors of {items} texts that the input does not begin with: {ANEW}"
                );
                let digest = if held.rows == *items { digest } else { texts.digest(held.rows)? };
                Ok((held, digest))
            }
            (Source::Files { modality: Modality::Image, folder, files }, Input::Pictures(begun))
            | (Source::Files { modality: Modality::Audio, folder, files }, Input::Sounds(begun)) => {
                let what = if matches!(record.input, Input::Sounds(_)) { "sounds" } else { "pictures" };
                let begun_from = begun.folder.display();
                ensure!(*folder == begun.folder, "{shown} was begun with {what} of {begun_from}: {ANEW}");
                let mut held = output.held(dimension, begun.files.as_ref().map_or(usize::MAX, Vec::len))?;
                if let Some(names) = &begun.files {
                    let same = names.iter().eq(files.iter().map(|file| &file.name));
                    ensure!(
                        same,
                        "the {what} are not those that {shown} was begun with, and its rows have no names: {ANEW}; a \
                         .jsonl takes added {what}"
                    );
                    held.names = names.iter().take(held.rows).cloned().collect();
                }
                ensure!(held.names.len() == held.rows, "{shown} has vectors without `file`: {ANEW}");
                Ok((held, TextsDigest::default()))
            }
            _ => bail!("{shown} was begun with another kind of input: {ANEW}"),
        }
    }

    /// Gives some items at a time with their vectors.
    fn walk(
        &self,
        mut items: Items<'_>,
        mut each: impl FnMut(&[Item], &[Embedding]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let most = CHUNK.min(self.app.config.max_items);
        loop {
            let mut chunk = items.by_ref().take(most).collect::<anyhow::Result<Vec<Item>>>()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let params = FeaturesParams {
                model: Some(self.settings.model.clone()),
                input: Some(payload(&mut chunk)?),
                prompt: self.settings.prompt.clone(),
                truncate: (self.source.modality() == Modality::Text).then_some(self.settings.truncate),
                ..FeaturesParams::default()
            };
            let caller = Caller { deadline: None, class: Class::Bulk, key: "" };
            let done = runtime.block_on(Features::run(&self.app.tasks, params, caller));
            let done = done.map_err(|error| at_its_item(error, &chunk))?;
            each(&chunk, &done.answer.data)?;
        }
    }
}

/// The items' contents; files are given away, being large.
fn payload(items: &mut [Item]) -> anyhow::Result<Payload> {
    if items.iter().any(|item| item.file.is_some()) {
        let files = items.iter_mut().map(|item| Media::Bytes(std::mem::take(&mut item.bytes).into()));
        return Ok(Payload::files(files.collect()));
    }
    let texts = items.iter().map(|item| String::from_utf8(item.bytes.clone()));
    Ok(Payload::texts(texts.collect::<Result<_, _>>()?))
}

/// The error with the place of its item instead of the field of a request.
fn at_its_item(error: TaskError, items: &[Item]) -> anyhow::Error {
    let (param, problem) = match &error {
        TaskError::Media { param, source } => (param, format!(": {source}")),
        TaskError::Invalid { param, problem } => (param, format!(" {problem}")),
        TaskError::UnknownModel(_)
        | TaskError::NotAClassifier(_)
        | TaskError::NotABackbone { .. }
        | TaskError::TensorsOnly(_)
        | TaskError::NoGraph(_)
        | TaskError::BrokenModel { .. }
        | TaskError::Unloaded(_)
        | TaskError::NoRoom { .. }
        | TaskError::TooManyItems { .. }
        | TaskError::ItemRate { .. }
        | TaskError::Engine(_)
        | TaskError::Bug(_) => return error.into(),
    };
    let index = param.strip_prefix("input[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
    let item = items.get(index.unwrap_or(0)).filter(|_| index.is_some() || items.len() == 1);
    item.map_or_else(|| error.into(), |item| anyhow::anyhow!("{}{problem}", item.place))
}

fn progress_bar(total: usize, done: usize) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(total as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left") {
        bar.set_style(style);
    }
    bar.set_position(done as u64);
    bar.reset_eta();
    bar
}
