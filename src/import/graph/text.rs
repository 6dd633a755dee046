//! Texts: the longest from the graph or the tokenizer, the vector from an output's form.

use std::path::Path;

use anyhow::{Context as _, ensure};
use headstart_types::Manifest;
use headstart_types::manifest::{FeaturesSpec, LogitsSpec, OutputSpec, Pooling, TextSpec};
use headstart_types::tensor::DataType;
use serde::Deserialize;

use super::super::facts::Facts;
use super::super::trial::filled;
use super::anatomy::{Anatomy, Given};
use super::outputs::{Of, decide};
use super::{Output, Probe, TOKENIZER};

/// Length where nothing states one.
const USUAL: usize = 512;

/// Tokens of the run that shows the outputs' forms.
const TRIED: usize = 8;

/// Families whose vector is that of the first token.
const BY_FIRST: [&str; 4] = ["bge", "arctic-embed", "snowflake", "mxbai"];

/// What a tokenizer says of lengths.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tokenizer {
    truncation: Option<Truncation>,
}

#[derive(Debug, Deserialize)]
struct Truncation {
    max_length: usize,
}

pub(super) fn fill(
    manifest: &mut Manifest,
    anatomy: &Anatomy,
    tokenizer: &Path,
    probe: &Probe<'_>,
    facts: &mut Facts,
) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(tokenizer).with_context(|| tokenizer.display().to_string())?;
    let tokenizer: Tokenizer =
        serde_json::from_str(&text).with_context(|| format!("{}: no tokenizer.json", tokenizer.display()))?;
    let mut spec = lengths(anatomy, &tokenizer, facts)?;
    let inputs = anatomy.inputs.iter().map(ones).collect::<anyhow::Result<_>>()?;
    let outputs = probe.run(inputs).context("the graph takes no token ids")?;
    if let [Output { name, dims, .. }] = outputs.as_slice()
        && matches!(dims.as_slice(), [_, 1])
    {
        spec.pairs = facts.decide("text.pairs", true, "its one output is one number a text")?;
        if spec.pairs {
            manifest.output = relevance(name);
            manifest.text = Some(spec);
            return Ok(());
        }
    }
    if anatomy.is_called("e5") && !anatomy.is_called("e5-mistral") {
        for (name, prompt) in [("query", "query: "), ("passage", "passage: ")] {
            let because = "E5 was trained with it";
            let prompt = facts.decide(&format!("text.prompts.{name}"), prompt.to_owned(), because)?;
            spec.prompts.insert(name.to_owned(), prompt);
        }
    }
    let first = BY_FIRST.iter().any(|family| anatomy.is_called(family));
    manifest.output = decide(&outputs, Of::Tokens { first }, None, facts)?;
    manifest.text = Some(spec);
    Ok(())
}

fn lengths(anatomy: &Anatomy, tokenizer: &Tokenizer, facts: &mut Facts) -> anyhow::Result<TextSpec> {
    let ids = anatomy.inputs.iter().find(|input| input.name == "input_ids");
    let ids = ids.context("`backbone.modality` is text, and the graph has no input `input_ids`")?;
    let (max_tokens, because) = match (ids.dims.get(1).copied().flatten(), &tokenizer.truncation) {
        (Some(fixed), _) => (fixed, "the graph takes texts of this length"),
        (None, Some(truncation)) => (truncation.max_length, "the tokenizer cuts there"),
        (None, None) => (USUAL, "neither graph nor tokenizer states a length, and most models have this one"),
    };
    let max_tokens = facts.decide("text.max_tokens", max_tokens, because)?;
    Ok(TextSpec { tokenizer: TOKENIZER.to_owned(), max_tokens, ..TextSpec::default() })
}

/// A tensor of ones: a token that every vocabulary has, and a mask that hides nothing.
fn ones(input: &Given) -> anyhow::Result<headstart_tasks::tensors::TensorForm> {
    let size = |place: usize, free: usize| input.dims.get(place).copied().flatten().unwrap_or(free);
    ensure!(input.dims.len() == 2, "the input `{}` has {} dimensions, not 2", input.name, input.dims.len());
    let shape = vec![size(0, 1), size(1, TRIED)];
    let count: usize = shape.iter().product();
    let kind = input.datatype.filter(|kind| matches!(kind, DataType::Int32 | DataType::Int64));
    let kind = kind.with_context(|| format!("the input `{}` takes no integers", input.name))?;
    // Segments are 0 of a text by itself.
    let value = u8::from(input.name != "token_type_ids");
    let mut one = vec![value];
    one.resize(kind.size().unwrap_or(1), 0);
    Ok(filled(&input.name, kind, shape, one.repeat(count)))
}

/// What a reranker gives.
fn relevance(tensor: &str) -> OutputSpec {
    let features =
        FeaturesSpec { tensor: tensor.to_owned(), pooling: Pooling::None, normalise: false, dimension: 1 };
    let classes = vec!["relevance".to_owned()];
    let logits = LogitsSpec { tensor: tensor.to_owned(), labels: None, classes };
    OutputSpec { features: Some(features), logits: Some(logits) }
}

#[cfg(test)]
mod tests {
    use super::super::anatomy::tests::with;
    use super::*;

    #[test]
    fn the_longest_text_is_the_graphs_else_the_tokenizers() {
        let of = |dims: &[Option<usize>], max_length: Option<usize>| {
            let truncation = max_length.map(|max_length| Truncation { max_length });
            let anatomy = with("input_ids", DataType::Int64, dims);
            lengths(&anatomy, &Tokenizer { truncation }, &mut Facts::default()).unwrap().max_tokens
        };
        assert_eq!(of(&[None, Some(64)], Some(128)), 64);
        assert_eq!(of(&[None, None], Some(128)), 128);
        assert_eq!(of(&[None, None], None), 512);
        let other = with("ids", DataType::Int64, &[None, None]);
        assert!(lengths(&other, &Tokenizer::default(), &mut Facts::default()).is_err());
    }
}
