//! What a file says about itself: notes for programs and a text for people.

use std::fmt::Write as _;

use headstart_onnx::proto::{ValueInfo, element};
use headstart_types::classifier::untuned;
use headstart_types::hex;
use headstart_types::manifest::{FeaturesSpec, Fit, ImageSpec};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::compose::Subject;
use crate::error::ExportError;

/// The version of the notes' keys and meanings.
const FORMAT: u32 = 1;

/// Names of a file's outputs.
#[derive(Debug, Serialize)]
pub(crate) struct Outputs {
    /// `[items, classes]`.
    pub(crate) probabilities: String,
    /// `[items, classes]`.
    pub(crate) logits: String,
    /// `[items, dimension]`.
    pub(crate) embedding: String,
}

type Notes = Vec<(String, String)>;

/// The text and the notes. Lists and objects are JSON; a key that does not apply is left out.
pub(crate) fn describe(
    subject: &Subject<'_>,
    features: &FeaturesSpec,
    inputs: &[&ValueInfo],
    outputs: &Outputs,
) -> Result<(String, Notes), ExportError> {
    let (head, backbone) = (subject.head.parts(), &subject.manifest.backbone);
    let names: Vec<&str> = inputs.iter().filter_map(|input| input.name.as_deref()).collect();
    let mut notes = vec![
        ("format", FORMAT.to_string()),
        ("classifier", format!("{}@{}", subject.name, subject.version)),
        ("method", head.method.clone()),
        ("hyperparameters", serde_json::to_string(&head.hyperparameters)?),
        ("classes", serde_json::to_string(&*head.classes)?),
        ("multi_label", head.multi_label.to_string()),
        ("temperature", head.temperature.to_string()),
        ("backbone", untuned(&backbone.id).to_owned()),
        // Of one that a job tuned, what it was tuned from.
        ("backbone_sha256", head.backbone.sha256.to_lowercase()),
        ("backbone_tuned", (untuned(&backbone.id) != backbone.id).to_string()),
        ("backbone_licence", backbone.licence.clone()),
        ("backbone_source_task", backbone.source_task.clone()),
        ("modality", backbone.modality.as_str().to_owned()),
        ("pooling", plain(&features.pooling)?),
        ("normalise", features.normalise.to_string()),
        ("dimension", features.dimension.to_string()),
        ("inputs", serde_json::to_string(&names)?),
        ("outputs", serde_json::to_string(outputs)?),
    ];
    if let Some(thresholds) = &head.thresholds {
        notes.push(("thresholds", serde_json::to_string(thresholds)?));
    }
    let mut long = Vec::new();
    let reading = if let Some(text) = &subject.manifest.text {
        let bytes = subject.tokenizer.ok_or(ExportError::Tokenizer)?;
        let tokenizer = std::str::from_utf8(bytes).map_err(|_| ExportError::Tokenizer)?;
        notes.push(("text_max_tokens", text.max_tokens.to_string()));
        notes.push(("text_tokenizer_sha256", hex(&Sha256::digest(bytes))));
        long.push(("text_tokenizer", tokenizer.to_owned()));
        read_texts(inputs, text.max_tokens)
    } else if let Some(image) = &subject.manifest.image {
        notes.push(("image", serde_json::to_string(image)?));
        read_images(inputs, image)?
    } else {
        String::new()
    };
    let text = text(subject, outputs, &reading, &notes);
    let notes = notes.into_iter().chain(long);
    Ok((text, notes.map(|(key, value)| (format!("headstart.{key}"), value)).collect()))
}

/// A unit variant's name.
fn plain(value: &impl Serialize) -> Result<String, ExportError> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_owned())
}

fn text(subject: &Subject<'_>, outputs: &Outputs, reading: &str, notes: &[(&str, String)]) -> String {
    let head = subject.head.parts();
    let squashed = if head.multi_label { "sigmoid of each" } else { "softmax" };
    let mut text = format!(
        "Classifier `{}`, version {}, on the backbone `{}`.\n\n{reading}\n\n\
         Output `{}`: [items, classes], calibrated; the {squashed} of `{}`. Columns are in the order of \
         `headstart.classes`.",
        subject.name,
        subject.version,
        untuned(&subject.manifest.backbone.id),
        outputs.probabilities,
        outputs.logits,
    );
    if head.thresholds.is_some() {
        text.push_str(" A class applies where its probability reaches its entry of `headstart.thresholds`.");
    }
    let _ =
        writeln!(text, " `{}`: [items, {}], the backbone's vector.", outputs.embedding, subject.head.dim());
    for (key, value) in notes {
        let _ = write!(text, "\nheadstart.{key}: {value}");
    }
    text
}

/// The type of an input as numpy names it.
fn type_of(input: Option<&&ValueInfo>) -> &'static str {
    match input.and_then(|input| input.elements()) {
        Some(element::FLOAT) => "float32",
        Some(element::HALF) => "float16",
        Some(element::BFLOAT16) => "bfloat16",
        Some(element::DOUBLE) => "float64",
        Some(element::INT64) => "int64",
        Some(element::INT32) => "int32",
        Some(element::INT8) => "int8",
        Some(element::UINT8) => "uint8",
        Some(_) | None => "the type that the graph states",
    }
}

fn read_texts(inputs: &[&ValueInfo], max_tokens: usize) -> String {
    let named = |name: &str| inputs.iter().find(|input| input.name.as_deref() == Some(name));
    let mut text = format!(
        "Reads texts as token ids, `input_ids` [items, tokens] of {}, made by the tokeniser whose `tokenizer.json` is \
         the note `headstart.text_tokenizer`: special tokens added, cut at {max_tokens} tokens, shorter rows filled up \
         at the end with 0. `attention_mask`, of {}, is 1 for real tokens and 0 for filling.",
        type_of(named("input_ids").or(inputs.first())),
        type_of(named("attention_mask")),
    );
    for (name, says) in [("token_type_ids", "is 0"), ("position_ids", "counts from 0 in each row")] {
        if let Some(input) = named(name) {
            let _ = write!(text, " `{name}`, of {}, {says}.", type_of(Some(input)));
        }
    }
    text
}

fn read_images(inputs: &[&ValueInfo], image: &ImageSpec) -> Result<String, ExportError> {
    let layout =
        if plain(&image.layout)? == "nchw" { "[items, 3, {s}, {s}]" } else { "[items, {s}, {s}, 3]" };
    let (size, filter) = (image.size, plain(&image.filter)?);
    let by = format!("by the antialiased {filter} filter as Pillow computes it");
    let fitted = match image.fit {
        Fit::Crop => format!(
            "its shorter side resized to {} pixels and the other in proportion, rounded down, {by}; the centre {size} × \
             {size} pixels of that",
            image.resize
        ),
        Fit::Stretch => format!("resized to {size} × {size} pixels, whatever its shape, {by}"),
    };
    Ok(format!(
        "Reads pictures as {} {}: the upright picture (EXIF orientation applied) in RGB, {fitted}; then (pixel × {} \
         − mean) / std with pixels from 0 to 255, mean {:?} and std {:?} by channel, channels in the order {}.",
        type_of(inputs.first()),
        layout.replace("{s}", &size.to_string()),
        image.scale,
        image.mean,
        image.std,
        plain(&image.channel_order)?,
    ))
}

#[cfg(test)]
mod tests {
    use headstart_onnx::proto::Dimension;

    use super::*;

    #[test]
    fn texts_are_said_to_be_of_the_types_that_the_graph_states() {
        let input = |name, element| {
            ValueInfo::tensor(name, element, vec![Dimension::named("n"), Dimension::named("l")])
        };
        let mask = input("attention_mask", element::INT64);
        let (ids, kinds) = (input("input_ids", element::INT32), input("token_type_ids", element::INT32));
        let said = read_texts(&[&mask, &ids, &kinds], 7);
        assert!(said.contains("`input_ids` [items, tokens] of int32") && said.contains("cut at 7"), "{said}");
        assert!(said.contains("`attention_mask`, of int64, is 1"), "{said}");
        assert!(said.ends_with("`token_type_ids`, of int32, is 0."), "{said}");
    }
}
