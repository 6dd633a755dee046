//! `headstart embed`: a file of texts or a folder of images in, vectors out, with a progress bar; resumes.

use std::fs::{File, OpenOptions};
use std::io::{
    BufRead as _, BufReader, BufWriter, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use headstart_engine::Class;
use headstart_tasks::features::{Features, FeaturesParams, Vector};
use headstart_tasks::{Caller, Task as _, TaskContext};
use headstart_types::payload::Modality;
use headstart_types::{Media, Payload};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;

use crate::app::App;
use crate::config::Config;

/// Items computed between two writes: what a killed run can lose.
const CHUNK: usize = 64;

/// File endings taken for pictures.
const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// Arguments of `headstart embed`.
#[derive(Debug, Args)]
pub struct EmbedArguments {
    /// Texts, one a line; JSON lines with a field `text`; or a folder of images
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// The backbone [default: the first in order of name that reads the input]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Where vectors go: .jsonl or .npy [default: FILE with .jsonl added]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A prefix by its name in the model's manifest
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
}

/// What is embedded.
enum Source {
    Lines { path: PathBuf, json: bool },
    Folder(Vec<PathBuf>),
}

#[derive(Deserialize)]
struct TextLine {
    text: String,
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
    let app = App::at_terminal(config)?;
    let engine = app.start_engine()?;
    app.load_backbones(&engine)?;
    let modality = source.modality();
    let model = match &arguments.model {
        Some(model) => model.clone(),
        None => first_model(&app.tasks, modality)?,
    };
    let served = app.tasks.catalog.get(&model)?;
    ensure!(
        served.modality() == modality,
        "`{model}` reads {}, the input is {}",
        served.modality().as_str(),
        modality.as_str()
    );
    let dimension = served.backbone.manifest().output.features.dimension;
    drop(served);

    let mut sink = Sink::open(&output, dimension)?;
    let total = source.count()?;
    ensure!(
        sink.done <= total,
        "{} holds {} vectors, the input has {total} items",
        output.display(),
        sink.done
    );
    let bar = progress_bar(total, sink.done);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    source.chunks(sink.done, |first, payload| {
        let params = FeaturesParams {
            model: Some(model.clone()),
            input: Some(payload),
            prompt: arguments.prompt.clone(),
            ..FeaturesParams::default()
        };
        let caller = Caller { deadline: None, class: Class::Bulk, key: "" };
        let done = runtime
            .block_on(Features::run(&app.tasks, params, caller))
            .with_context(|| format!("items from number {} on", first + 1))?;
        for embedding in &done.answer.data {
            sink.write(first + embedding.index, &embedding.embedding)?;
        }
        sink.flush()?;
        bar.inc(done.answer.data.len() as u64);
        Ok(())
    })?;
    sink.finish()?;
    bar.finish();
    app.tasks.catalog.clear();
    writeln!(std::io::stderr(), "{total} vectors of {dimension} values by {model} in {}", output.display())?;
    Ok(())
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

fn first_model(tasks: &TaskContext, modality: Modality) -> anyhow::Result<String> {
    let models = tasks.catalog.list();
    let found = models
        .into_iter()
        .map(|(id, _)| id)
        .find(|id| tasks.catalog.get(id).is_ok_and(|served| served.modality() == modality));
    found.with_context(|| format!("no backbone reads {}", modality.as_str()))
}

impl Source {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let metadata =
            std::fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
        if !metadata.is_dir() {
            let json = path.extension().is_some_and(|ending| ending == "jsonl" || ending == "ndjson");
            return Ok(Self::Lines { path: path.to_path_buf(), json });
        }
        let mut pictures = Vec::new();
        collect_pictures(path, &mut pictures)?;
        pictures.sort();
        ensure!(!pictures.is_empty(), "{} holds no pictures ({})", path.display(), PICTURES.join(", "));
        Ok(Self::Folder(pictures))
    }

    fn modality(&self) -> Modality {
        match self {
            Self::Lines { .. } => Modality::Text,
            Self::Folder(_) => Modality::Image,
        }
    }

    fn count(&self) -> anyhow::Result<usize> {
        match self {
            Self::Lines { path, .. } => Ok(BufReader::new(File::open(path)?).lines().count()),
            Self::Folder(pictures) => Ok(pictures.len()),
        }
    }

    /// Calls `each` with the number of the first item and up to [`CHUNK`] items, after `skip` items.
    fn chunks(
        &self,
        skip: usize,
        mut each: impl FnMut(usize, Payload) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Folder(pictures) => {
                let rest = pictures.get(skip..).unwrap_or_default();
                for (index, chunk) in rest.chunks(CHUNK).enumerate() {
                    let read = |path: &PathBuf| {
                        let bytes = std::fs::read(path)
                            .with_context(|| format!("{} cannot be read", path.display()))?;
                        anyhow::Ok(Media::Bytes(bytes.into()))
                    };
                    let media = chunk.iter().map(read).collect::<anyhow::Result<_>>()?;
                    each(skip + index * CHUNK, Payload::images(media))?;
                }
                Ok(())
            }
            Self::Lines { path, json } => {
                let mut texts = Vec::with_capacity(CHUNK);
                let mut first = skip;
                for (number, line) in BufReader::new(File::open(path)?).lines().enumerate().skip(skip) {
                    texts.push(read_line(&line?, *json, number + 1)?);
                    if texts.len() == CHUNK {
                        each(first, Payload::texts(std::mem::take(&mut texts)))?;
                        first = number + 1;
                    }
                }
                if texts.is_empty() { Ok(()) } else { each(first, Payload::texts(texts)) }
            }
        }
    }
}

fn read_line(line: &str, json: bool, number: usize) -> anyhow::Result<String> {
    let text = if json {
        serde_json::from_str::<TextLine>(line).with_context(|| format!("line {number}"))?.text
    } else {
        line.to_owned()
    };
    ensure!(!text.is_empty(), "line {number} has no text");
    Ok(text)
}

fn collect_pictures(folder: &Path, pictures: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let ending =
            path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        if path.is_dir() {
            collect_pictures(&path, pictures)?;
        } else if PICTURES.contains(&ending.as_str()) {
            pictures.push(path);
        }
    }
    Ok(())
}

/// Where vectors go. Complete vectors already there are kept; a half-written one is cut off.
struct Sink {
    file: BufWriter<File>,
    npy: Option<usize>,
    done: usize,
}

/// A fixed header size leaves room for any count: it is written again at the end.
const NPY_HEADER: usize = 128;

impl Sink {
    fn open(path: &Path, dimension: usize) -> anyhow::Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let npy = match ending {
            Some("npy") => true,
            Some("jsonl" | "ndjson") => false,
            _ => bail!("{}: the output is .jsonl or .npy", path.display()),
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let (done, keep) = if npy { whole_rows(&file, dimension)? } else { whole_lines(&mut file)? };
        file.set_len(keep)?;
        file.seek(SeekFrom::End(0))?;
        let mut sink = Self { file: BufWriter::new(file), npy: npy.then_some(dimension), done };
        if npy && keep == 0 {
            sink.write_header()?;
        }
        Ok(sink)
    }

    fn write(&mut self, index: usize, vector: &Vector) -> anyhow::Result<()> {
        let Vector::Float(values) = vector else { bail!("vectors came as base64") };
        if self.npy.is_some() {
            for value in values.as_slice() {
                self.file.write_all(&value.to_le_bytes())?;
            }
        } else {
            let line = serde_json::json!({ "index": index, "embedding": values });
            serde_json::to_writer(&mut self.file, &line)?;
            self.file.write_all(b"\n")?;
        }
        self.done += 1;
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.file.flush()?)
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        if self.npy.is_some() {
            self.file.seek(SeekFrom::Start(0))?;
            self.write_header()?;
        }
        self.flush()
    }

    /// NumPy's format, version 1.0: magic, version, header length, a dictionary padded with spaces.
    fn write_header(&mut self) -> anyhow::Result<()> {
        let dimension = self.npy.unwrap_or_default();
        let text =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {dimension}), }}", self.done);
        let length = NPY_HEADER - 10;
        self.file.write_all(b"\x93NUMPY\x01\x00")?;
        self.file.write_all(&(length as u16).to_le_bytes())?;
        self.file.write_all(format!("{text:<width$}\n", width = length - 1).as_bytes())?;
        Ok(())
    }
}

/// Complete vectors in a `.npy` file and the bytes to keep.
fn whole_rows(file: &File, dimension: usize) -> anyhow::Result<(usize, u64)> {
    let length = file.metadata()?.len();
    let row = 4 * dimension as u64;
    if length < NPY_HEADER as u64 {
        return Ok((0, 0));
    }
    let rows = (length - NPY_HEADER as u64) / row;
    Ok((rows as usize, NPY_HEADER as u64 + rows * row))
}

/// Complete lines in a `.jsonl` file and the bytes to keep.
fn whole_lines(file: &mut File) -> anyhow::Result<(usize, u64)> {
    let (mut lines, mut keep, mut position) = (0, 0, 0u64);
    let mut reader = BufReader::new(file);
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut chunk)?;
        if read == 0 {
            return Ok((lines, keep));
        }
        for (offset, _) in chunk[..read].iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            lines += 1;
            keep = position + offset as u64 + 1;
        }
        position += read as u64;
    }
}
