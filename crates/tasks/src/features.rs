//! Features: each item's embedding, as `POST /v1/embeddings`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headstart_engine::Want;
use headstart_types::payload::{Datum, Modality, Truncate};
use headstart_types::{Manifest, Payload};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::items::{self, Reading};
use crate::task::{Done, Task, required};
use crate::usage::Usage;

/// The task.
pub struct Features;

/// Fields of a features request.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(title = "EmbeddingsRequest")]
pub struct FeaturesParams {
    /// The backbone.
    #[schema(required = true, nullable = false, example = "all-minilm-l6-v2")]
    pub model: Option<String>,
    /// What to embed.
    #[schema(required = true, nullable = false)]
    pub input: Option<Payload>,
    /// `float`, or `base64` of little-endian 32-bit floats. Default `float`.
    pub encoding_format: Option<EncodingFormat>,
    /// Keep this many leading values and normalise again; at most the model's own size.
    #[schema(minimum = 1, example = 384)]
    pub dimensions: Option<usize>,
    /// States the modality of plain strings; base64 pictures and sounds need it.
    pub modality: Option<Modality>,
    /// What happens to a text longer than the model takes. Default `end`: the first tokens stay.
    pub truncate: Option<Truncate>,
    /// A prefix by its name in the model's manifest, such as `query` or `passage`.
    #[serde(alias = "prompt_name")]
    pub prompt: Option<String>,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// A JSON list.
    #[default]
    Float,
    /// Base64 of little-endian 32-bit floats.
    Base64,
}

/// Embeddings in the order of the input.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "EmbeddingsAnswer")]
pub struct FeaturesAnswer {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// One entry an item.
    pub data: Vec<Embedding>,
    /// The backbone.
    pub model: String,
    /// Tokens used.
    pub usage: Usage,
}

/// One item's embedding.
#[derive(Debug, Serialize, ToSchema)]
pub struct Embedding {
    /// Always `embedding`.
    #[schema(example = "embedding")]
    pub object: &'static str,
    /// Position in the input.
    pub index: usize,
    /// The vector.
    pub embedding: Vector,
    /// Tokens that were cut; absent when nothing was.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub truncated_tokens: usize,
    /// Words that the model's table does not have, and that its vector says nothing of; absent when there were none.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unknown_words: usize,
}

/// A vector as a list or as base64.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Vector {
    /// A JSON list.
    #[schema(value_type = Vec<f32>)]
    Float(FloatVector),
    /// Base64 of little-endian 32-bit floats.
    Base64(String),
}

/// A shared vector; written without a copy.
#[derive(Debug)]
pub struct FloatVector(Arc<[f32]>);

impl FloatVector {
    /// The values.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }
}

impl Serialize for FloatVector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Task for Features {
    const NAME: &'static str = "embeddings";
    const SUMMARY: &'static str = "Embed texts, images or sounds";
    const DESCRIPTION: &'static str = "One vector an item, in the order of the input. Bodies follow the OpenAI API, so its official clients work \
         unchanged. Pictures and sounds come as JSON (data URL or base64), as multipart parts named `file`, or as a raw body with \
         its content type and the other fields as query parameters.";
    const EXAMPLE: &'static str =
        r#"{"model": "all-minilm-l6-v2", "input": ["The cat sits on the mat.", "A dog barks."]}"#;
    type Params = FeaturesParams;
    type Answer = FeaturesAnswer;

    fn input(params: &mut FeaturesParams) -> &mut Option<Payload> {
        &mut params.input
    }

    async fn run(
        cx: &TaskContext,
        params: FeaturesParams,
        caller: Caller,
    ) -> Result<Done<FeaturesAnswer>, TaskError> {
        let model = required(params.model, "model")?;
        let input = required(params.input, "input")?;
        let served = cx.catalog.get(&model).await?;
        let manifest = served.manifest();
        let dimensions = check_dimensions(params.dimensions, manifest)?;
        let prompt = params.prompt.as_deref().map(|name| prompt(manifest, name)).transpose()?;
        cx.check_items(input.len())?;
        let data = served.data(input, "input", params.modality)?;
        if prompt.is_some() && data.iter().any(|datum| matches!(datum, Datum::Tokens(_))) {
            return Err(TaskError::invalid("prompt", "is words, which cannot stand before token ids"));
        }
        let reading = Reading {
            field: "input",
            want: Want { features: true, logits: false },
            truncate: params.truncate.unwrap_or_default(),
            prompt,
        };
        let admitted = items::admit(cx, &served, &data, reading.field)?;
        cx.take_items(data.len(), caller)?;
        let items = items::compute(cx, &served, (data, admitted), reading, &cx.features, caller).await?;

        let usage = Usage::of(items.tokens());
        let timings = items.timings;
        let format = params.encoding_format.unwrap_or_default();
        let data = items.items.into_iter().enumerate().map(|(index, item)| Embedding {
            object: "embedding",
            index,
            embedding: write(cut(item.features, dimensions), format),
            truncated_tokens: item.truncated_tokens,
            unknown_words: item.unknown_words,
        });
        let answer = FeaturesAnswer { object: "list", data: data.collect(), model, usage };
        Ok(Done { answer, timings })
    }
}

/// The features that a backbone gives items, in their order; `backbone` may be one that a job tuned, which no client names.
///
/// # Errors
/// [`TaskError`] as for a request.
pub async fn features_given(
    cx: &TaskContext,
    backbone: &str,
    items: Payload,
    caller: Caller,
) -> Result<Vec<Arc<[f32]>>, TaskError> {
    let served = cx.catalog.of_version(backbone).await?;
    let data = served.data(items, "input", None)?;
    let want = Want { features: true, logits: false };
    let reading = Reading { field: "input", want, truncate: Truncate::default(), prompt: None };
    let admitted = items::admit(cx, &served, &data, reading.field)?;
    let items = items::compute(cx, &served, (data, admitted), reading, &cx.features, caller).await?;
    Ok(items.items.into_iter().map(|item| item.features).collect())
}

fn check_dimensions(asked: Option<usize>, manifest: &Manifest) -> Result<Option<usize>, TaskError> {
    let native = manifest.dimension();
    match asked {
        Some(dimensions) if dimensions == 0 || dimensions > native => Err(TaskError::invalid(
            "dimensions",
            format!("is {dimensions}; `{}` gives 1 to {native}", manifest.backbone.id),
        )),
        asked => Ok(asked.filter(|dimensions| *dimensions < native)),
    }
}

/// The prefix a manifest keeps under a name.
fn prompt<'a>(manifest: &'a Manifest, name: &str) -> Result<&'a str, TaskError> {
    let prompts = manifest.text.as_ref().map(|text| &text.prompts);
    prompts.and_then(|prompts| prompts.get(name)).map(String::as_str).ok_or_else(|| {
        let known: Vec<&str> =
            prompts.into_iter().flat_map(|prompts| prompts.keys()).map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        TaskError::invalid("prompt", format!("is `{name}`; `{}` has {known}", manifest.backbone.id))
    })
}

/// The leading values, at unit length again.
fn cut(vector: Arc<[f32]>, dimensions: Option<usize>) -> Arc<[f32]> {
    let Some(dimensions) = dimensions else { return vector };
    let kept = &vector[..dimensions.min(vector.len())];
    let norm = kept.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    kept.iter().map(|value| (f64::from(*value) * scale) as f32).collect()
}

fn write(vector: Arc<[f32]>, format: EncodingFormat) -> Vector {
    match format {
        EncodingFormat::Float => Vector::Float(FloatVector(vector)),
        EncodingFormat::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            Vector::Base64(STANDARD.encode(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_vector_has_unit_length_again() {
        let vector: Arc<[f32]> = vec![0.6, 0.0, 0.8].into();
        assert_eq!(cut(Arc::clone(&vector), Some(2)).as_ref(), [1.0, 0.0]);
        assert_eq!(cut(Arc::clone(&vector), None), vector);
    }

    #[test]
    fn base64_holds_the_same_bits_as_the_list() {
        let vector: Arc<[f32]> = vec![0.1, -1.5e-8, 3.0].into();
        let list: Vec<f32> = serde_json::from_str(
            &serde_json::to_string(&write(Arc::clone(&vector), EncodingFormat::Float)).unwrap(),
        )
        .unwrap();
        let Vector::Base64(text) = write(Arc::clone(&vector), EncodingFormat::Base64) else {
            panic!("not base64")
        };
        let bytes = STANDARD.decode(text).unwrap();
        let decoded: Vec<f32> =
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(list, vector.as_ref());
        assert_eq!(decoded, vector.as_ref());
    }
}
