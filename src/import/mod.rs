//! `headstart import`: a pretrained model as its makers publish it becomes a backbone's folder. One file a kind.
//!
//! A kind recognises a source by its content, and fills a `Draft`, a folder that nobody serves yet. What it found out
//! and what it guessed it tells; only a folder that loads comes to its place, all at once.

mod draft;
mod facts;
mod folder;
mod graph;
mod reasons;
mod scale;
mod source;
mod towers;
mod trial;
mod words;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};

use crate::config::Config;

use draft::Draft;
use facts::Facts;
use source::Source;

/// Arguments of `headstart import`.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The model: a folder of Hugging Face's, an ONNX file, or a file of word vectors
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// The backbone's name: letters, digits, '-', '_' and '.'
    #[arg(long, value_name = "NAME")]
    id: String,
    /// What the source is [default: what its content says]
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The weights' licence, an SPDX expression [default: what a folder's card says, else NOASSERTION]
    #[arg(long, value_name = "SPDX")]
    licence: Option<String>,
    /// What the weights were trained on, one sentence
    #[arg(long, value_name = "TEXT")]
    source_task: Option<String>,
    /// How word vectors and converted matrices are kept [default: f32]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<PrecisionName>,
    /// A field of the manifest and its value instead of what is guessed, such as image.size=224; may be repeated
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// What only graphs have
    #[command(flatten)]
    graph: graph::GraphArguments,
    /// What only word vectors have
    #[command(flatten)]
    words: words::WordsArguments,
}

/// How values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PrecisionName {
    /// In 32 bits
    #[value(alias = "fp32")]
    F32,
    /// In 16 bits
    #[value(alias = "fp16")]
    F16,
}

impl ImportArguments {
    /// What is written where the licence is not known.
    const NO_LICENCE: &str = "NOASSERTION";

    fn licence(&self) -> &str {
        self.licence.as_deref().unwrap_or(Self::NO_LICENCE)
    }

    fn refuse_precision(&self, reason: &str) -> anyhow::Result<()> {
        ensure!(
            self.precision.is_none(),
            "`--precision` belongs to word vectors and weights as safetensors: {reason}"
        );
        Ok(())
    }
}

/// A kind of source.
struct Kind {
    /// What `--kind` calls it.
    name: &'static str,
    /// What it is called in a sentence.
    what: &'static str,
    /// Whether a source is of this kind, from how it begins or what lies in it.
    recognise: fn(&Source) -> bool,
    /// Fills the folder.
    import: fn(&Source, &ImportArguments, &mut Draft<'_>) -> anyhow::Result<()>,
}

/// Every kind; the first that recognises a source has it.
const KINDS: [Kind; 8] = [
    folder::HUGGING_FACE,
    folder::SAFETENSORS,
    graph::ONNX,
    words::NPY,
    words::JSON,
    words::WORD2VEC_BINARY,
    words::WORD2VEC_TEXT,
    words::GLOVE,
];

/// Makes a backbone's folder in the first models folder.
///
/// # Errors
/// Naming what cannot be read, is not known or does not fit; nothing is left behind then.
pub fn run(config: &Config, arguments: &ImportArguments) -> anyhow::Result<()> {
    let source = Source::open(&arguments.source)?;
    let kind = choose(&source, arguments.kind.as_deref())?;
    let mut draft = Draft::begin(config, &arguments.id, Facts::given(&arguments.set)?)?;
    let given = arguments.kind.is_some();
    draft.note(format!("{} {}", if given { "read as" } else { "is" }, kind.what));
    let filled = (kind.import)(&source, arguments, &mut draft);
    let mut out = std::io::stderr();
    writeln!(out, "{}", arguments.source.display())?;
    for note in draft.notes() {
        writeln!(out, "  {note}")?;
    }
    filled?;
    let place = draft.finish()?;
    writeln!(out, "`{}` is in {}", arguments.id, place.display())?;
    Ok(())
}

fn choose(source: &Source, asked: Option<&str>) -> anyhow::Result<Kind> {
    let names = || KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    if let Some(asked) = asked {
        let known = KINDS.into_iter().find(|kind| kind.name == asked);
        return known.with_context(|| format!("`--kind` is `{asked}`; there are {}", names()));
    }
    ensure!(!source.is_compressed(), "{} is compressed: unpack it first", source.path().display());
    let Some(kind) = KINDS.into_iter().find(|kind| (kind.recognise)(source)) else {
        bail!("{} is of no kind that is known; there are {}", source.path().display(), names());
    };
    Ok(kind)
}
