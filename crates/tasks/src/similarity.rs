//! Similarity: the cosine of one item to each of many, as `POST /v1/similarity`.

use headstart_engine::Want;
use headstart_types::Payload;
use headstart_types::payload::{Modality, Truncate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::features::is_zero;
use crate::items::{self, Reading};
use crate::task::{Done, Task, required};
use crate::usage::Usage;

/// The task.
pub struct Similarity;

/// Fields of a similarity request.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(title = "SimilarityRequest")]
pub struct SimilarityParams {
    /// The backbone.
    #[schema(required = true, nullable = false, example = "all-minilm-l6-v2")]
    pub model: Option<String>,
    /// The one item that the candidates are compared with.
    #[schema(required = true, nullable = false)]
    pub input: Option<Payload>,
    /// The items to compare with it.
    #[schema(required = true, nullable = false)]
    pub candidates: Option<Payload>,
    /// States the modality of plain strings; base64 pictures and sounds need it.
    pub modality: Option<Modality>,
    /// What happens to a text longer than the model takes. Default `end`: the first tokens stay.
    pub truncate: Option<Truncate>,
}

/// Scores in the order of the candidates.
#[derive(Debug, Serialize, ToSchema)]
pub struct SimilarityAnswer {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// One entry a candidate.
    pub data: Vec<Score>,
    /// Tokens that were cut off the input; absent when nothing was.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub truncated_tokens: usize,
    /// Words of the input that the model's table does not have; absent when there were none.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unknown_words: usize,
    /// The backbone.
    pub model: String,
    /// Tokens used.
    pub usage: Usage,
}

/// One candidate's score.
#[derive(Debug, Serialize, ToSchema)]
pub struct Score {
    /// Position among the candidates.
    pub index: usize,
    /// Cosine similarity, −1 to 1.
    pub score: f32,
    /// Tokens that were cut off the candidate; absent when nothing was.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub truncated_tokens: usize,
    /// Words of the candidate that the model's table does not have; absent when there were none.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unknown_words: usize,
}

impl Task for Similarity {
    const NAME: &'static str = "similarity";
    const SUMMARY: &'static str = "Compare one item with many";
    const DESCRIPTION: &'static str =
        "The cosine of the input's embedding to each candidate's, in the order of the candidates.";
    const EXAMPLE: &'static str = r#"{"model": "all-minilm-l6-v2", "input": "A cat sits on a mat.", "candidates": ["A kitten rests on a rug.", "Stocks fell on Monday."]}"#;
    type Params = SimilarityParams;
    type Answer = SimilarityAnswer;

    fn input(params: &mut SimilarityParams) -> &mut Option<Payload> {
        &mut params.input
    }

    async fn run(
        cx: &TaskContext,
        params: SimilarityParams,
        caller: Caller,
    ) -> Result<Done<SimilarityAnswer>, TaskError> {
        let model = required(params.model, "model")?;
        let input = required(params.input, "input")?;
        let candidates = required(params.candidates, "candidates")?;
        let served = cx.catalog.get(&model).await?;
        if input.len() > 1 {
            return Err(TaskError::invalid("input", format!("has {} items; it takes one", input.len())));
        }
        let count = input.len() + candidates.len();
        cx.check_items(count)?;
        let one = served.data(input, "input", params.modality)?;
        let many = served.data(candidates, "candidates", params.modality)?;
        let reading = |field| Reading {
            field,
            want: Want { features: true, logits: false },
            truncate: params.truncate.unwrap_or_default(),
            prompt: None,
        };
        let one_admitted = items::admit(cx, &served, &one, "input")?;
        let many_admitted = items::admit(cx, &served, &many, "candidates")?;
        cx.take_items(count, caller)?;
        let (one, many) = ((one, one_admitted), (many, many_admitted));
        let (one, many) = tokio::try_join!(
            items::compute(cx, &served, one, reading("input"), &cx.features, caller),
            items::compute(cx, &served, many, reading("candidates"), &cx.features, caller),
        )?;
        let timings = one.timings.beside(many.timings);
        let usage = Usage::of(one.tokens() + many.tokens());
        let target = one.items.first().ok_or(TaskError::Bug("no row for an item"))?;
        let data = many.items.iter().enumerate().map(|(index, item)| Score {
            index,
            score: cosine(&target.features, &item.features),
            truncated_tokens: item.truncated_tokens,
            unknown_words: item.unknown_words,
        });
        let answer = SimilarityAnswer {
            object: "list",
            data: data.collect(),
            truncated_tokens: target.truncated_tokens,
            unknown_words: target.unknown_words,
            model,
            usage,
        };
        Ok(Done { answer, timings })
    }
}

/// Cosine of two vectors of any length but zero.
pub(crate) fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    (dot(left, right) / (dot(left, left) * dot(right, right)).sqrt().max(f64::MIN_POSITIVE)) as f32
}
