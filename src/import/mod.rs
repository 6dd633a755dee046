//! `headstart import`: a pretrained model as its makers publish it becomes a backbone's folder. One file a kind.
//!
//! A kind recognises a source by its content, and fills a [`Draft`], a folder that nobody serves yet. What it found out
//! and what it guessed it tells; only a folder that loads comes to its place, all at once.

mod draft;
mod source;
mod words;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::config::Config;

use draft::Draft;
use source::Source;

/// Arguments of `headstart import`.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The model: a file of word vectors
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// The backbone's name: letters, digits, '-', '_' and '.'
    #[arg(long, value_name = "NAME")]
    id: String,
    /// What the source is [default: what its content says]
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The weights' licence, an SPDX expression
    #[arg(long, value_name = "SPDX", default_value = "NOASSERTION")]
    licence: String,
    /// What the weights were trained on, one sentence
    #[arg(long, value_name = "TEXT")]
    source_task: Option<String>,
    /// What only word vectors have
    #[command(flatten)]
    words: words::WordsArguments,
}

/// A kind of source.
struct Kind {
    /// What `--kind` calls it.
    name: &'static str,
    /// What it is called in a sentence.
    what: &'static str,
    /// Whether a source is of this kind, from how it begins.
    recognise: fn(&Source) -> bool,
    /// Fills the folder.
    import: fn(&Source, &ImportArguments, &mut Draft) -> anyhow::Result<()>,
}

/// Every kind; the first that recognises a source has it.
const KINDS: [Kind; 5] =
    [words::NPY, words::JSON, words::WORD2VEC_BINARY, words::WORD2VEC_TEXT, words::GLOVE];

/// Makes a backbone's folder in the first models folder.
///
/// # Errors
/// Naming what cannot be read, is not known or does not fit; nothing is left behind then.
pub fn run(config: &Config, arguments: &ImportArguments) -> anyhow::Result<()> {
    let models = config.models.first().context("`models` names no folder")?;
    let source = Source::open(&arguments.source)?;
    let kind = choose(&source, arguments.kind.as_deref())?;
    let mut draft = Draft::begin(models, &arguments.id)?;
    let given = arguments.kind.is_some();
    draft.note(format!("{} {}", if given { "read as" } else { "is" }, kind.what));
    if arguments.licence == "NOASSERTION" {
        draft.note("licence not known: state it with `--licence`");
    }
    (kind.import)(&source, arguments, &mut draft)?;
    let (place, notes) = draft.finish()?;
    let mut out = std::io::stderr();
    for note in notes {
        writeln!(out, "{}: {note}", arguments.source.display())?;
    }
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
