//! Word vectors in the forms they are published in, to a table.

mod binary;
mod guess;
mod json;
mod npy;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use headstart_types::manifest::{
    BackboneSpec, CalibrationSpec, EngineSpec, FeaturesSpec, LabelSpec, OutputSpec, Pooling, SifSpec,
    SimilaritySpec, WordsSpec, ZeroShotSpec,
};
use headstart_types::{Manifest, Modality, Truncate};
use headstart_vectors::{Added, Builder, INDEX, Index, Precision, Table, VECTORS, sif};

use super::draft::Draft;
use super::source::Source;
use super::{ImportArguments, PrecisionName};
use guess::Traits;

pub(super) use binary::WORD2VEC_BINARY;
pub(super) use json::JSON;
pub(super) use npy::NPY;
pub(super) use text::{GLOVE, WORD2VEC_TEXT};

/// Words at the start that are looked up again by the rule that was guessed.
const LOOKED_UP: usize = 1000;

/// What only word vectors have.
#[derive(Debug, Args)]
pub(super) struct WordsArguments {
    /// The words of a .npy file, one a line [default: the file's name with .txt]
    #[arg(long, value_name = "FILE")]
    words: Option<PathBuf>,
    /// Keep the first N words
    #[arg(long, value_name = "N")]
    first: Option<usize>,
    /// How the vectors of a text's words become one
    #[arg(long, value_name = "WEIGHTING", default_value = "mean")]
    weighting: Weighting,
    /// With sif: the constant a; a word of probability p weighs a / (a + p)
    #[arg(long, value_name = "A", default_value_t = 1e-3)]
    smoothing: f64,
    /// With sif: how often words were seen, a word and a number a line [default: by rank in the source, as Zipf's law has it]
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
    /// With sif: texts, one a line, whose common direction is taken off [default: what the words' probabilities alone give]
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Weighting {
    Mean,
    Sif,
}

/// What takes words as a source gives them; `false` once it wants no more.
type Take<'a> = &'a mut dyn FnMut(&str, &[f32]) -> anyhow::Result<bool>;

/// Imports word vectors that `read` takes from the source, as many values each as the first has.
fn import(
    source: &Source,
    arguments: &ImportArguments,
    draft: &mut Draft<'_>,
    trained: &str,
    read: impl FnOnce(Take<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let options = &arguments.words;
    let sif_alone = options.counts.is_some() || options.texts.is_some();
    ensure!(
        options.weighting == Weighting::Sif || !sif_alone,
        "`--counts` and `--texts` belong to `--weighting sif`"
    );
    arguments.graph.refuse("word vectors")?;
    if arguments.licence.is_none() {
        draft.note("licence not known: state it with `--licence`");
    }
    let mut making = Making::new(draft, arguments);
    read(&mut |word, vector| making.take(word, vector))
        .with_context(|| source.path().display().to_string())?;
    let Making { builder, traits, repeated, .. } = making;
    let index = builder.context("the source has no words")?.finish()?;
    draft.note(format!("{} words of {} values", index.rows(), index.dimension()));
    if repeated > 0 {
        draft.note(format!("{repeated} words were there before; their first vectors stay"));
    }
    let mut spec = traits.spec(VECTORS, |note| draft.note(format!("guessed: {note}")));
    let index = match options.weighting {
        Weighting::Mean => index,
        Weighting::Sif => weigh(index, &mut spec, options, draft)?,
    };
    let (bytes, sha256) = index.to_bytes();
    draft.write(INDEX, &bytes)?;
    let manifest = manifest(draft.id(), sha256, spec, index.dimension(), arguments, trained);
    let manifest = draft.facts().apply(&manifest)?;
    draft.write_manifest(&manifest)?;
    look_up(&manifest, &traits.first, draft)
}

/// A table in the making.
struct Making<'a> {
    draft: &'a Draft<'a>,
    precision: Precision,
    most: usize,
    builder: Option<Builder>,
    traits: Traits,
    repeated: usize,
}

impl<'a> Making<'a> {
    fn new(draft: &'a Draft<'a>, arguments: &ImportArguments) -> Self {
        let precision = match arguments.precision {
            Some(PrecisionName::F16) => Precision::F16,
            Some(PrecisionName::F32) | None => Precision::F32,
        };
        let most = arguments.words.first.unwrap_or(usize::MAX);
        Self { draft, precision, most, builder: None, traits: Traits::default(), repeated: 0 }
    }

    fn take(&mut self, word: &str, vector: &[f32]) -> anyhow::Result<bool> {
        let builder = match &mut self.builder {
            Some(builder) => builder,
            none => {
                let path = self.draft.folder().join(VECTORS);
                none.insert(Builder::create(&path, vector.len(), self.precision)?)
            }
        };
        match builder.push(word, vector)? {
            Added::Row(_) => self.traits.see(word, LOOKED_UP),
            Added::Repeated => self.repeated += 1,
        }
        Ok(builder.rows() < self.most)
    }
}

/// Gives the index what SIF needs.
fn weigh(
    index: Index,
    spec: &mut WordsSpec,
    options: &WordsArguments,
    draft: &mut Draft<'_>,
) -> anyhow::Result<Index> {
    let probabilities = match &options.counts {
        Some(path) => {
            let counts = counts(path, &index).with_context(|| path.display().to_string())?;
            let listed = counts.iter().filter(|count| **count > 0).count();
            draft.note(format!("{listed} words have counts in {}", path.display()));
            sif::from_counts(&counts)
        }
        None => {
            draft.note(
                "guessed: words are in order of how often they occur (Zipf's law); else give `--counts`",
            );
            sif::zipf(index.rows())
        }
    };
    spec.sif = Some(SifSpec { smoothing: options.smoothing });
    let index = index.with_sif(probabilities.clone(), Vec::new())?;
    let table = Table::of(index, &draft.folder().join(VECTORS), spec.clone(), false)?;
    let component = match &options.texts {
        Some(path) => {
            let texts = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            draft.note(format!("common component of {} texts", texts.lines().count()));
            sif::component_of(&table, texts.lines())?
        }
        None => {
            draft
                .note("common component of texts as the words' probabilities give them; else give `--texts`");
            sif::expected_component(&table, options.smoothing)?
        }
    };
    Ok(table.into_index().with_sif(probabilities, component.unwrap_or_default())?)
}

/// How often each row's word was seen, from lines of a word and a number.
fn counts(path: &std::path::Path, index: &Index) -> anyhow::Result<Vec<u64>> {
    let text = std::fs::read_to_string(path)?;
    let mut of: HashMap<u32, u64> = HashMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parts = line.trim_end().rsplit_once([' ', '\t']);
        let parts = parts.and_then(|(word, count)| Some((word.trim_end(), count.parse::<u64>().ok()?)));
        let (word, count) = parts.with_context(|| format!("line {}: a word and a number", number + 1))?;
        if let Some(row) = index.row(word) {
            *of.entry(row).or_default() += count;
        }
    }
    ensure!(of.values().any(|count| *count > 0), "none of its words is in the table");
    Ok((0..index.rows() as u32).map(|row| of.get(&row).copied().unwrap_or(0)).collect())
}

fn manifest(
    id: &str,
    sha256: String,
    words: WordsSpec,
    dimension: usize,
    arguments: &ImportArguments,
    trained: &str,
) -> Manifest {
    let weighted = words.sif.is_some();
    Manifest {
        version: headstart_types::manifest::VERSION,
        backbone: BackboneSpec {
            id: id.to_owned(),
            modality: Modality::Text,
            file: INDEX.to_owned(),
            sha256,
            external: BTreeMap::new(),
            licence: arguments.licence().to_owned(),
            source_task: arguments.source_task.clone().unwrap_or_else(|| trained.to_owned()),
            original: None,
            requantise: false,
        },
        text: None,
        words: Some(words),
        text_tower: None,
        image: None,
        audio: None,
        output: OutputSpec {
            features: Some(FeaturesSpec {
                tensor: String::new(),
                pooling: Pooling::Mean,
                normalise: true,
                dimension,
            }),
            logits: None,
        },
        zero_shot: Some(ZeroShotSpec::Similarity(zero_shot(weighted))),
        engine: EngineSpec::default(),
    }
}

/// Words around a label would outweigh it in a mean, so that there are none. The curves are those of GloVe of 50 values
/// on train splits of TREC-6, SST-2 and Banking77 (`make bench BENCH="words calibration"`).
fn zero_shot(weighted: bool) -> SimilaritySpec {
    let calibration = if weighted {
        CalibrationSpec { temperature: 0.23, slope: 1.85, intercept: -0.40 }
    } else {
        CalibrationSpec { temperature: 0.29, slope: 2.03, intercept: -1.31 }
    };
    SimilaritySpec {
        labels: LabelSpec { templates: vec!["{}".to_owned()], description_weight: 0.5, example_prior: 5.0 },
        calibration,
    }
}

/// Opens the table as a server would, and looks up the first words by the rule that was guessed.
fn look_up(manifest: &Manifest, first: &[String], draft: &mut Draft<'_>) -> anyhow::Result<()> {
    let table = Table::open(draft.folder(), manifest)?;
    let found = |(row, word): (usize, &String)| {
        table.read(word, Truncate::End).is_ok_and(|words| words.rows == [row as u32])
    };
    let alone = first.iter().enumerate().filter(|each| found(*each)).count();
    let example = first.first().map_or("", String::as_str);
    let words = table.read(example, Truncate::End)?;
    let vector = table.embed(&words.rows)?;
    ensure!(vector.iter().all(|value| value.is_finite()), "`{example}` has a vector that is not finite");
    draft.note(format!("{alone} of the first {} words are found by this rule as themselves", first.len()));
    Ok(())
}
